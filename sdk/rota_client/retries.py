"""Whether a request is sent again, and when. Only decides.

A request is repeated only if it cannot be carried out twice: it never reached the API, or was refused before anything
was done (429), or repeating it changes nothing (`Call.is_repeatable`: reads, and what has an idempotency key).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2

LONGEST_PAUSE = 60.0
"""seconds; if the API asks for a longer pause, the caller is told instead"""
_FIRST_PAUSE, _DOUBLINGS = 0.2, 6
_BUSY = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

Reply = httpx2.Response | httpx2.RequestError
"""what came of a request: a response, or the reason why there is none"""


def pause_before_repeating(reply: Reply, *, is_repeatable: bool, repeats: int, now: datetime) -> float | None:
    """Return the seconds to wait before the request is sent again, or None if it must not be, or would not help.
    `repeats` is how often it was repeated before.
    """
    if isinstance(reply, httpx2.RequestError):
        may_repeat = is_repeatable or isinstance(reply, _NEVER_SENT)
        return growing_pause(repeats) if may_repeat else None
    is_refused = reply.status_code == HTTPStatus.TOO_MANY_REQUESTS
    if not is_refused and not (is_repeatable and reply.status_code in _BUSY):
        return None
    if reply.headers.get("x-should-retry") == "false":
        return None
    asked = retry_after(reply.headers, now)
    if asked is not None and asked > LONGEST_PAUSE:
        return None
    return max(asked or 0.0, growing_pause(repeats))


def growing_pause(repeats: int) -> float:
    """Return a pause in seconds that doubles with each repeat, up to 12.8 s."""
    return _FIRST_PAUSE * float(2 ** min(repeats, _DOUBLINGS))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or a date), or None."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max((until - (now or datetime.now(UTC))).total_seconds(), 0.0)
