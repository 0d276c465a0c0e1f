"""What the providers' answers mean, in the forms seen in the wild."""

from datetime import UTC, datetime, timedelta
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.llm.errors import (
    OUTAGE,
    ModelError,
    Remedies,
    from_answer,
    kind_of,
    mapped_errors,
    parse_retry_after,
    words_of,
)
from core.errors import Misconfigured
from domain.billing.schemas import Tokens

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "1", "retry-after-ms": "0"}, 1),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "13262"}, 13262),
        ({"retry-after": "Fri, 20 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e99"}, 86_400),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86_400),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert parse_retry_after(headers, NOW) == expected


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"error": {"code": "rate_limit_exceeded"}}, "rate_limited"),
        (429, None, "rate_limited"),
        (429, {"error": {"code": "insufficient_quota"}}, "quota"),
        (429, {"error": {"message": "Request too large for gpt-4o: Limit 30000, Requested 41241"}}, "too_long"),
        (400, {"error": {"code": "context_length_exceeded"}}, "too_long"),
        (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}, "too_long"),
        (400, {"error": {"message": "Your credit balance is too low to access the API"}}, "quota"),
        (400, {"error": {"type": "invalid_request_error"}}, "bad_request"),
        (400, {"error": {"code": "content_filter"}}, "refused"),
        (401, {"error": {"type": "authentication_error"}}, "authentication"),
        (403, {"error": {"type": "permission_error"}}, "authentication"),
        (404, {"error": {"code": "model_not_found"}}, "model_unavailable"),
        (408, None, "timeout"),
        (413, {"error": {"type": "request_too_large"}}, "too_long"),
        (500, {"error": {"type": "api_error"}}, "server_error"),
        (502, "<html>bad gateway</html>", "server_error"),
        (503, None, "overloaded"),
        (504, None, "timeout"),
        (529, {"error": {"type": "overloaded_error"}}, "overloaded"),
        (529, {"error": {"type": "api_error"}}, "overloaded"),
        (200, {"error": {"type": "overloaded_error"}}, "overloaded"),
        (200, {"error": {"type": "api_error"}}, "server_error"),
        (200, {"type": "invalid_request_error"}, "bad_request"),
        (418, None, "bad_request"),
        (400, {"error": {"message": "input length and `max_tokens` exceed context limit: 199 + 20 > 200"}}, "too_long"),
        (400, {"error": {"message": "the request exceeds the available context size"}}, "too_long"),
    ],
)
def test_kind_of_error(status: int, body: Any, kind: str) -> None:
    assert kind_of(status, body, "") == kind


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "error", "error": {"type": "api_error", "message": "tools.0: too long"}}, "tools.0: too long"),
        ({"message": "No.", "type": "x", "code": None}, "No."),
        ({"error": "No."}, "No."),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ({"object": "error", "message": "The model `m` does not exist."}, "The model `m` does not exist."),
        ({"error": {"type": "api_error"}}, "api_error"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "upstream is full"}}},
         "Provider returned error: upstream is full"),
        ("<html><head><title>x</title></head><body><h1>502 Bad Gateway</h1></body></html>", "502 Bad Gateway"),
        ("plain\n words", "plain words"),
        ({"error": {"message": "use <tool> tags"}}, "use <tool> tags"),
        ("long " * 200, ("long " * 200)[:500] + " …"),
        (None, ""),
        (7, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_an_error_reads_as_the_words_in_it(body: Any, words: str) -> None:
    assert words_of(body) == words
    said = from_answer("anthropic", 400, {}, body, f"Error code: 400 - {body}").message
    assert said.startswith(f"anthropic answered 400: {words or 'Error code: 400'}")


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (401, {"error": {"message": "invalid x-api-key"}}, "ANTHROPIC_API_KEY"),
        (403, {"error": {"message": "no access"}}, "ANTHROPIC_API_KEY"),
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}, "rota retry"),
        (400, {"error": {"message": "Your credit balance is too low"}}, "rota retry"),
        (404, {"error": {"message": "model: claude-9"}}, "model's name"),
        (200, {"error": {"code": 402, "message": "Insufficient credits"}}, "rota retry"),
    ],
)
def test_an_error_that_a_person_can_mend_says_how(status: int, body: Any, remedy: str) -> None:
    assert remedy in from_answer("anthropic", status, {}, body, "", Remedies(key="ANTHROPIC_API_KEY")).message


@pytest.mark.parametrize("kind", ["rate_limited", "overloaded", "bad_request", "too_long", "refused"])
def test_an_error_that_no_person_can_mend_names_no_remedy(kind: Any) -> None:
    assert Remedies(key="ANTHROPIC_API_KEY").of(kind) == ""


