"""The client library's decisions: what is sent, what is sent again, what a response means, how a stream is read."""

import inspect
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from standardwebhooks import Webhook

import rota_client
from domain.approvals.schemas import Approval, Rationale
from domain.attachments.schemas import Attachment
from domain.client_tools.schemas import ToolResult
from domain.conversations.schemas import ChatMessage, Conversation, NewChatMessage, NewConversation, Sent
from domain.dispatch.schemas import Why
from domain.events.schemas import EventPage
from domain.tasks.schemas import (
    ClientTool,
    Replay,
    Step,
    Task,
    TaskDetail,
    TaskFilter,
    TaskInput,
    TaskSubmission,
    Turn,
)
from rota_client import calls, errors, flows, models, retries, streams
from rota_client.text import Text
from rota_client.webhooks import verify_webhook
from tests.unit.client_values import APPROVAL, MESSAGE, TASK

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
REQUEST = httpx2.Request("GET", "http://rota.example.com/v1/tasks")


def response(status: int = 200, content: Any = None, **headers: str) -> httpx2.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, json=content, headers=given, request=REQUEST)


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────


def fields_of(call: Any) -> set[str]:
    return set(inspect.signature(call).parameters)


@pytest.mark.parametrize(
    ("call", "takes", "apart_from"),
    [
        (calls.submit, [TaskSubmission, TaskInput], {"input"}),
        (calls.replay, [Replay], {"input"}),
        (calls.begin, [NewConversation], set()),
        (calls.say, [NewChatMessage], set()),
        (calls.tasks, [TaskFilter], set()),
    ],
)
def test_every_field_that_the_api_takes_can_be_given(
    call: Any, takes: list[type[BaseModel]], apart_from: set[str]
) -> None:
    assert {name for model in takes for name in model.model_fields} - apart_from <= fields_of(call)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (models.Task, Task),
        (models.TaskDetail, TaskDetail),
        (models.Step, Step),
        (models.Why, Why),
        (models.Approval, Approval),
        (models.Rationale, Rationale),
        (models.Conversation, Conversation),
        (models.Message, ChatMessage),
        (models.Attachment, Attachment),
        (models.Sent, Sent),
        (models.EventPage, EventPage),
        (models.Turn, Turn),
        (models.ClientTool, ClientTool),
        (models.ToolResult, ToolResult),
    ],
)
def test_models_have_the_fields_that_the_api_has(ours: type[BaseModel], theirs: type[BaseModel]) -> None:
    assert ours.model_fields.keys() == theirs.model_fields.keys()


def test_only_what_was_given_is_sent() -> None:
    call = calls.submit("support-assistant", "Hi", context={"nothing": None}, deadline=NOW, idempotency_key="k")
    assert call.body == {
        "agent": "support-assistant",
        "input": {"message": "Hi", "context": {"nothing": None}},
        "deadline": "2026-11-20T10:00:00Z",
    }
    assert call.headers == {"idempotency-key": "k"}
    assert calls.tasks(status=["failed"], limit=5).params == {"status": ["failed"], "limit": 5}
    assert calls.change_conversation("c", is_archived=False).body == {"is_archived": False}


def test_each_submission_has_a_key_of_its_own() -> None:
    first, second = (calls.submit("a", "Hi") for _ in range(2))
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    assert first.is_repeatable


def test_a_vote_is_for_the_version_that_was_shown() -> None:
    shown = models.Approval.model_validate(APPROVAL)
    approve = calls.approve(shown, arguments={"to": "ana@example.com"})
    assert approve.body == {"digest": shown.digest, "arguments": {"to": "ana@example.com"}}
    assert calls.reject(shown.id, "no", digest="d").body == {"digest": "d", "reason": "no"}


def test_an_id_cannot_change_the_path() -> None:
    assert calls.task("../agents?x").path == "/v1/tasks/..%2Fagents%3Fx"


