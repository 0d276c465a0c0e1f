"""Responses and Conversations: the official client, unmodified, against our own address."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import openai
import pytest
from sqlalchemy import text

from api.app import make_app
from core import db
from core.settings import Settings
from domain.conversations import service as conversations
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext
from tests.support.factories import change_agent, look, make_key, make_user
from tests.support.house import House, keeping_house
from tests.support.models import Canned
from tests.support.open_responses import check_rules, text_in
from tests.support.servers import SECRET_KEY, serving, wait_until

WEATHER: Any = {
    "type": "function", "name": "get_weather", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip
LISBON = ("get_weather", '{"city": "Lisbon"}')


@pytest.fixture(scope="module")
def served(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def house(org: UUID, served: str, config: Settings) -> Iterator[House]:
    with keeping_house(org, served, config) as made:
        yield made


def read_by_the_model(house: House, number: int = -1) -> list[str]:
    return [f"{said['role']}: {said['content']}" for said in house.talker.asked[number]["messages"][1:]]


def listen(house: House, asked: Any = "Yoga?", **body: Any) -> list[Any]:
    with house.working():
        return list(house.client.responses.create(model="support-assistant", input=asked, stream=True, **body))


def test_an_agent_responds(house: House) -> None:
    house.talker.answers = [["Yes, ", "at nine."]]
    made = house.respond("Yoga?", instructions="Be brief.", metadata={"ticket": "17"})
    assert (made.output_text, made.status, made.model) == ("Yes, at nine.", "completed", "support-assistant")
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    assert (made.metadata, made.instructions, made.conversation) == ({"ticket": "17"}, "Be brief.", None)
    assert "Be brief." in read_by_the_model(house)[-1]
    assert house.client.responses.retrieve(made.id) == made
    (asked,) = house.client.responses.input_items.list(made.id)
    assert (asked.role, asked.content[0].text) == ("user", "Yoga?")
    task = look(house.org, UUID(made.rota["task_id"]))
    assert (task.status, task.priority, task.billed_cost > 0) == ("succeeded", "high", True)
    assert house.get("/v1/conversations")["conversations"] == []


def test_a_response_builds_on_an_earlier_one_and_several_on_the_same(house: House) -> None:
    house.talker.answers = [["I am Rota."], ["Your name is Ana."], ["I do not know."]]
    first = house.respond("I am Ana. Who are you?")
    second = house.respond("Who am I?", previous_response_id=first.id)
    assert read_by_the_model(house) == ["user: I am Ana. Who are you?", "assistant: I am Rota.", "user: Who am I?"]
    other = house.respond("And my dog?", previous_response_id=first.id)
    assert read_by_the_model(house)[-1] == "user: And my dog?"
    assert len(read_by_the_model(house)) == 3
    assert (second.previous_response_id, other.previous_response_id) == (first.id, first.id)
    with pytest.raises(openai.NotFoundError):
        house.client.responses.create(model="support-assistant", input="x", previous_response_id="resp_1")


def test_a_conversation_is_kept_and_goes_on(house: House) -> None:
    house.talker.answers = [["Hello Ana."], ["Ana."]]
    begun = house.client.conversations.create(
        metadata={"visit": "17"}, items=[{"type": "message", "role": "user", "content": "I am Ana."}]
    )
    house.respond("Hi", conversation=begun.id)
    second = house.respond("Who am I?", conversation=begun.id)
    assert second.conversation is not None
    assert second.conversation.id == begun.id
    assert read_by_the_model(house)[0] == "user: I am Ana."
    items = house.client.conversations.items.list(begun.id, order="asc").data
    told = [f"{item.role}: {item.content[0].text}" for item in items]
    assert told == [
        "user: I am Ana.", "user: Hi", "assistant: Hello Ana.", "user: Who am I?", "assistant: Ana.",
    ]  # fmt: skip
    assert [one.id for one in house.client.conversations.items.list(begun.id, limit=2)] == [
        item.id for item in reversed(items)
    ]
    assert house.client.conversations.items.retrieve(items[1].id, conversation_id=begun.id) == items[1]
    assert house.client.conversations.update(begun.id, metadata={"visit": "18"}).metadata == {"visit": "18"}
    (listed,) = house.get("/v1/conversations")["conversations"]
    assert (listed["agent"], listed["messages"]) == ("support-assistant", 5)
    assert house.client.conversations.delete(begun.id).deleted
    with pytest.raises(openai.NotFoundError):
        house.client.conversations.retrieve(begun.id)
    with pytest.raises(openai.NotFoundError):
        house.client.responses.retrieve(second.id)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_a_conversation_go_past_the_answers_of_other_branches(house: House, order: str) -> None:
    house.talker.answers = [["Yes."]]
    begun = house.client.conversations.create()
    house.respond("Yoga?", conversation=begun.id)
    conversation = UUID(begun.id.removeprefix("conv_"))
    with db.transaction(house.org) as connection:
        (_, answer) = conversations.list_messages(connection, conversation).messages
        found = conversations.get(connection, conversation)
        for _ in range(3):
            context = SubmissionContext(user_id=found.user_id)
            again = conversations.regenerate(connection, house.org, conversation, answer.id, context)
            conversations.stop(connection, conversation)
    items = [item.id for item in house.client.conversations.items.list(begun.id, limit=1, order=order)]
    assert answer.parent_id is not None
    expected = [f"msg_{answer.parent_id.hex}", f"msg_{again.id.hex}"]
    assert items == (expected if order == "asc" else expected[::-1])


def test_every_event_of_a_response_is_there_in_order(house: House) -> None:
    house.talker.answers = [["Yes, ", "at nine ", "in the morning, ", "in studio 2."]]
    events = listen(house)
    check_rules(events)
    assert text_in(events) == "Yes, at nine in the morning, in studio 2." == events[-1].response.output_text
    assert [event.sequence_number for event in events] == [*range(len(events))]


def test_a_stream_cut_at_every_event_goes_on_with_the_next(house: House) -> None:
    house.talker.answers = [[f"word{number} " for number in range(200)]]
    events = listen(house)
    whole = "".join(f"word{number} " for number in range(200))
    assert text_in(events) == whole
    response = events[0].response.id
    for number, event in enumerate(events):
        rest = list(house.client.responses.retrieve(response, stream=True, starting_after=event.sequence_number))
        assert rest == events[number + 1 :], event


def test_a_stream_cut_while_it_is_being_said_is_the_same(house: House) -> None:
    house.talker._let_through = threading.Semaphore(0)
    house.talker.answers = [[f"word{number} " for number in range(60)]]
    begun = house.client.responses.create(model="support-assistant", input="Yoga?", background=True)
    assert begun.status == "queued"
    events: list[Any] = []
    with house.working():
        after = -1
        for _ in range(20):
            house.talker.let_through(3)
            stream = house.client.responses.retrieve(begun.id, stream=True, starting_after=after)
            with stream:
                event = next(iter(stream))
            events.append(event)
            after = event.sequence_number
        house.talker.let_through()
        events += house.client.responses.retrieve(begun.id, stream=True, starting_after=after)
    check_rules(events)
    assert text_in(events) == "".join(f"word{number} " for number in range(60))
    assert house.client.responses.retrieve(begun.id).status == "completed"


def test_what_a_failed_try_said_is_given_up_and_the_rest_is_whole(house: House) -> None:
    change_agent(house.org, "support-assistant", retry={"base": 0.001, "ceiling": 0.001})
    house.talker.answers = [
        ["This will never be finis", "hed, it brea", "ks off ", ""],
        ["This one is finished at last."],
    ]
    with house.working(2):
        events = list(house.client.responses.create(model="support-assistant", input="Yoga?", stream=True))
    check_rules(events)
    assert text_in(events) == events[-1].response.output_text == "This one is finished at last."
    given_up = next(event.item for event in events if event.type == "response.output_item.done")
    assert given_up.status == "incomplete"
    response = events[0].response.id
    again = list(house.client.responses.retrieve(response, stream=True, starting_after=-1))
    check_rules(again)
    inside = next(event for event in events if event.type == "response.output_text.delta")
    rest = list(house.client.responses.retrieve(response, stream=True, starting_after=inside.sequence_number))
    assert text_in(rest) == "This one is finished at last."
    numbers = [event.sequence_number for event in rest]
    assert numbers == [event.sequence_number for event in again][2:]
    assert rest[0].output_index == inside.output_index + 1


@pytest.mark.parametrize("way", ["previous", "conversation", "stateless"])
def test_tools_of_the_caller_are_called_and_their_results_taken_up(house: House, way: str) -> None:
    house.talker.answers = [["Let me look.", LISBON], ["Dry."]]
    more: dict[str, Any] = {"tools": [WEATHER]}
    if way == "conversation":
        more["conversation"] = house.client.conversations.create().id
    if way == "stateless":
        more["store"] = False
    asked: Any = [{"role": "user", "content": "Umbrella?"}]
    first = house.respond(asked, **more)
    message, call = first.output
    assert (message.content[0].text, call.name, call.arguments) == ("Let me look.", "get_weather", LISBON[1])
    assert first.status == "completed"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "dry"}
    if way == "previous":
        more["previous_response_id"] = first.id
    given: Any = [*asked, *first.output, result] if way == "stateless" else [result]
    second = house.respond(given, **more)
    assert (second.output_text, second.status) == ("Dry.", "completed")
    assert second.id != first.id
    assert second.rota["task_id"] == first.rota["task_id"]
    if way != "stateless":
        assert house.client.responses.retrieve(first.id).output == first.output
        assert house.client.responses.retrieve(second.id) == second
        for made in (first, second):
            check_rules(list(house.client.responses.retrieve(made.id, stream=True)))
    again = house.client.responses.create(model="support-assistant", input=given, **more)
    assert again.id == second.id
    assert len(house.talker.asked) == 2


def test_tools_are_streamed(house: House) -> None:
    house.talker.answers = [["Let me look.", LISBON, ("get_weather", "{}")], ["Dry."]]
    events = listen(house, "Umbrella?", tools=[WEATHER])
    check_rules(events)
    calls = [item for item in events[-1].response.output if item.type == "function_call"]
    assert [call.arguments for call in calls] == [LISBON[1], "{}"]
    response = events[-1].response.id
    with pytest.raises(openai.UnprocessableEntityError, match="is missing"):
        house.client.responses.create(model="support-assistant", input="And now?", previous_response_id=response)
    given: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "dry"} for call in calls]
    with pytest.raises(openai.UnprocessableEntityError, match="is missing"):
        house.client.responses.create(model="support-assistant", input=given[:1], previous_response_id=response)
    more = listen(house, given, previous_response_id=response)
    check_rules(more)
    assert text_in(more) == "Dry."


def test_an_answer_in_the_background_can_be_cancelled(house: House) -> None:
    begun = house.client.responses.create(model="support-assistant", input="Yoga?", background=True)
    assert house.client.responses.cancel(begun.id).status == "cancelled"
    assert house.client.responses.cancel(begun.id).status == "cancelled"
    events = list(house.client.responses.retrieve(begun.id, stream=True))
    check_rules(events)
    assert events[-1].response.status == "cancelled"


def test_what_was_said_of_an_answer_that_is_cancelled_stays(house: House) -> None:
    house.talker._let_through = threading.Semaphore(0)
    house.talker.answers = [["Half of it, ", "and the rest."]]
    begun = house.client.responses.create(model="support-assistant", input="Yoga?", background=True)
    with house.working():
        house.talker.let_through(1)
        wait_until(lambda: len(house.talker.asked), what="the model is asked")
        with db.transaction(house.org) as connection:
            wait_until(lambda: tasks.get_task(connection, UUID(begun.rota["task_id"])).status == "running", what="runs")
        heard = wait_until(lambda: _said(house, begun.id), what="the first words are heard")
        assert heard
        house.client.responses.cancel(begun.id)
    ended = house.client.responses.retrieve(begun.id)
    assert ended.status == "cancelled"
    assert ended.output_text.startswith("Half of it, ")


def _said(house: House, response: str) -> bool:
    with house.client.responses.retrieve(response, stream=True) as stream:
        return any(event.type == "response.output_item.added" for event in (next(iter(stream)) for _ in range(4)))


def test_an_agent_that_fails_says_so_in_the_response(house: House) -> None:
    house.talker.answers = [Canned(400, {"error": {"message": "too long", "type": "invalid_request_error"}})]
    made = house.respond("Yoga?")
    assert (made.status, made.output, made.error.code) == ("failed", [], "server_error")
    events = list(house.client.responses.retrieve(made.id, stream=True))
    check_rules(events)
    assert events[-1].type == "response.failed"


def test_a_response_that_is_not_stored_is_deleted_once_its_client_has_it(house: House) -> None:
    house.talker.answers = [["Yes."]]
    made = house.respond("Yoga?", store=False)
    assert made.output_text == "Yes."
    with pytest.raises(openai.NotFoundError):
        house.client.responses.retrieve(made.id)
    task = {"task": made.rota["task_id"]}
    with db.system_transaction() as connection:
        conversations.purge_deleted(connection)
        assert tasks.find_task(connection, UUID(task["task"])) is not None  # its client may be reading it
        later = text("UPDATE tasks SET finished_at = finished_at - interval '2 minutes' WHERE id = :task")
        connection.execute(later, task)
        conversations.purge_deleted(connection)
        assert tasks.find_task(connection, UUID(task["task"])) is None
        left = text("SELECT count(*) FROM conversation_messages WHERE task_id = :task")
        assert connection.execute(left, task).scalar_one() == 0


def test_responses_are_deleted_from_the_last_one_on(house: House) -> None:
    house.talker.answers = [["One."], ["Two."]]
    first = house.respond("Count.")
    second = house.respond("On.", previous_response_id=first.id)
    with pytest.raises(openai.ConflictError, match="follow this one"):
        house.client.responses.delete(first.id)
    for made in (second, first):
        house.client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            house.client.responses.retrieve(made.id)


def test_a_request_that_is_sent_again_with_its_key_is_one_response(house: House) -> None:
    house.talker.answers = [["Once."]]
    key: Any = {"extra_headers": {"Idempotency-Key": "k"}}
    first = house.respond("Yoga?", **key)
    again = house.client.responses.create(model="support-assistant", input="Yoga?", **key)
    assert again == first
    with pytest.raises(openai.ConflictError, match="idempotency key"):
        house.client.responses.create(model="support-assistant", input="Pilates?", **key)
    assert len(house.talker.asked) == 1


def test_requests_with_one_key_at_the_same_time_are_one_response(house: House) -> None:
    for number in range(10):
        key: Any = {"extra_headers": {"Idempotency-Key": f"k{number}"}}
        together = threading.Barrier(3)

        def ask(key: Any = key, together: threading.Barrier = together) -> str:
            together.wait()
            made = house.client.responses.create(model="support-assistant", input="Yoga?", background=True, **key)
            return str(made.id)

        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask) for _ in range(3)]
            assert len({one.result(timeout=30) for one in asked}) == 1
    with db.transaction(house.org) as connection:
        left = connection.execute(text("SELECT count(*) FROM conversations")).scalar_one()
    assert left == 10


def test_responses_and_conversations_are_their_users_own(house: House) -> None:
    house.talker.answers = [["Secret."]]
    begun = house.client.conversations.create()
    made = house.respond("Yoga?", conversation=begun.id)
    key = make_key(house.org, SECRET_KEY, user=make_user(house.org, "owner"))
    other = house.client.with_options(api_key=key)
    for refused in (
        lambda: other.responses.retrieve(made.id),
        lambda: other.responses.cancel(made.id),
        lambda: other.responses.delete(made.id),
        lambda: other.responses.input_items.list(made.id),
        lambda: other.responses.create(model="support-assistant", input="x", previous_response_id=made.id),
        lambda: other.responses.create(model="support-assistant", input="x", conversation=begun.id),
        lambda: other.conversations.retrieve(begun.id),
        lambda: other.conversations.items.list(begun.id),
        lambda: other.conversations.delete(begun.id),
    ):
        with pytest.raises(openai.NotFoundError):
            refused()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": []}, "say what"),
        ({"input": "  "}, "empty"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "the last item"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input_image"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "'c' is no call"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"conversation": "conv_x", "previous_response_id": "resp_x"}, "not both"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"model": "nobody"}, "does not exist"),
        ({"metadata": {"a": "b" * 600}}, "512"),
    ],
)
def test_what_an_agent_cannot_do_is_an_error_of_the_wire(house: House, body: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        house.client.responses.create(**{"model": "support-assistant", "input": "hi"} | body)
    assert said in refused.value.message
    assert refused.value.type in {"invalid_request_error", "not_found_error"}


@pytest.mark.parametrize("way", ["conversation", "previous_response_id"])
def test_a_response_that_is_not_stored_continues_nothing(house: House, way: str) -> None:
    house.talker.answers = [["Yes."], ["Go on."]]
    if way == "conversation":
        named = house.client.conversations.create().id
        house.respond("Yoga?", conversation=named)
    else:
        named = house.respond("Yoga?").id
    with pytest.raises(openai.UnprocessableEntityError, match="store: false"):
        house.client.responses.create(model="support-assistant", input="And?", store=False, **{way: named})
    assert house.respond("And?", **{way: named}).output_text == "Go on."


@pytest.mark.parametrize("asked", ["x" * 32_001, "a\x00b"])
def test_a_message_that_is_no_message_is_refused(house: House, asked: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="input"):
        house.client.responses.create(model="support-assistant", input=asked)


def test_with_a_response_go_the_messages_that_came_along_with_it(house: House) -> None:
    house.talker.answers = [["Yes."]]
    earlier = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    made = house.respond([*earlier, {"role": "user", "content": "Yoga?"}])
    house.client.responses.delete(made.id)
    with db.system_transaction() as connection:
        later = text("UPDATE tasks SET finished_at = finished_at - interval '2 minutes' WHERE org_id = :org")
        connection.execute(later, {"org": house.org})
        conversations.purge_deleted(connection)
    with db.transaction(house.org) as connection:
        assert connection.execute(text("SELECT count(*) FROM conversation_messages")).scalar_one() == 0


def test_a_program_that_sends_all_again_pays_for_no_summary(house: House) -> None:
    house.talker.answers = [["Yes."]]
    said = [{"role": role, "content": f"{role} {n}"} for n in range(30) for role in ("user", "assistant")]
    house.respond([*said, {"role": "user", "content": "Yoga?"}])
    (asked,) = house.talker.asked
    assert asked["messages"][1]["content"] == "user 10"
    assert len(asked["messages"]) == 42
