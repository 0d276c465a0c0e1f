"""Answers that are odd, half or empty, in the forms in which real servers send them: read, counted, never guessed."""

import json
from typing import Any

import pytest

from agents.llm.answers import problem_of
from agents.llm.base import AssistantMessage, Reply, ToolMessage, UserMessage
from agents.llm.errors import ModelError
from core.model_providers import ProviderName
from tests.contract.conftest import MakeLine
from tests.support.dialects import called, chunks, completion, dialect_of, message, used
from tests.support.models import Canned, Parrot

Birdcage = tuple[Parrot, str]
OPENAI, ANTHROPIC = "openai", "anthropic"


def ask(cage: Birdcage, line_to: MakeLine, provider: ProviderName, *answers: Canned, manner: str = "complete") -> Reply:
    bird, url = cage
    bird.answers = list(answers)
    return line_to(provider, manner, url).ask()


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        (OPENAI, completion({"tool_calls": [called('{"n": 1}')]}, "tool_calls")),
        (OPENAI, completion({"tool_calls": [called({"n": 1})]}, "tool_calls")),
        (OPENAI, completion({"tool_calls": [called('{"n": 1}', id=None)]}, "stop")),
        (OPENAI, completion({"tool_calls": [{"function": {"name": "pay", "arguments": '{"n": 1}'}}]}, "tool_calls")),
        (OPENAI, completion({"function_call": {"name": "pay", "arguments": '{"n": 1}'}}, "function_call")),
        (ANTHROPIC, message([used({"n": 1})], "tool_use")),
        (ANTHROPIC, message([used('{"n": 1}')], "tool_use")),
        (ANTHROPIC, message([used({"n": 1})], "end_turn")),
        (ANTHROPIC, message([used({"n": 1}, id=None)], "tool_use")),
    ],
)
def test_calls_are_read_in_every_form(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName, body: dict[str, Any]
) -> None:
    reply = ask(parrot, line_to, provider, Canned(body=body))
    (call,) = reply.message.tool_calls
    assert (call.name, call.arguments, call.problem) == ("pay", {"n": 1}, None)
    assert problem_of(reply, 100) is None


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        (OPENAI, completion({"tool_calls": [called("{")]}, "tool_calls")),
        (OPENAI, completion({"tool_calls": [called("{}", name=None)]}, "tool_calls")),
        (OPENAI, completion({"tool_calls": [called("{}", name="")]}, "tool_calls")),
        (OPENAI, completion({"tool_calls": [called([1])]}, "tool_calls")),
        (ANTHROPIC, message([used("{")], "tool_use")),
        (ANTHROPIC, message([used([1])], "tool_use")),
        (ANTHROPIC, message([used({}, name=None)], "tool_use")),
    ],
)
def test_a_call_that_cannot_be_read_is_told_to_the_model(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName, body: dict[str, Any]
) -> None:
    reply = ask(parrot, line_to, provider, Canned(body=body))
    (call,) = reply.message.tool_calls
    assert call.problem