def test_a_task_is_meant_by_its_answer_too() -> None:
    answer = models.Message.model_validate(MESSAGE | {"role": "assistant", "task_id": TASK["id"]})
    sent = models.Sent(message=models.Message.model_validate(MESSAGE), answer=answer)
    for meant in (answer, sent, UUID(TASK["id"]), models.Task.model_validate(TASK)):
        assert calls.task(meant).path == f"/v1/tasks/{TASK['id']}"
    with pytest.raises(ValueError, match="Pass the answer to it"):
        calls.task(sent.message)


def test_fields_of_later_versions_are_kept_and_missing_ones_are_named() -> None:
    assert models.Task.model_validate(TASK | {"mood": "good"}).mood == "good"  # type: ignore[attr-defined]
    with pytest.raises(errors.UnexpectedResponse, match="status"):
        flows.read(calls.task("x"), response(content={"id": TASK["id"]}))


def test_both_clients_offer_the_same() -> None:
    ours, theirs = (
        {name for name in dir(kind) if not name.startswith("_")} for kind in (rota_client.Rota, rota_client.AsyncRota)
    )
    assert ours == theirs
    for name in ours:
        one, other = getattr(rota_client.Rota, name), getattr(rota_client.AsyncRota, name)
        assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters), name
        assert one.__doc__, name


def test_a_client_needs_an_address_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_API_KEY", "of another API")
    with pytest.raises(errors.NotConfigured):
        rota_client.Rota("http://rota.example.com")
    with pytest.raises(errors.NotConfigured):
        rota_client.Rota()
    monkeypatch.setenv("ROTA_API_URL", "http://rota.example.com/under")
    with rota_client.Rota() as rota:
        assert str(rota.http.build_request("GET", "/v1/tasks").url) == "http://rota.example.com/under/v1/tasks"


# ── what is sent again ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("reply", "is_repeatable", "pause"),
    [
        (response(429), False, 0.2),
        (response(429, retry_after="3"), False, 3.0),
        (response(429, retry_after="Fri, 20 Nov 2026 10:00:07 GMT"), False, 7.0),
        (response(429, retry_after="soon"), False, 0.2),
        (response(429, retry_after="3600"), True, None),
        (response(503), True, 0.2),
        (response(503), False, None),
        (response(503, x_should_retry="false"), True, None),
        (response(502), True, 0.2),
        (response(500), True, None),
        (response(409), True, None),
        (httpx2.ReadTimeout("slow", request=REQUEST), True, 0.2),
        (httpx2.ReadTimeout("slow", request=REQUEST), False, None),
        (httpx2.ConnectError("refused", request=REQUEST), False, 0.2),
    ],
)
def test_only_what_cannot_happen_twice_is_sent_again(reply: Any, is_repeatable: bool, pause: float | None) -> None:
    found = retries.pause_before_repeating(reply, is_repeatable=is_repeatable, repeats=0, now=NOW)
    assert found == pause


@given(st.integers(0, 10_000))
def test_pauses_grow_and_stay_short(repeats: int) -> None:
    assert retries.growing_pause(repeats) <= retries.growing_pause(repeats + 1) <= 15


def run(flow: flows.Flow[Any], *replies: Any) -> tuple[Any, list[Any]]:
    """Run a flow with these outcomes of its calls and tools; return its result and its steps."""
    steps, outcomes, outcome = list[Any](), list(replies), None
    while True:
        try:
            steps.append(flow.send(outcome))
        except StopIteration as end:
            return end.value, steps
        outcome = None if isinstance(steps[-1], flows.Pause) else outcomes.pop(0)


def test_a_call_is_sent_again_as_it_was_until_it_is_answered() -> None:
    call = calls.submit("a", "Hi")
    lost = httpx2.ReadTimeout("slow", request=REQUEST)
    found, steps = run(flows.exchange(call, 5), lost, response(503), response(202, TASK))
    assert found.id == UUID(TASK["id"])
    assert steps == [call, flows.Pause(0.2), call, flows.Pause(0.4), call]


def test_a_call_is_given_up_after_its_tries() -> None:
    with pytest.raises(errors.Unavailable):
        run(flows.exchange(calls.task("x"), 2), response(503), response(503))
    with pytest.raises(errors.NotReachable, match="ConnectError") as caught:
        run(flows.exchange(calls.task("x"), 1), httpx2.ConnectError("refused", request=REQUEST))
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


