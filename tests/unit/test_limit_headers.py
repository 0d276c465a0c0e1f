"""The limits that providers tell in their headers."""

from datetime import UTC, datetime
from typing import Any

import pytest

from agents.llm.limits import read_limits
from domain.pacing.schemas import Limits, Seen

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def openai(what: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{what}": limit,
        f"x-ratelimit-remaining-{what}": remaining,
        f"x-ratelimit-reset-{what}": reset,
    }


def anthropic(what: str, limit: str, remaining: str, reset: str) -> dict[str, str]:
    values = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"anthropic-ratelimit-{what}-{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("headers", "requests", "tokens"),
    [
        (openai("requests", "60", "12", "1s"), Seen(60, 12, 1), None),
        (openai("requests", "60", "12", "6m0s"), Seen(60, 12, 360), None),
        (openai("requests", "10000", "9999", "8.64s"), Seen(10_000, 9_999, 8.64), None),
        (openai("tokens", "150000", "149984", "6ms"), None, Seen(150_000, 149_984, 0.006)),
        (openai("requests", "60", "0", "1h2m3.5s"), Seen(60, 0, 3_723.5), None),
        (openai("requests", "60", "0", "17"), Seen(60, 0, 17), None),
        (anthropic("requests", "50", "49", "2026-11-28T12:00:02Z"), Seen(50, 49, 2), None),
        (anthropic("tokens", "50000", "0", "2026-11-28T11:00:00Z"), None, Seen(50_000, 0, 0)),
        ({"x-ratelimit-limit": "20", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1795867210000"},
         Seen(20, 1, 10), None),
        (openai("requests", "60", "99", "1s"), Seen(60, 60, 1), None),
    ],
)  # fmt: skip
def test_what_both_providers_and_their_imitators_tell_is_read(headers: Any, requests: Any, tokens: Any) -> None:
    assert read_limits(headers, NOW) == Limits(requests, tokens)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "5"},
        openai("requests", "sixty", "12", "1s"),
        openai("requests", "0", "0", "1s"),
        openai("requests", "nan", "12", "1s"),
        openai("requests", "60", "-1", "1s"),
        openai("requests", "60", "12", "soon"),
        openai("requests", "60", "12", "1s later"),
        openai("requests", "60", "12", "2026-11-28T12:00:02"),
        openai("requests", "60", "12", ""),
    ],
)
def test_what_cannot_be_read_tells_nothing(headers: dict[str, str]) -> None:
    assert read_limits(headers, NOW) is None
