"""What goes wrong with a model call, in kinds that say what to do about it.

later      rate_limited · overloaded · timeout · network · server_error · incomplete
elsewhere  model_unavailable, and overloaded or server_error where there is a fallback
never      bad_request · authentication · quota · too_long · refused · truncated
"""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from core.errors import RotaError
from core.text import storable

Kind = Literal[
    "rate_limited", "overloaded", "timeout", "network", "server_error", "incomplete",
    "model_unavailable", "bad_request", "authentication", "quota", "too_long", "refused", "truncated",
]  # fmt: skip

_BY_STATUS: dict[int, Kind] = {
    400: "bad_request", 401: "authentication", 402: "quota", 403: "authentication", 404: "model_unavailable",
    408: "timeout", 409: "server_error", 413: "too_long", 422: "bad_request", 429: "rate_limited", 504: "timeout",
    529: "overloaded", 503: "overloaded",
}  # fmt: skip

# What a body says goes before its status: both providers send errors of every kind under several statuses, and,
# in the middle of a stream, under 200.
_BY_WORD: tuple[tuple[str, Kind], ...] = (
    ("insufficient_quota", "quota"),
    ("billing_error", "quota"),
    ("credit balance is too low", "quota"),
    ("context_length_exceeded", "too_long"),
    ("maximum context length", "too_long"),
    ("prompt is too long", "too_long"),
    ("request_too_large", "too_long"),
    ("request too large", "too_long"),
    ("content_filter", "refused"),
    ("content_policy_violation", "refused"),
    ("model_not_found", "model_unavailable"),
    ("overloaded_error", "overloaded"),
    ("rate_limit_error", "rate_limited"),
    ("rate_limit_exceeded", "rate_limited"),
)
# Only where the status says nothing: in the middle of a stream.
_BY_WORD_IN_A_STREAM: tuple[tuple[str, Kind], ...] = (
    ("timeout_error", "timeout"),
    ("authentication_error", "authentication"),
    ("permission_error", "authentication"),
    ("not_found_error", "model_unavailable"),
    ("invalid_request_error", "bad_request"),
)
_SAID = 500
# What reading an answer raises that is not of the promised form: the SDKs hand it on as it came.
UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError, RecursionError)
_OK, _SERVER_ERRORS = 200, 500
# Nobody is asked to wait for longer; larger numbers would not even fit into a duration.
_LONGEST_WAIT = timedelta(days=1)
_MOST = 1e9


class ModelError(RotaError):
    """The model could not answer."""

    def __init__(self, kind: Kind, message: str, *, retry_after: timedelta | None = None) -> None:
        self.kind: Kind = kind
        self.retry_after = retry_after
        self.at: tuple[str, str] | None = None
        """the provider and the model that were asked, as soon as that is known"""
        super().__init__(storable(message))


def from_answer(provider: str, status: int, headers: Mapping[str, str], body: Any, message: str) -> ModelError:
    """The error for an answer with `status`, or for an error event in a stream that began with 200."""
    kind = kind_of(status, body, message)
    retry_after = parse_retry_after(headers, datetime.now(UTC)) if status != _OK else None
    return ModelError(kind, f"{provider} answered {status}: {message[:_SAID]}", retry_after=retry_after)


def kind_of(status: int, body: Any, message: str) -> Kind:
    """The kind of error that a status, a body and a message amount to."""
    said = f"{body} {message}".lower()
    for word, kind in (*_BY_WORD, *(_BY_WORD_IN_A_STREAM if status == _OK else ())):
        if word in said:
            return kind
    is_theirs = status >= _SERVER_ERRORS or status == _OK
    return _BY_STATUS.get(status, "server_error" if is_theirs else "bad_request")


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long the provider asks to wait: the longest of `retry-after-ms` and `retry-after` (seconds or a date)."""
    waits = [_milliseconds(headers.get("retry-after-ms")), _seconds_or_date(headers.get("retry-after"), now)]
    known = [wait for wait in waits if wait is not None]
    return min(max(known), _LONGEST_WAIT) if known else None


def _milliseconds(text: str | None) -> timedelta | None:
    seconds = _number(text)
    return None if seconds is None else timedelta(milliseconds=seconds)


def _seconds_or_date(text: str | None, now: datetime) -> timedelta | None:
    seconds = _number(text)
    if seconds is not None:
        return timedelta(seconds=seconds)
    try:
        moment = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return max(timedelta(0), (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return min(value, _MOST) if value >= 0 else None  # neither nan nor a negative makes sense