# ── waiting, and tools of the client ─────────────────────────────────────────────────────────────────────────────────

DETAIL = TASK | {"steps": [], "attempt_history": [], "open_calls": [], "feedback": []}
RUNNING = DETAIL | {"status": "running"}
ASKING = DETAIL | {
    "status": "waiting",
    "waiting_for": "client_tools",
    "open_calls": [
        {"call_id": "c1", "tool": "get_weather", "arguments": {"city": "Lisbon"}},
        {"call_id": "c2", "tool": "get_news", "arguments": {}},
    ],
}


def test_waiting_asks_again_until_the_task_ends() -> None:
    found, steps = run(flows.wait(1, TASK["id"]), response(content=RUNNING), response(content=DETAIL))
    assert found.answer == "At nine."
    assert [step.params["wait"] for step in steps] == [20, 20]
    assert steps[0].waits == 20


def test_waiting_ends_with_its_time_and_the_task_is_told() -> None:
    with pytest.raises(errors.NotEnded, match=r"waits for approval\. It goes on") as caught:
        run(flows.wait(1, TASK["id"], timeout=0), response(content=RUNNING | {"waiting_for": "approval"}))
    assert caught.value.task.status == "running"


def test_tools_of_the_client_are_called_and_their_results_given() -> None:
    def get_weather(city: str) -> Any: ...

    found, steps = run(
        flows.wait(1, TASK["id"], tools={"get_weather": get_weather}),
        response(content=ASKING),
        {"sky": "¡azul!"},
        response(202, TASK),
        response(content=DETAIL),
    )
    assert found.status == "succeeded"
    assert steps[1] == flows.Invocation(get_weather, {"city": "Lisbon"})
    assert steps[2].path.endswith("/tool-results")
    assert steps[2].is_repeatable
    first, second = steps[2].body["results"]
    assert (json.loads(first["content"]), first["is_error"]) == ({"sky": "¡azul!"}, False)
    assert (second["content"], second["is_error"]) == ("There is no tool get_news here.", True)


@pytest.mark.parametrize(
    ("outcome", "content", "is_error"),
    [("dry", "dry", False), (None, "null", False), (ValueError("no such city"), "no such city", True),
     (ZeroDivisionError(), "ZeroDivisionError", True), (NOW, '"2026-11-20T10:00:00Z"', False)],
)  # fmt: skip
def test_what_a_tool_returns_or_raises_is_told(outcome: Any, content: str, is_error: bool) -> None:
    assert flows.result_of("c", outcome) == models.ToolResult(call_id="c", content=content, is_error=is_error)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest), (401, errors.NotAuthenticated), (403, errors.NotPermitted),
        (404, errors.NotFound), (409, errors.Conflict), (413, errors.InvalidRequest), (415, errors.InvalidRequest),
        (418, errors.Refused), (422, errors.InvalidRequest), (428, errors.PreconditionRequired),
        (429, errors.TooManyRequests), (500, errors.ServerFault), (503, errors.Unavailable),
    ],
)  # fmt: skip
def test_each_status_is_an_error_of_its_own_that_says_what_to_do(status: int, kind: type[errors.Refused]) -> None:
    error = errors.refusal(response(status, {"detail": "Why.", "reference": "r"}, retry_after="2"))
    assert type(error) is kind
    assert str(error) == f"Why. {kind.advice}".strip()
    assert (error.status, error.detail, error.reference, error.retry_after) == (status, "Why.", "r", 2)


def test_an_error_names_the_fields_that_are_wrong() -> None:
    problem = {"detail": "x", "errors": [{"field": "input.message", "problem": "is blank"}]}
    assert errors.refusal(response(422, problem)).fields == {"input.message": "is blank"}


@pytest.mark.parametrize("content", ["<html>", "[]", "{}", '{"detail": null}'])
def test_an_error_without_a_problem_document_tells_its_status(content: str) -> None:
    error = errors.refusal(httpx2.Response(502, text=content, request=REQUEST))
    assert str(error) == "The API returned HTTP status 502. Try again later."
    assert error.fields == {}


