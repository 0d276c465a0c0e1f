"""What the providers' answers mean, in the forms seen in the wild."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.llm.errors import Remedies, from_answer, kind_of, parse_retry_after, words_of

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
