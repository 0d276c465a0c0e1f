"""One suite over all providers and both manners of asking, through the real SDKs and real HTTP."""

import base64
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from agents.interrupt import Interrupt
from agents.llm.base import AssistantMessage, MediaPart, TextDelta, ToolCall, ToolMessage, UserMessage
from agents.llm.errors import ModelError
from core.ids import new_id
from core.model_providers import ProviderName
from tests.contract.conftest import Line, MakeLine
from tests.support.dialects import dialect_of
from tests.support.files import PDF, PNG
from tests.support.models import Canned, Parrot

ASKED = UserMessage(text="Can you book Ana Torres into Thursday's spin class?")


def test_a_request_for_tools_arrives_whole(line: Line) -> None:
    reply = line.ask()
    assert reply.stop_reason == "tool_use"
    assert [call.name for call in reply.message.tool_calls] == ["search_clients", "view_class_schedule"]
    assert reply.message.tool_calls[0].arguments["query"] == "Ana Torres"
    assert len({call.id for call in reply.message.tool_calls}) == 2
    assert reply.tokens.input > 500
    assert reply.tokens.output > 20


def test_results_of_parallel_calls_go_back_and_an_answer_comes(line: Line) -> None:
    calls = [ToolCall(id="c1", name="search_clients", arguments={"query": "Nobody"}), ToolCall(id="c2", name="x")]
    reply = line.ask(
        messages=[
            ASKED,
            AssistantMessage(text="Let me look.", tool_calls=calls),
            ToolMessage(call_id="c1", content='{"clients":[],"count":0}'),
            ToolMessage(call_id="c2", content='{"error":"no such tool"}', is_error=True),
        ]
    )
    assert reply.stop_reason in {"end", "tool_use"}
    assert reply.message.text.startswith("[Rehearsal]") or reply.message.tool_calls


def test_without_tools_there_is_an_answer_in_the_language_asked(line: Line) -> None:
    english = line.ask(tools=[], messages=[UserMessage(text="Who are you?")])
    spanish = line.ask(tools=[], messages=[UserMessage(text="¿Quién eres?")])
    assert (english.stop_reason, spanish.stop_reason) == ("end", "end")
    assert english.message.text.startswith("[Rehearsal]")
    assert spanish.message.text.startswith("[Ensayo]")


_MEDIA = [
    MediaPart(
        id=new_id(), name="p.png", media_type="image/png", medium="image", pages=1, sha256="d", size=4, content=PNG
    ),
    MediaPart(
        id=new_id(), name="t.pdf", media_type="application/pdf", medium="pdf", pages=1, sha256="d", size=4, content=PDF
    ),
]
_IMAGE, _PDF = (base64.b64encode(content).decode() for content in (PNG, PDF))
_SENT: dict[ProviderName, list[Any]] = {
    "anthropic": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _IMAGE}},
        {"type": "document", "title": "t.pdf",
         "source": {"type": "base64", "media_type": "application/pdf", "data": _PDF}},
        {"type": "text", "text": "Who are you?"},
    ],
    "openai": [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_IMAGE}"}},
        {"type": "file", "file": {"filename": "t.pdf", "file_data": f"data:application/pdf;base64,{_PDF}"}},
        {"type": "text", "text": "Who are you?"},
    ],
}  # fmt: skip


def test_images_and_pdf_are_sent_in_the_providers_own_form(
    parrot: tuple[Parrot, str], line_to: MakeLine, provider: ProviderName
) -> None:
    bird, url = parrot
    bird.answers = [Canned(body=dialect_of(provider).cached())]
    line_to(provider, "complete", url).ask(tools=[], messages=[UserMessage(text="Who are you?", media=_MEDIA)])
    assert [one for one in bird.asked[0]["messages"] if one["role"] == "user"][-1]["content"] == _SENT[provider]


def test_a_message_with_images_and_pdf_is_answered(line: Line) -> None:
    reply = line.ask(tools=[], messages=[UserMessage(text="Who are you?", media=_MEDIA)])
    assert reply.message.text.startswith("[Rehearsal]")


def test_what_is_streamed_is_what_is_said(provider: ProviderName, rehearsal: str, line: Line) -> None:
    if line.manner != "stream":
        pytest.skip("about streams")
    request = line.request(tools=[], messages=[UserMessage(text="Who are you?")])
    *words, reply = line.models.stream(provider, request)
    assert len(words) > 5
    assert (
        "".join(word.text for word in words if isinstance(word, TextDelta))
        == line.models.complete(provider, request).message.text
    )
    assert reply == line.models.complete(provider, request)


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("status=429 retry-after=3", {"rate_limited"}),
        ("status=500", {"server_error"}),
        ("status=502", {"server_error"}),
        ("status=529", {"overloaded"}),
        ("status=400", {"bad_request"}),
        ("status=401", {"authentication"}),
        ("status=404", {"model_unavailable"}),
        ("cut", {"incomplete", "network"}),
    ],
)
def test_trouble_is_an_error_of_the_right_kind(line: Line, fault: str, kinds: set[str]) -> None:
    with pytest.raises(ModelError) as caught:
        line.ask(fault=fault)
    assert caught.value.kind in kinds
    assert caught.value.retry_after == (timedelta(seconds=3) if "429" in fault else None)


def test_a_hang_ends_at_the_time_out(line: Line) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        line.ask(fault="hang", timeout=timedelta(seconds=0.3))
    assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 3