def test_what_is_not_of_rota_is_said_to_be_none() -> None:
    with pytest.raises(errors.UnexpectedResponse, match=r"tasks is not JSON, so it is not Rota's API\."):
        flows.read(calls.task("x"), httpx2.Response(200, text="<html>", request=REQUEST))
    assert flows.read(calls.request("POST", "/v1/x"), httpx2.Response(204, request=REQUEST)) is None


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def heard(stream: streams.Following, content: bytes) -> list[models.Event]:
    """The events in a response that ends after these bytes."""
    opened = httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"}, request=REQUEST)
    assert stream.begin(opened)
    return [event for message in httpx2.EventSource(opened) for event in stream.take(message)]


def sse(number: int, kind: str, **data: Any) -> bytes:
    return f"id: 7-{number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def delta(number: int, text: str, offset: int, step: int = 1) -> bytes:
    return sse(number, "message.delta", task_id="t", step=step, offset=offset, text=text)


def test_a_stream_goes_on_after_the_last_event_that_came_whole() -> None:
    stream = streams.Following(streams.follow("t", types=["message.*"]))
    assert "last-event-id" not in stream.request()["headers"]
    assert stream.request()["params"] == {"type": ["message.*"]}
    whole = b":\n\n" + sse(1, "task.started", at="2026-11-20T10:00:00+00:00", task_id="t", status="running")
    (event,) = heard(stream, whole + sse(2, "task.step", step=0)[:-1])
    assert (event.id, event.type, event.at) == ("7-1", "task.started", NOW)
    assert event.data == {"task_id": "t", "status": "running"}
    assert stream.request()["headers"]["last-event-id"] == "7-1"
    assert stream.goes_on()


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_end_as_the_standard_has_it(end: str) -> None:
    (event,) = heard(streams.Following(streams.follow("t")), sse(1, "x", say="¡a\u2028b!").replace(b"\n", end.encode()))
    assert event.data == {"say": "¡a\u2028b!"}


def test_a_tasks_stream_ends_with_it_and_the_others_go_on() -> None:
    end = sse(1, "task.ended", task_id="t", status="succeeded")
    for source, goes_on in (
        (streams.follow("t"), False),
        (streams.follow_all(task="t"), False),
        (streams.follow_all(agent="a"), True),
        (streams.follow_conversation("c"), True),
    ):
        stream = streams.Following(source)
        heard(stream, end)
        assert stream.goes_on() is goes_on
        assert (stream.pause_after(response()) > 0) is goes_on


def test_no_content_is_the_end_of_a_stream_that_was_read() -> None:
    stream = streams.Following(streams.follow("t", after="7-1"))
    assert not stream.begin(response(204))
    assert not stream.goes_on()


def test_a_response_that_is_no_stream_is_said_to_be_none() -> None:
    with pytest.raises(errors.UnexpectedResponse, match="not a stream of events"):
        streams.Following(streams.follow("t")).begin(response(200, {}))


def test_a_connection_that_breaks_is_made_again_and_given_up_after_a_while() -> None:
    stream, broken = streams.Following(streams.follow("t")), httpx2.ReadError("reset", request=REQUEST)
    assert [stream.pause_after(broken) for _ in range(5)] == [0.2, 0.5, 1, 2, 5]
    heard(stream, sse(1, "task.started"))
    assert [stream.pause_after(broken) for _ in range(5)] == [0.2, 0.5, 1, 2, 5]
    with pytest.raises(errors.NotReachable, match="ReadError"):
        stream.pause_after(broken)


def test_a_server_that_restarts_is_waited_for_and_a_refusal_is_not() -> None:
    stream = streams.Following(streams.follow_all())
    assert [stream.pause_after(response()) for _ in range(8)][-1] == 5
    fresh = streams.Following(streams.follow_all())
    assert fresh.pause_after(response(503, retry_after="4")) == 4
    with pytest.raises(errors.NotAuthenticated):
        fresh.pause_after(response(401))


