"""Rate limits that providers report in the headers of their responses.

OpenAI and compatible servers: `x-ratelimit-limit-requests`, `-remaining-requests`, `-reset-requests` ("1m2.5s"), and
these three for tokens. Anthropic: `anthropic-ratelimit-requests-limit`, `-remaining`, `-reset` (a date). Others:
`x-ratelimit-limit`, `-remaining`, `-reset` (seconds, or a time since the epoch).
"""

import re
import threading
from collections.abc import Mapping
from datetime import datetime

import httpx2

from domain.pacing.schemas import Limits, Seen

_FORMS = {
    "requests": (
        "x-ratelimit-{part}-requests",
        "anthropic-ratelimit-requests-{part}",
        "x-ratelimit-{part}",
    ),
    "tokens": ("x-ratelimit-{part}-tokens", "anthropic-ratelimit-tokens-{part}"),
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 7 * 86400.0
_MOST = 1e15
_EPOCH_SECONDS, _EPOCH_MILLISECONDS = 1e9, 1e12

_last = threading.local()


def forget_answer() -> None:
    """Forget the headers of this thread's last response. Called before each call."""
    _last.headers = None


def note_answer(response: httpx2.Response) -> None:
    """Keep the headers of a response for the calling thread."""
    _last.headers = response.headers


def limits_of_answer(now: datetime) -> Limits | None:
    """Return the limits that the response to this thread's last call reported; None if it reported none."""
    headers: httpx2.Headers | None = getattr(_last, "headers", None)
    if headers is None or not any(b"ratelimit" in name.lower() for name, _ in headers.raw):
        return None
    return read_limits(headers, now)


def read_limits(headers: Mapping[str, str], now: datetime) -> Limits | None:
    """Return the limits that headers report; None if they report none that can be read."""
    found = Limits(*(_first(headers, _FORMS[what], now) for what in ("requests", "tokens")))
    return found if found.requests or found.tokens else None


def _first(headers: Mapping[str, str], forms: tuple[str, ...], now: datetime) -> Seen | None:
    for form in forms:
        limit, remaining = (_number(headers.get(form.format(part=part))) for part in ("limit", "remaining"))
        reset = _reset(headers.get(form.format(part="reset")), now)
        if limit and remaining is not None and reset is not None:
            return Seen(limit, min(remaining, limit), reset)
    return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= _MOST else None  # rejects nan too


def _reset(text: str | None, now: datetime) -> float | None:
    """Return the seconds until all of a limit is available again."""
    if not text:
        return None
    seconds = _number(text)
    if seconds is None:
        seconds = _span(text) if _SPAN.match(text) and "T" not in text else _until(text, now)
    elif seconds > _EPOCH_MILLISECONDS:
        seconds = seconds / 1000 - now.timestamp()
    elif seconds > _EPOCH_SECONDS:
        seconds -= now.timestamp()
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST)


def _span(text: str) -> float | None:
    parts = _SPAN.findall(text)
    is_whole = "".join(number + unit for number, unit in parts) == text
    return sum(float(number) * _SECONDS[unit] for number, unit in parts) if is_whole else None


def _until(text: str, now: datetime) -> float | None:
    try:
        return (datetime.fromisoformat(text) - now).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
