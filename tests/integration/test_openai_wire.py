"""Agents as models: the official client, unmodified, against our own address."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx2
import openai
import pytest

from api.app import make_app
from core import db
from core.settings import Settings
from domain.tasks import service as tasks
from domain.tasks.schemas import Turn
from tests.support.factories import change_agent, dispatch, look, submission
from tests.support.house import House, keeping_house
from tests.support.servers import serving, wait_until


@pytest.fixture(scope="module")
def served(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def house(org: UUID, served: str, config: Settings) -> Iterator[House]:
    with keeping_house(org, served, config) as made:
        yield made


def said(text: str, role: str = "user") -> Any:
    return {"role": role, "content": text}


def test_agents_are_models(house: House) -> None:
    names = [model.id for model in house.client.models.list()]
    assert "support-assistant" in names
    assert house.client.models.retrieve("support-assistant").owned_by == "rota"
    change_agent(house.org, "follow-up", enabled=False)
    assert "follow-up" not in [model.id for model in house.client.models.list()]


def test_an_agent_answers_as_a_model_does(house: House) -> None:
    house.talker.answers = [["Yes, ", "at nine."]]
    answer = house.ask(messages=[said("Be brief.", "system"), said("Hi"), said("Hello!", "assistant"), said("Yoga?")])
    assert answer.choices[0].message.content == "Yes, at nine."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    task = look(house.org, UUID(answer.id.removeprefix("chatcmpl-")))
    assert (task.status, task.priority, task.billed_cost > 0) == ("succeeded", "high", True)
    asked = house.talker.asked[0]["messages"]
    assert [one["role"] for one in asked] == ["system", "user", "assistant", "user"]
    assert "Be brief." in asked[-1]["content"]


def test_an_answer_is_streamed_as_a_model_streams_it(house: House) -> None:
    house.talker.answers = [["Yes, ", "at ", "nine."]]
    with house.working():
        chunks = list(
            house.client.chat.completions.create(
                model="support-assistant", messages=[said("Yoga?")], stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Yes, at nine."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.total_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_request_that_is_sent_again_with_its_key_is_one_task(house: House) -> None:
    house.talker.answers = [["Once."]]
    body: Any = {"messages": [said("Yoga?")], "extra_headers": {"Idempotency-Key": "k"}}
    first = house.ask(**body)
    again = house.client.chat.completions.create(model="support-assistant", **body)
    assert again.id == first.id
    assert len(house.talker.asked) == 1


def test_a_dropped_connection_does_not_cancel_the_task(house: House) -> None:
    house.talker.answers = [["Late."]]
    quick = house.client.with_options(timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        quick.chat.completions.create(model="support-assistant", messages=[said("Yoga?")])
    (due,) = [one for one in dispatch() if one.org_id == house.org]
    house.desk.executor.execute(due.org_id, due.id, due.claim)
    assert look(house.org, due.id).status == "succeeded"


@pytest.mark.parametrize(
    ("body", "kind", "said_there"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "The model 'nobody' does not exist"),
        ({"messages": []}, openai.UnprocessableEntityError, "messages"),
        ({"messages": [said("x", "assistant")]}, openai.UnprocessableEntityError, "one of the user"),
        ({"messages": [said("  ")]}, openai.UnprocessableEntityError, "blank"),
        ({"messages": [said("a\x00")]}, openai.UnprocessableEntityError, "NUL"),
        ({"n": 2}, openai.UnprocessableEntityError, "one answer"),
        ({"tools": [{"type": "function", "function": {"name": "x y"}}]}, openai.UnprocessableEntityError, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "send_email"}}]}, openai.UnprocessableEntityError,
         "tool of Rota's own"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, openai.UnprocessableEntityError, "custom"),
        ({"tool_choice": "required"}, openai.UnprocessableEntityError, "tool_choice"),
        ({"messages": [said("Hi"), {"role": "tool", "content": "dry", "tool_call_id": "call_1"}]},
         openai.UnprocessableEntityError, "'call_1' is no call"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "x", "arguments": "{}"}}]}, said("And now?")]},
         openai.UnprocessableEntityError, "the result of the call c1 is missing"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
         openai.UnprocessableEntityError, "image_url"),
    ],
)  # fmt: skip
def test_what_an_agent_cannot_do_is_an_error_of_the_wire(
    house: House, body: dict[str, Any], kind: type[openai.APIStatusError], said_there: str
) -> None:
    with pytest.raises(kind) as refused:
        house.client.chat.completions.create(**{"model": "support-assistant", "messages": [said("hi")]} | body)
    assert said_there in refused.value.message
    assert refused.value.type in {"invalid_request_error", "not_found_error"}


def test_a_wrong_key_and_a_wrong_address_answer_as_that_api_does(house: House) -> None:
    stranger = house.client.with_options(api_key="nonsense")
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.type == "authentication_error"
    answer = httpx2.get(f"{house.url}/openai/v1/nothing", headers={"authorization": f"Bearer {house.key}"})
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"


def test_a_task_that_was_cancelled_is_an_error(house: House) -> None:
    def ask() -> None:
        patient = house.client.with_options(max_retries=2)
        patient.chat.completions.create(model="support-assistant", messages=[said("Yoga?")])

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        (due,) = wait_until(lambda: [one for one in dispatch() if one.org_id == house.org], what="a task is due")
        with db.transaction(house.org) as connection:
            tasks.cancel(connection, due.id)
        with pytest.raises(openai.ConflictError, match="The task was cancelled"):
            asked.result(timeout=30)
    assert [one for one in dispatch() if one.org_id == house.org] == []  # it was not asked again


def test_an_answer_that_is_sent_back_counts_as_strangers_words(house: House) -> None:
    house.talker.answers = [["First."], ["Second."]]
    first = house.ask(messages=[said("Hi")])
    second = house.ask(messages=[said("Hi"), said("First.", "assistant"), said("And now?")])
    marks = [
        look(house.org, UUID(one.id.removeprefix("chatcmpl-"))).result["has_read_untrusted"] for one in (first, second)
    ]
    assert marks == [False, True]


def test_history_of_a_tasks_own_input_is_read() -> None:
    wanted = submission("and now?", input={"message": "and now?", "history": [{"role": "user", "text": "before"}]})
    assert wanted.input.history == [Turn(role="user", text="before")]


WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.mark.parametrize("stream", [False, True])
def test_tools_of_the_caller_are_called_and_their_results_taken_up(house: House, stream: bool) -> None:
    house.talker.answers = [["Let me look.", ("get_weather", '{"city": "Lisbon"}')], ["Dry."], ["As I said."]]
    messages: list[Any] = [said("Umbrella?")]

    def ask() -> Any:
        if not stream:
            return house.ask(messages=messages, tools=[WEATHER])
        with (
            house.working(),
            house.client.chat.completions.stream(
                model="support-assistant", messages=messages, tools=[WEATHER]
            ) as events,
        ):
            return events.get_final_completion()

    first = ask()
    assert first.choices[0].finish_reason == "tool_calls"
    (call,) = first.choices[0].message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Lisbon"}')
    assert first.choices[0].message.content == "Let me look."
    messages += [
        first.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "dry"},
    ]
    second = ask()
    assert (second.choices[0].message.content, second.choices[0].finish_reason) == ("Dry.", "stop")
    assert first.id == second.id
    assert look(house.org, UUID(second.id.removeprefix("chatcmpl-"))).status == "succeeded"

    again = house.client.chat.completions.create(model="support-assistant", messages=messages, tools=[WEATHER])
    assert (again.id, again.choices[0].message.content) == (second.id, "Dry.")  # a client that asks again

    messages += [said("Dry.", "assistant"), said("Sure?")]
    third = ask()
    assert (third.id != first.id, third.choices[0].message.content) == (True, "As I said.")
    roles = [message["role"] for message in house.talker.asked[2]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