@pytest.mark.parametrize("depth", [33, 500])
def test_an_error_nested_without_end_is_an_error_like_another(depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = {"error": [nested]}
    error = from_answer("ours", 400, {}, nested, "Bad Request")
    assert (error.kind, error.message) == ("bad_request", "ours answered 400: Bad Request.")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": 429, "message": "no"}}, 429),
        ({"error": {"status": "503", "message": "no"}}, 503),
        ({"status_code": 404, "message": "no"}, 404),
        ({"error": {"code": "rate_limit_exceeded", "status": 429, "message": "no"}}, 429),
        # These are no statuses of an error.
        ({"error": {"code": 200, "message": "no"}}, None),
        ({"error": {"code": 399, "message": "no"}}, None),
        ({"error": {"code": 600, "message": "no"}}, None),
        ({"error": {"code": -429, "message": "no"}}, None),
        ({"error": {"code": "4 29", "message": "no"}}, None),
        ({"error": {"message": "no"}}, None),
        (["no"], None),
    ],
)
def test_an_error_inside_a_200_has_the_status_that_it_names(body: Any, status: int | None) -> None:
    said = from_answer("ours", 200, {"retry-after": "9"}, body, "no")
    assert said.message == (f"ours answered {status}: no." if status else "ours broke off its answer: no.")
    assert said.retry_after == (timedelta(seconds=9) if status else None)


def test_an_error_ends_with_one_full_stop() -> None:
    for words, said in (("No", "No."), ("No.", "No."), ("No!", "No!"), ("Why?", "Why?")):
        assert from_answer("ours", 400, {}, {"error": words}, "").message == f"ours answered 400: {said}"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "metadata", "raw", "code", "status", "detail"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(_json, st.sampled_from([200, 400, 429, 500]), st.text(max_size=9))
def test_any_body_at_all_is_read_as_an_error(body: Any, status: int, text: str) -> None:
    error = from_answer("ours", status, {"retry-after": text}, body, text)
    error.message.encode()
    assert len(error.message) < 1_200


@given(st.text(max_size=30) | st.floats().map(str) | st.datetimes().map(str))
def test_any_header_at_all_asks_for_a_wait_of_at_most_a_day_or_none(text: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        wait = parse_retry_after({name: text}, NOW)
        assert wait is None or timedelta(0) <= wait <= timedelta(days=1)


# ── what the SDKs raise ──────────────────────────────────────────────────────────────────────────────────────────────

REQUEST = httpx2.Request("POST", "http://ours.example.com")


def mapped(error: Exception, spent: Tokens | None = None) -> ModelError:
    """The error that the adapters raise when `error` is raised during a call."""
    with (
        pytest.raises(ModelError) as raised,
        mapped_errors(openai, openai.OpenAIError, "ours", Remedies(key="K"), lambda: spent),
    ):
        raise error
    return raised.value


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (openai.APITimeoutError(REQUEST), "timeout"),
        (httpx2.ReadTimeout("slow"), "timeout"),
        (httpx2.ConnectTimeout("slow"), "timeout"),
        (openai.APIConnectionError(request=REQUEST), "network"),
        (httpx2.RemoteProtocolError("cut"), "incomplete"),
        (httpx2.ReadError("reset"), "incomplete"),
        (openai.OpenAIError("odd"), "incomplete"),
        (ValueError("odd"), "incomplete"),
        (KeyError("choices"), "incomplete"),
        (RecursionError("deep"), "incomplete"),
    ],
)
def test_whatever_ends_a_call_is_an_error_of_the_model(error: Exception, kind: str) -> None:
    found = mapped(error)
    assert (found.kind, found.kind in OUTAGE, found.tokens) == (kind, True, None)
    assert found.message.startswith("ours")
    assert found.__cause__ is error


@pytest.mark.parametrize("sdk", [openai, anthropic])
def test_a_response_with_an_error_status_is_read_with_its_headers(sdk: Any) -> None:
    response = httpx2.Response(429, headers={"retry-after": "3"}, request=REQUEST)
    with (
        pytest.raises(ModelError, match="ours answered 429: slow down") as raised,
        mapped_errors(sdk, Exception, "ours", Remedies(key="K")),
    ):
        raise sdk.APIStatusError("x", response=response, body={"error": {"message": "slow down"}})
    assert (raised.value.kind, raised.value.retry_after) == ("rate_limited", timedelta(seconds=3))


def test_what_a_call_used_before_it_failed_goes_with_the_error() -> None:
    spent, known = Tokens(input=5, output=2), Tokens(input=7)
    assert mapped(httpx2.ReadError("reset"), spent).tokens == spent
    assert mapped(ModelError("incomplete", "cut"), spent).tokens == spent
    assert mapped(ModelError("incomplete", "cut", tokens=known), spent).tokens == known


@pytest.mark.parametrize("error", [Misconfigured("no key"), OSError("disk"), ZeroDivisionError()])
def test_an_error_of_our_own_is_not_blamed_on_the_model(error: Exception) -> None:
    with (
        pytest.raises(type(error)) as raised,
        mapped_errors(openai, openai.OpenAIError, "ours", Remedies(key="K")),
    ):
        raise error
    assert raised.value is error