@pytest.mark.parametrize(
    ("provider", "body", "kind"),
    [
        (OPENAI, completion({"content": ""}), "empty"),
        (OPENAI, completion({"content": None}), "empty"),
        (OPENAI, completion({}), "empty"),
        (OPENAI, completion({}, choices=[{"message": None, "finish_reason": "stop"}]), "empty"),
        (OPENAI, completion({"content": ""}, "length"), "truncated"),
        (OPENAI, completion({"tool_calls": [called('{"n": ')]}, "length"), "truncated"),
        (OPENAI, completion({"content": None, "tool_calls": []}, "tool_calls"), "unfinished"),
        (OPENAI, completion({"content": "Let me look."}, "tool_calls"), "unfinished"),
        (OPENAI, completion({"tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}, "tool_calls"), "unfinished"),
        (OPENAI, completion({"content": "x"}, "function_call"), "unfinished"),
        (OPENAI, completion({"content": "Half an"}, "insufficient_system_resource"), "unfinished"),
        (OPENAI, completion({"content": "No."}, "content_filter"), "refused"),
        (ANTHROPIC, message([]), "empty"),
        (ANTHROPIC, message([]) | {"content": None}, "empty"),
        (ANTHROPIC, message([{"type": "text", "text": ""}]), "empty"),
        (ANTHROPIC, message([], "max_tokens"), "truncated"),
        (ANTHROPIC, message([used({})], "max_tokens"), "truncated"),
        (ANTHROPIC, message([], "model_context_window_exceeded"), "too_long"),
        (ANTHROPIC, message([], "tool_use"), "unfinished"),
        (ANTHROPIC, message([{"type": "text", "text": "Half an"}], "overheated"), "unfinished"),
        (ANTHROPIC, message([], "refusal"), "refused"),
    ],
)
def test_what_is_no_answer_is_not_taken_for_one(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName, body: dict[str, Any], kind: str
) -> None:
    reply = ask(parrot, line_to, provider, Canned(body=body))
    problem = problem_of(reply, 100)
    assert problem is not None
    assert problem.kind == kind
    assert (reply.tokens.input, reply.tokens.output) == (100, 20)  # it is billed all the same


def test_a_text_that_stands_by_itself_is_read(parrot: Birdcage, line_to: MakeLine) -> None:
    body = message([]) | {"content": "Hello"}
    assert ask(parrot, line_to, "anthropic", Canned(body=body)).message.text == "Hello"


def test_text_in_parts_is_read(parrot: Birdcage, line_to: MakeLine) -> None:
    body = completion({"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]})
    assert ask(parrot, line_to, "openai", Canned(body=body)).message.text == "Hello"


@pytest.mark.parametrize(
    "deltas",
    [
        [{"tool_calls": [{"id": "a", "function": {"name": "pay", "arguments": '{"n":'}}]},
         {"tool_calls": [{"function": {"arguments": " 1}"}}]},
         {"tool_calls": [{"id": "b", "function": {"name": "look", "arguments": "{}"}}]}],
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": '{"n": 1}'}}]},
         {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "look", "arguments": "{}"}}]}],
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": '{"n"'}},
                         {"index": 1, "id": "b", "function": {"name": "look", "arguments": "{}"}}]},
         {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": ": 1}"}}]}],
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": '{"n"'}},
                         {"index": 1, "id": "b", "function": {"name": "look", "arguments": "{}"}}]},
         {"tool_calls": [{"index": 0, "id": "x7", "function": {"name": None, "arguments": ": 1}"}}]}],
        [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": {"n": 1}}},
                         {"index": 1, "id": "b", "function": {"name": "look", "arguments": {}}}]}],
    ],
    ids=["no index", "one index", "the name repeated", "an id for each part", "arguments as objects"],
)  # fmt: skip
def test_streamed_calls_are_told_apart(parrot: Birdcage, line_to: MakeLine, deltas: list[dict[str, Any]]) -> None:
    reply = ask(parrot, line_to, "openai", Canned(events=chunks(deltas, "tool_calls")), manner="stream")
    assert [(call.name, call.text) for call in reply.message.tool_calls] == [("pay", '{"n": 1}'), ("look", "{}")]


def test_a_streamed_function_call_of_the_first_wire_is_read(parrot: Birdcage, line_to: MakeLine) -> None:
    deltas = [{"function_call": {"name": "pay", "arguments": '{"n"'}}, {"function_call": {"arguments": ": 1}"}}]
    reply = ask(parrot, line_to, "openai", Canned(events=chunks(deltas, "function_call")), manner="stream")
    assert [(call.name, call.arguments) for call in reply.message.tool_calls] == [("pay", {"n": 1})]


@pytest.mark.parametrize(
    "odd",
    [
        {"usage": "none"}, {"choices": {}}, {"choices": [None]}, {"choices": [{"delta": "none"}]},
        {"choices": [{"delta": {"tool_calls": {"index": 0}, "refusal": None}}]},
        {"choices": [{"delta": {"tool_calls": 1, "function_call": None}}]},
    ],
    ids=["usage in words", "choices as an object", "no choice", "a delta in words", "calls as an object", "a number"],
)  # fmt: skip
def test_a_streamed_part_of_another_form_is_passed_over(
    parrot: Birdcage, line_to: MakeLine, odd: dict[str, Any]
) -> None:
    events = [odd, *chunks([{"content": "Hello"}])]
    assert ask(parrot, line_to, "openai", Canned(events=events), manner="stream").message.text == "Hello"


# ── what goes back ───────────────────────────────────────────────────────────────────────────────────────────────────

ODD = '{"zz": 1.0, "a": 1e16, "a": {"y": [2.50], "b": "caf\\u00e9"}}'


