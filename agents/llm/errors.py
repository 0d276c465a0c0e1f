"""Errors of model calls, in kinds that say how the call is retried.

later      rate_limited · overloaded · timeout · network · server_error · incomplete
elsewhere  model_unavailable, and every sign of an outage (`OUTAGE`) if there is a fallback; quota and authentication
           if the agent's retry policy says so
at once    too_long (a shorter prompt) · truncated (a higher limit) · empty · unfinished (unchanged)
never      bad_request · authentication · quota · refused
"""

import contextlib
import email.utils
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx2
from pydantic import ValidationError

from core.errors import RotaError
from core.text import MAX_DEPTH, storable
from domain.billing.schemas import Tokens

Kind = Literal[
    "rate_limited", "overloaded", "timeout", "network", "server_error", "incomplete",
    "model_unavailable", "bad_request", "authentication", "quota", "too_long", "refused", "truncated",
    "empty", "unfinished",
]  # fmt: skip

_BY_STATUS: dict[int, Kind] = {
    400: "bad_request", 401: "authentication", 402: "quota", 403: "authentication", 404: "model_unavailable",
    408: "timeout", 409: "server_error", 413: "too_long", 422: "bad_request", 429: "rate_limited", 504: "timeout",
    529: "overloaded", 503: "overloaded",
}  # fmt: skip

# The words of a body take precedence over its status: both providers send errors of every kind under several statuses
# and, in the middle of a stream, under 200.
_BY_WORD: tuple[tuple[str, Kind], ...] = (
    ("insufficient_quota", "quota"),
    ("billing_error", "quota"),
    ("credit balance is too low", "quota"),
    ("context_length_exceeded", "too_long"),
    ("maximum context length", "too_long"),
    ("prompt is too long", "too_long"),
    ("input is too long", "too_long"),
    ("exceed context limit", "too_long"),
    ("exceeds the context window", "too_long"),
    ("exceeds the available context size", "too_long"),
    ("exceed_context_size_error", "too_long"),
    ("reduce the length of the", "too_long"),
    ("request_too_large", "too_long"),
    ("request too large", "too_long"),
    ("content_filter", "refused"),
    ("content_policy_violation", "refused"),
    ("model_not_found", "model_unavailable"),
    ("overloaded_error", "overloaded"),
    ("rate_limit_error", "rate_limited"),
    ("rate_limit_exceeded", "rate_limited"),
)
# Used only in the middle of a stream, where the status says nothing.
_BY_WORD_IN_A_STREAM: tuple[tuple[str, Kind], ...] = (
    ("timeout_error", "timeout"),
    ("authentication_error", "authentication"),
    ("permission_error", "authentication"),
    ("not_found_error", "model_unavailable"),
    ("invalid_request_error", "bad_request"),
)
OUTAGE: frozenset[Kind] = frozenset({"overloaded", "server_error", "timeout", "network", "incomplete"})
"""the signs of a provider that is down, overloaded or unreachable"""
_SAID = 500
_PAGE = re.compile(r"<(!doctype|html|body)\b", re.IGNORECASE)
_MARKUP = re.compile(r"<(style|script|head)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
# Exceptions raised by parsing a malformed response: the SDKs pass it on unchecked.
_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError, RecursionError)
_OK, _CLIENT_ERRORS, _SERVER_ERRORS, _LAST_STATUS = 200, 400, 500, 599
# The longest wait that is honoured. Larger numbers might not even fit into a timedelta.
_LONGEST_WAIT = timedelta(days=1)
_MOST = 1e9


class ModelError(RotaError):
    """The model could not answer."""

    def __init__(
        self, kind: Kind, message: str, *, retry_after: timedelta | None = None, tokens: Tokens | None = None
    ) -> None:
        self.kind: Kind = kind
        self.retry_after = retry_after
        self.tokens = tokens
        """what the provider bills although the call failed, if it had begun to reply"""
        super().__init__(storable(message))


@dataclass(frozen=True)
class Remedies:
    """What a person can do about errors at one endpoint that no retry fixes."""

    key: str
    """where the endpoint's key is set"""

    def of(self, kind: Kind) -> str:
        """Return the remedy for an error of this kind; empty if there is none."""
        match kind:
            case "authentication":
                return f" Check the key ({self.key}): it is wrong, revoked, or may not use this model."
            case "quota":
                return " Add credit or raise the limit at the provider, then retry the task: rota retry ID."
            case "model_unavailable":
                return " Check the model's name, and that this key may use it."
        return ""