def test_words_are_folded_into_text() -> None:
    stream = streams.Following(streams.follow("t"))
    heard(stream, delta(1, "Let me ", 0) + delta(2, "luok", 7))
    assert stream.text() == "Let me luok"
    heard(stream, sse(3, "message.superseded", task_id="t", step=1) + delta(4, "Let me look.", 0))
    assert stream.text() == "Let me look."
    heard(stream, sse(5, "decision.made", task_id="t", step=1, text="Let me look.") + delta(6, "At nine.", 0, step=3))
    assert stream.text() == stream.text("t") == "Let me look.\n\nAt nine."
    assert stream.text("another") == ""


def test_a_decision_of_a_task_that_was_cleaned_up_changes_no_text() -> None:
    text = Text()
    assert text.hear(
        models.Event(id="1", type="message.delta", data={"task_id": "t", "step": 1, "offset": 0, "text": "Hi"})
    )
    for data in ({"task_id": "t"}, {"task_id": "t", "step": 1, "text": ""}, {"task_id": "t", "step": 1}):
        assert not text.hear(models.Event(id="2", type="decision.made", data=data))
    assert text.of() == "Hi"


@given(st.lists(st.text(max_size=5), max_size=8), st.lists(st.integers(0, 8), max_size=4))
def test_pieces_make_the_whole_text_wherever_the_stream_is_cut(pieces: list[str], cuts: list[int]) -> None:
    stream = streams.Following(streams.follow("t"))
    offsets = [len("".join(pieces[:number])) for number in range(len(pieces))]
    messages = [delta(number, *said) for number, said in enumerate(zip(pieces, offsets, strict=True))]
    bounds = [0, *sorted(min(cut, len(messages)) for cut in cuts), len(messages)]
    for start, end in itertools.pairwise(bounds):
        heard(stream, b"".join(messages[start:end]) + b"data: {")
    assert stream.text() == "".join(pieces)


# ── webhooks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SECRET, OTHER = "whsec_" + "c2VjcmV0" * 4, "whsec_" + "b3RoZXI=" * 1
BODY = '{"type": "task.ended", "id": "7-1", "data": {"say": "¡hola!"}}'


def signed(body: str = BODY, *, at: datetime = NOW, secret: str = SECRET) -> dict[str, str]:
    return {
        "Webhook-Id": "d1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": f"v1,bm90 {Webhook(secret).sign('d1', at, body)}",
    }


def test_a_signed_body_is_taken_and_told() -> None:
    for secrets in ((SECRET,), (OTHER, SECRET)):
        found = verify_webhook(BODY.encode(), signed(), *secrets, now=NOW)
        assert (found.delivery_id, found.type, found.id, found.data) == ("d1", "task.ended", "7-1", {"say": "¡hola!"})
    notice = '{"type": "budget.crossed", "data": {}}'
    assert verify_webhook(notice, signed(notice), SECRET, now=NOW).id is None


REFUSED = [
    (BODY + " ", signed(), "not signed", NOW),
    (BODY, signed(secret=OTHER), "not signed", NOW),
    (BODY, signed() | {"Webhook-Id": "d2"}, "not signed", NOW),
    (BODY, signed() | {"webhook-signature": "v2,ñ"}, "not signed", NOW),
    (BODY, {}, "webhook-id", NOW),
    (BODY, signed() | {"webhook-timestamp": "now"}, "not a time", NOW),
    (BODY, signed() | {"webhook-timestamp": "9" * 30}, "not a time", NOW),
    (BODY, signed(), "Check the clock", NOW + timedelta(minutes=6)),
    (BODY, signed(), "Check the clock", NOW - timedelta(minutes=6)),
]


@pytest.mark.parametrize(("body", "headers", "said", "now"), REFUSED)
def test_what_is_not_signed_or_too_old_is_refused(body: str, headers: dict[str, str], said: str, now: datetime) -> None:
    with pytest.raises(errors.InvalidSignature, match=said):
        verify_webhook(body, headers, SECRET, now=now)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_ñ", "whsec_abcde"])
def test_a_secret_that_is_none_is_an_error_of_the_program(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        verify_webhook(BODY, signed(), secret, now=NOW)