@pytest.mark.parametrize("manner", ["complete", "stream"])
def test_arguments_go_back_as_they_came(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName, manner: str
) -> None:
    bird, url = parrot
    dialect = dialect_of(provider)
    whole, streamed = dialect.asking(("c", "pay", ODD)), dialect.asking_in_pieces(ODD[:9], ODD[9:])
    bird.answers = [streamed if manner == "stream" else whole, Canned(body=dialect.saying("ok"))]
    said = line_to(provider, manner, url).ask().message
    # As the journal gives it back after a retry: jsonb has sorted the keys and respelled the numbers.
    stored = said.model_dump()
    stored["tool_calls"][0]["arguments"] = {"a": {"b": "café", "y": [2.5]}, "zz": 1}
    again = AssistantMessage.model_validate(stored)
    result = ToolMessage(call_id=again.tool_calls[0].id, content="{}")
    line_to(provider, "complete", url).ask(messages=[UserMessage(text="Pay."), again, result])
    sent = bird.bodies[-1].decode()
    assert dialect.sent_back(ODD) in sent


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("usage", "tokens", "is_estimated"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 20}, (100, 20), False),
        ({"prompt_tokens": 100, "completion_tokens": None, "total_tokens": 120}, (100, 20), False),
        ({"prompt_tokens": 100, "completion_tokens": None}, (100, 2), True),
        ({"completion_tokens": 20}, (None, 20), True),
        ({"prompt_tokens": -1, "completion_tokens": 20}, (None, 20), True),
        ({"prompt_tokens": 10**12, "completion_tokens": "many"}, (None, 2), True),
        ({"prompt_tokens": "100", "completion_tokens": 20.0}, (100, 20), False),
        ({}, (None, 2), True),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (None, 2), True),
        (None, (None, 2), True),
        ([], (None, 2), True),
        ({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": None}, (100, 20), False),
    ],
)
def test_usage_in_every_form_of_openai(
    parrot: Birdcage, line_to: MakeLine, usage: Any, tokens: tuple[int | None, int], is_estimated: bool
) -> None:
    found = ask(parrot, line_to, "openai", Canned(body=completion({"content": "12345678"}, usage=usage))).tokens
    # The tools of the standard request alone are some 2,000 characters.
    assert found.input == tokens[0] if tokens[0] is not None else found.input > 500
    assert (found.output, found.is_estimated) == (tokens[1], is_estimated)


@pytest.mark.parametrize(
    ("usage", "tokens", "is_estimated"),
    [
        ({"input_tokens": 100, "output_tokens": 20}, (100, 0, 20), False),
        ({"input_tokens": 100, "output_tokens": None}, (100, 0, 2), True),
        ({"output_tokens": 20}, (None, 0, 20), True),
        ({}, (None, 0, 2), True),
        (None, (None, 0, 2), True),
        ({"input_tokens": 100, "output_tokens": 20, "cache_creation_input_tokens": 7}, (107, 7, 20), False),
        (
            {"input_tokens": 100, "output_tokens": 20, "cache_creation": {"ephemeral_1h_input_tokens": 7}},
            (107, 7, 20),
            False,
        ),
        ({"input_tokens": 100, "output_tokens": 20, "cache_creation": None}, (100, 0, 20), False),
    ],
)
def test_usage_in_every_form_of_anthropic(
    parrot: Birdcage, line_to: MakeLine, usage: Any, tokens: tuple[int | None, int, int], is_estimated: bool
) -> None:
    body = message([{"type": "text", "text": "12345678"}], usage=usage)
    found = ask(parrot, line_to, "anthropic", Canned(body=body)).tokens
    assert found.input == tokens[0] if tokens[0] is not None else found.input > 500
    assert (found.cache_write, found.output, found.is_estimated) == (*tokens[1:], is_estimated)


@pytest.mark.parametrize("manner", ["complete", "stream"])
def test_tokens_written_to_openais_cache_are_counted(parrot: Birdcage, line_to: MakeLine, manner: str) -> None:
    details = {"cached_tokens": 30, "cache_write_tokens": 50}
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "prompt_tokens_details": details}
    answer = (
        Canned(body=completion({"content": "hi"}, usage=usage))
        if manner == "complete"
        else Canned(events=chunks([{"content": "hi"}], usage=usage))
    )
    tokens = ask(parrot, line_to, "openai", answer, manner=manner).tokens
    assert (tokens.input, tokens.cached, tokens.cache_write, tokens.output) == (100, 30, 50, 5)


@pytest.mark.parametrize("ends", ["just so", "with an error"])
def test_a_stream_that_breaks_off_tells_what_it_used(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName, ends: str
) -> None:
    dialect = dialect_of(provider)
    events = dialect.broken_off("Let me think ", "about it")
    if ends == "with an error":
        events.append(dialect.error("overloaded_error", "Overloaded"))
    with pytest.raises(ModelError) as caught:
        ask(parrot, line_to, provider, Canned(events=events), manner="stream")
    assert caught.value.kind == ("overloaded" if ends == "with an error" else "incomplete")
    tokens = caught.value.tokens
    assert tokens is not None
    assert tokens.input == 100 if dialect.counts_input_first else tokens.input > 500
    assert (tokens.output, tokens.is_estimated) == (6, True)


