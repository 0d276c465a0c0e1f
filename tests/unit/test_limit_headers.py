"""The limits that providers tell in their headers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.llm.limits import forget_answer, limits_of_answer, note_answer, read_limits
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


def test_requests_and_tokens_are_told_apart_and_the_more_precise_form_goes_first() -> None:
    plain = {"x-ratelimit-limit": "7", "x-ratelimit-remaining": "7", "x-ratelimit-reset": "7"}
    both = openai("requests", "60", "1", "1s") | openai("tokens", "900", "2", "2s")
    assert read_limits(plain | both, NOW) == Limits(Seen(60, 1, 1), Seen(900, 2, 2))
    assert read_limits(plain | openai("requests", "60", "1", "soon"), NOW) == Limits(Seen(7, 7, 7), None)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("0", 0),
        ("1000000000", 604_800),  # no time since the epoch: a span, of a week at most
        ("1795867230", 30),  # seconds since the epoch
        ("1795867190", 0),
        ("1795867230500", 30.5),  # milliseconds
        ("30d", 604_800),
        ("1.5ms", 0.0015),
        ("2026-11-28T13:00:01+01:00", 1),
        ("2026-11-28 12:00:01+00:00", 1),
    ],
)
def test_a_reset_is_read_as_a_span_or_as_a_moment(reset: str, seconds: float) -> None:
    found = read_limits(openai("requests", "60", "0", reset), NOW)
    assert found is not None
    assert found.requests is not None
    assert found.requests.reset == pytest.approx(seconds)


_text = st.one_of(st.text(max_size=12), st.floats().map(str), st.datetimes().map(str), st.from_regex(r"\d+(ms|s|m|h)"))


@given(_text, _text, _text)
def test_whatever_the_headers_say_what_is_read_can_be_reckoned_with(limit: str, remaining: str, reset: str) -> None:
    found = read_limits(openai("requests", limit, remaining, reset), NOW)
    if found is not None and found.requests is not None:
        seen = found.requests
        assert 0 <= seen.remaining <= seen.limit <= 1e15
        assert seen.limit > 0
        assert 0 <= seen.reset <= 604_800


def test_a_thread_knows_the_headers_of_its_own_last_answer_only() -> None:
    headers = openai("requests", "60", "12", "1s")
    note_answer(httpx2.Response(200, headers={name.upper(): value for name, value in headers.items()}))
    assert limits_of_answer(NOW) == Limits(Seen(60, 12, 1), None)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(limits_of_answer, NOW).result() is None
    note_answer(httpx2.Response(200, headers={"content-type": "text/plain"}))
    assert limits_of_answer(NOW) is None
    note_answer(httpx2.Response(200, headers=headers))
    forget_answer()
    assert limits_of_answer(NOW) is None