def from_answer(
    provider: str, status: int, headers: Mapping[str, str], body: Any, message: str, remedies: Remedies | None = None
) -> ModelError:
    """Return the error for a response with `status`. With status 200, `body` holds an error that came in the response's
    body or as an event of a stream.
    """
    body = _flat(body)
    status = _status_within(body) if status == _OK else status
    said = words_of(body) or _shortened(message)
    kind = kind_of(status, body, said)
    retry_after = parse_retry_after(headers, datetime.now(UTC)) if status != _OK else None
    remedy = remedies.of(kind) if remedies else ""
    what = f"{provider} answered {status}: {said}" if status != _OK else f"{provider} broke off its answer: {said}"
    return ModelError(kind, f"{what}{'' if what.endswith(('.', '!', '?')) else '.'}{remedy}", retry_after=retry_after)


def _flat(body: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a body without what is nested deeper than `depth`: to read it would exhaust the stack."""
    if isinstance(body, dict):
        return {name: _flat(part, depth - 1) for name, part in body.items()} if depth else {}
    if isinstance(body, list):
        return [_flat(part, depth - 1) for part in body] if depth else []
    return body


def words_of(body: Any) -> str:
    """Return the message in an error's body, without the JSON or HTML around it; empty if there is none."""
    if isinstance(body, str):
        return _shortened(" ".join((_MARKUP.sub(" ", body) if _PAGE.search(body) else body).split()))
    if isinstance(body, list):
        return next((words for part in body if (words := words_of(part))), "")
    if not isinstance(body, dict):
        return ""
    # A gateway puts the message of the provider behind it beside its own.
    behind = words_of((body.get("metadata") or {}).get("raw")) if isinstance(body.get("metadata"), dict) else ""
    parts = (body.get(name) for name in ("error", "message", "detail", "msg", "type"))
    words = next((words for part in parts if (words := words_of(part))), "")
    return f"{words}: {behind}" if behind and behind not in words else words


def _shortened(words: str) -> str:
    return words if len(words) <= _SAID else f"{words[:_SAID]} …"


def _status_within(body: Any) -> int:
    """Return the status that an error in a response with status 200 names, as gateways do; 200 if it names none."""
    error = body.get("error", body) if isinstance(body, dict) else None
    for name in ("code", "status", "status_code"):
        code = error.get(name) if isinstance(error, dict) else None
        if isinstance(code, str) and code.isdecimal():
            code = int(code)
        if isinstance(code, int) and _CLIENT_ERRORS <= code <= _LAST_STATUS:
            return code
    return _OK


@contextlib.contextmanager
def mapped_errors(
    sdk: Any,
    any_error: type[Exception],
    provider: str,
    remedies: Remedies,
    spent: Callable[[], Tokens | None] = lambda: None,
) -> Iterator[None]:
    """Turn what `sdk` (`any_error` and its subclasses), its transport and the parsing of a response raise into a
    ModelError. `spent` returns the tokens used for a partial reply.
    """
    try:
        yield
    except ModelError as error:
        error.tokens = error.tokens or spent()
        raise
    except Exception as error:
        found = _mapped(sdk, provider, remedies, error)
        if found is None and isinstance(error, (any_error, *_UNREADABLE)):
            found = ModelError("incomplete", f"{provider}'s answer could not be read: {_reason(error)}")
        if found is None:
            raise
        found.tokens = spent()
        raise found from error


def _reason(error: Exception) -> str:
    """Return why a response could not be parsed, without quoting its content."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
    return _shortened(str(error))


def _mapped(sdk: Any, provider: str, remedies: Remedies, error: Exception) -> ModelError | None:
    if isinstance(error, sdk.APITimeoutError | httpx2.TimeoutException):
        return ModelError("timeout", f"{provider} did not answer, or not to the end, in time.")
    if isinstance(error, sdk.APIStatusError):
        answer = error.response
        return from_answer(provider, error.status_code, answer.headers, error.body, error.message, remedies)
    if isinstance(error, sdk.APIConnectionError):
        return ModelError("network", f"{provider} could not be reached: {error.__cause__ or error}")
    if isinstance(error, sdk.APIError):  # an error event in the middle of a stream
        return from_answer(provider, _OK, {}, error.body, error.message, remedies)
    if isinstance(error, httpx2.TransportError):
        return ModelError("incomplete", f"{provider}'s answer was cut: {error}")
    return None


def kind_of(status: int, body: Any, message: str) -> Kind:
    """Return the kind of error that a status, a body and a message indicate."""
    said = f"{body} {message}".lower()
    for word, kind in (*_BY_WORD, *(_BY_WORD_IN_A_STREAM if status == _OK else ())):
        if word in said:
            return kind
    is_theirs = status >= _SERVER_ERRORS or status == _OK
    return _BY_STATUS.get(status, "server_error" if is_theirs else "bad_request")


def parse_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Return how long the provider asks to wait: the longer of `retry-after-ms` and `retry-after` (seconds, a date)."""
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
    return min(value, _MOST) if value >= 0 else None  # rejects nan and negative numbers