def test_an_answer_that_cannot_be_read_is_counted_where_it_says_so(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName
) -> None:
    with pytest.raises(ModelError) as caught:
        ask(parrot, line_to, provider, Canned(body=dialect_of(provider).unreadable()))
    assert caught.value.tokens is not None
    assert (caught.value.tokens.input, caught.value.tokens.output) == (100, 20)
    assert "should be a valid" in caught.value.message
    assert "pydantic" not in caught.value.message


def test_a_refused_request_costs_nothing(parrot: Birdcage, line_to: MakeLine, provider: ProviderName) -> None:
    with pytest.raises(ModelError) as caught:
        ask(parrot, line_to, provider, Canned(500, {"error": {"message": "oops"}}))
    assert caught.value.tokens is None


# ── errors inside a 200 ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 402, "message": "Insufficient credits"}, "quota"),
        ({"code": "429", "message": "Slow down"}, "rate_limited"),
        ({"code": 502, "message": "Provider returned error"}, "server_error"),
        ({"code": 503, "message": "No instances"}, "overloaded"),
        ({"code": 401, "message": "No auth"}, "authentication"),
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"message": "Something broke"}, "server_error"),
        ("Something broke", "server_error"),
    ],
)
def test_an_error_inside_a_200(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName, error: Any, kind: str
) -> None:
    with pytest.raises(ModelError) as caught:
        ask(parrot, line_to, provider, Canned(body={"error": error}))
    assert caught.value.kind == kind
    said = error["message"] if isinstance(error, dict) else error
    assert said in caught.value.message


def test_an_error_nested_without_end_is_an_error_of_the_model(
    parrot: Birdcage, line_to: MakeLine, provider: ProviderName
) -> None:
    nested = json.loads("[" * 600 + "]" * 600)
    for answer in (Canned(400, {"error": nested}), Canned(body={"error": nested})):
        with pytest.raises(ModelError):
            ask(parrot, line_to, provider, answer)


def test_an_error_inside_a_choice(parrot: Birdcage, line_to: MakeLine) -> None:
    body = completion({"content": "Half"}, "error")
    body["choices"][0]["error"] = {"code": 502, "message": "Upstream broke"}
    with pytest.raises(ModelError, match="Upstream broke") as caught:
        ask(parrot, line_to, "openai", Canned(body=body))
    assert caught.value.kind == "server_error"
    assert caught.value.tokens is not None


def test_an_error_event_that_names_a_status(parrot: Birdcage, line_to: MakeLine) -> None:
    events = [{"error": {"code": 402, "message": "Insufficient credits"}}]
    with pytest.raises(ModelError, match="Insufficient credits") as caught:
        ask(parrot, line_to, "openai", Canned(events=events), manner="stream")
    assert caught.value.kind == "quota"


# ── the name of the limit ────────────────────────────────────────────────────────────────────────────────────────────

_USE_OTHER = {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                                   "'max_completion_tokens' instead.", "type": "invalid_request_error"}}  # fmt: skip
_USE_OLD = {"error": {"message": "Unknown argument max_completion_tokens; use max_tokens", "code": 400}}


@pytest.mark.parametrize("manner", ["complete", "stream"])
@pytest.mark.parametrize(
    ("model", "refusal", "names"),
    [
        ("house-model", _USE_OTHER, ["max_tokens", "max_completion_tokens", "max_completion_tokens"]),
        ("gpt-5-mini", _USE_OLD, ["max_completion_tokens", "max_tokens", "max_tokens"]),
    ],
)
def test_a_refusal_that_names_the_other_limit_is_heeded_and_remembered(
    parrot: Birdcage, line_to: MakeLine, manner: str, model: str, refusal: Any, names: list[str]
) -> None:
    bird, url = parrot
    fine = (
        Canned(body=completion({"content": "ok"}))
        if manner == "complete"
        else Canned(events=chunks([{"content": "ok"}]))
    )
    bird.answers = [Canned(400, refusal), fine, fine]
    line = line_to("openai", manner, url)
    assert [line.ask(model=model).message.text for _ in range(2)] == ["ok", "ok"]
    assert [next(name for name in body if name.startswith("max_")) for body in bird.asked] == names
    assert all(sum(name.startswith("max_") for name in body) == 1 for body in bird.asked)


def test_it_is_heeded_once(parrot: Birdcage, line_to: MakeLine) -> None:
    bird, _ = parrot
    with pytest.raises(ModelError, match="not supported"):
        ask(parrot, line_to, "openai", Canned(400, _USE_OTHER), Canned(400, _USE_OTHER))
    assert len(bird.asked) == 2


def test_another_refusal_is_not_asked_again(parrot: Birdcage, line_to: MakeLine) -> None:
    bird, _ = parrot
    with pytest.raises(ModelError, match="too large"):
        ask(parrot, line_to, "openai", Canned(400, {"error": {"message": "max_tokens is too large: 2048."}}))
    assert len(bird.asked) == 1