def test_an_interrupt_ends_a_wait_for_the_provider(line: Line) -> None:
    interrupt = Interrupt()
    timer = threading.Timer(0.2, interrupt.trigger, ("cancelled",))
    timer.start()
    started = time.monotonic()
    with pytest.raises(ModelError), interrupt.attached():
        line.ask(fault="hang", timeout=timedelta(seconds=30))
    assert time.monotonic() - started < 2
    assert line.ask(tools=[]).stop_reason == "end"  # the client is as good as before


def test_draining_does_not_end_a_call_under_way(line: Line) -> None:
    interrupt = Interrupt()
    timer = threading.Timer(0.1, interrupt.trigger, ("draining",))
    timer.start()
    with interrupt.attached():
        assert line.ask(fault="slow=0.4").stop_reason == "tool_use"


def test_nobody_listening_is_a_network_error(line: Line, line_to: MakeLine) -> None:
    broken = line_to(line.provider, line.manner, "http://127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        broken.ask()
    assert caught.value.kind == "network"


def test_a_call_cut_at_the_limit_is_not_handed_on(line: Line) -> None:
    reply = line.ask(fault="truncate")
    assert (reply.stop_reason, reply.truncated_call, reply.message.tool_calls) == ("max_tokens", True, [])
    assert reply.tokens.output > 0


def test_a_refusal_is_told_and_counted(line: Line) -> None:
    reply = line.ask(fault="refuse")
    assert reply.stop_reason == "refusal"
    assert reply.tokens.input > 0


# ── answers seen in the wild, word for word ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("manner", ["complete", "stream"])
@pytest.mark.parametrize(
    ("status", "headers", "kind", "message", "expected"),
    [
        (429, {"retry-after": "1", "retry-after-ms": "0"}, "rate_limit", "slow down", "rate_limited"),
        (429, {}, "insufficient_quota", "You exceeded your current quota", "quota"),
        (429, {}, "tokens", "Request too large for gpt-4o", "too_long"),
        (400, {}, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "too_long"),
        (413, {}, "request_too_large", "Request exceeds the maximum size", "too_long"),
        (529, {}, "overloaded_error", "Overloaded", "overloaded"),
    ],
)
def test_errors_in_the_wild(
    parrot: tuple[Parrot, str], line_to: MakeLine, provider: ProviderName, manner: str, status: int,
    headers: dict[str, str], kind: str, message: str, expected: str,
) -> None:  # fmt: skip
    bird, url = parrot
    bird.answers = [Canned(status, dialect_of(provider).error(kind, message), headers)]
    with pytest.raises(ModelError) as caught:
        line_to(provider, manner, url).ask()
    assert caught.value.kind == expected
    assert caught.value.retry_after == (timedelta(seconds=1) if headers else None)
    assert len(bird.asked) == 1  # the SDKs' own retries are off


def test_an_error_in_the_middle_of_a_stream(
    parrot: tuple[Parrot, str], line_to: MakeLine, provider: ProviderName
) -> None:
    bird, url = parrot
    bird.answers = [Canned(events=[dialect_of(provider).error("overloaded_error", "Overloaded")])]
    with pytest.raises(ModelError) as caught:
        line_to(provider, "stream", url).ask()
    assert caught.value.kind == "overloaded"


def test_a_stream_that_just_ends_is_no_answer(
    parrot: tuple[Parrot, str], line_to: MakeLine, provider: ProviderName
) -> None:
    bird, url = parrot
    bird.answers = [Canned(events=dialect_of(provider).broken_off_in_a_call())]
    with pytest.raises(ModelError) as caught:
        line_to(provider, "stream", url).ask()
    assert caught.value.kind == "incomplete"


@pytest.mark.parametrize("manner", ["complete", "stream"])
@pytest.mark.parametrize("body", ["", "not json", "[]", "{}", '{"choices": []}', '{"content": null}'])
def test_rubbish_is_an_incomplete_answer(
    parrot: tuple[Parrot, str], line_to: MakeLine, provider: ProviderName, manner: str, body: str
) -> None:
    bird, url = parrot
    bird.answers = [Canned(body=body)]
    with pytest.raises(ModelError) as caught:
        line_to(provider, manner, url).ask()
    assert caught.value.kind == "incomplete"


def test_arguments_that_are_no_json_are_a_problem_of_that_call_alone(
    parrot: tuple[Parrot, str], line_to: MakeLine
) -> None:
    bird, url = parrot
    calls = [
        {"id": str(n), "type": "function", "function": {"name": "t", "arguments": arguments}}
        for n, arguments in enumerate(('{"a": 1}', '{"a": ', "[1]", ""))
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    bird.answers = [
        Canned(
            body={
                "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            }
        )
    ]  # fmt: skip
    reply = line_to("openai", "complete", url).ask()
    assert reply.stop_reason == "tool_use"  # though the server said "stop"
    assert [bool(call.problem) for call in reply.message.tool_calls] == [False, True, True, False]
    assert reply.tokens.input > 0  # estimated: this server reports no usage


def test_cached_tokens_are_counted_into_the_input(
    parrot: tuple[Parrot, str], line_to: MakeLine, provider: ProviderName
) -> None:
    bird, url = parrot
    bird.answers = [Canned(body=dialect_of(provider).cached(), headers={"retry-after": "5"})]
    tokens = line_to(provider, "complete", url).ask().tokens
    assert (tokens.input, tokens.cached, tokens.output) == (100, 70, 3)
    assert tokens.cache_write == dialect_of(provider).cache_write
