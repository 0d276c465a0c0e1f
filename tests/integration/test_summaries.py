"""Long conversations: what no longer fits the window is summed up, once, billed, and marked."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from api.app import make_app
from core import db
from core.settings import Settings
from domain.conversations import service as conversations
from domain.conversations.schemas import Earlier, NewChatMessage, NewConversation
from domain.tasks.schemas import SubmissionContext
from tests.support.chat import Chat, chatting
from tests.support.factories import owner_of
from tests.support.models import Canned
from tests.support.servers import serving

_NOTES = "Ana wants yoga at nine; her member id is 4711."


@pytest.fixture(scope="module")
def served(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def chat(org: UUID, served: str) -> Iterator[Chat]:
    with chatting(org, served) as made:
        yield made


def talk_before(chat: Chat, turns: int) -> None:
    """Have `turns` questions and answers in the conversation, which nothing answered."""
    said = [
        one
        for number in range(turns)
        for one in (Earlier("user", f"question {number}"), Earlier("assistant", f"answer {number}"))
    ]
    with db.transaction(chat.org) as connection:
        conversations.append(connection, chat.org, UUID(chat.id), said)


def ask(chat: Chat, *answers: Any, words: str = "And now?") -> Any:
    """Send a message, and return the task that answered it."""
    chat.talker.answers = list(answers)
    sent = chat.send(words)
    chat.work()
    assert chat.talker.answers == []
    return chat.http.get(f"/v1/tasks/{sent['answer']['task_id']}").json()


def summaries(chat: Chat) -> list[str]:
    with db.transaction(chat.org) as connection:
        return list(connection.execute(text("SELECT text FROM conversation_summaries ORDER BY created_at")).scalars())


def test_what_does_not_fit_the_window_is_summed_up_once_and_billed(chat: Chat) -> None:
    talk_before(chat, 21)
    task = ask(chat, [_NOTES], ["Go on."])
    asked_to_sum_up, asked = chat.talker.asked[-2:]
    lines = [json.loads(line) for line in asked_to_sum_up["messages"][1]["content"].splitlines()]
    assert lines[0] == {"from": "user", "text": "question 0"}
    assert lines[-1] == {"from": "assistant", "text": "answer 10"}
    assert "tools" not in asked_to_sum_up
    read = [one["content"] for one in asked["messages"][1:]]
    assert read[0].endswith(_NOTES)
    assert read[1:4] == ["(no answer)", "question 11", "answer 11"]
    assert read[-2:] == ["answer 20", "And now?"]

    steps = [(step["seq"], step["stage"], step["name"]) for step in task["steps"]]
    assert steps == [(0, "perceive", "perceive"), (1, "perceive", "summary"), (2, "decide", "gpt-4o-mini"),
                     (3, "learn", "learn")]  # fmt: skip
    assert [float(step["billed_cost"]) > 0 for step in task["steps"]] == [False, True, True, False]
    assert float(task["billed_cost"]) == sum(float(step["billed_cost"]) for step in task["steps"])

    ask(chat, ["And on."])
    again = [one["content"] for one in chat.talker.asked[-1]["messages"][1:]]
    assert again == [*read, "Go on.", "And now?"]
    assert summaries(chat) == [_NOTES]


def test_the_next_summary_is_made_of_the_one_before(chat: Chat) -> None:
    talk_before(chat, 21)
    ask(chat, [_NOTES], ["Go on."])
    talk_before(chat, 10)
    ask(chat, ["Ana left."], ["Bye."])
    lines = [json.loads(line) for line in chat.talker.asked[-2]["messages"][1]["content"].splitlines()]
    assert lines[0] == {"from": "summary", "text": _NOTES}
    assert lines[1]["text"] == "question 11"
    assert chat.read_by_the_model()[0].endswith("Ana left.")
    assert summaries(chat) == [_NOTES, "Ana left."]


@pytest.mark.parametrize("failure", [Canned(400, {"error": {"message": "no"}}), Canned(500, {}), [""]])
def test_without_a_summary_the_latest_messages_are_read(chat: Chat, failure: Any) -> None:
    talk_before(chat, 30)
    task = ask(chat, failure, ["Go on."])
    assert task["status"] == "succeeded"
    read = chat.read_by_the_model()
    assert read[0] == "user: question 10"
    assert len(read) == 41
    assert summaries(chat) == []
    assert [(step["seq"], step["status"], step["name"]) for step in task["steps"]][1:3] == [
        (1, "failed", "summary"), (1, "done", "gpt-4o-mini"),
    ]  # fmt: skip


def test_a_task_that_is_tried_again_does_not_sum_up_again(chat: Chat) -> None:
    talk_before(chat, 21)
    ask(chat, [_NOTES], Canned(400, {"error": {"message": "no"}}), words="once")
    last = chat.messages()[-1]
    assert last["status"] == "failed"
    chat.talker.answers = [["Go on."]]
    chat.post(f"/v1/tasks/{last['task_id']}/retry")
    chat.work()
    assert chat.messages()[-1]["text"] == "Go on."
    assert chat.read_by_the_model()[0].endswith(_NOTES)
    assert len(chat.talker.asked) == 3


def test_words_of_strangers_mark_the_summary_and_all_that_is_made_of_it(chat: Chat) -> None:
    chat.talker.answers = [["Noted."]]
    chat.send("Give me money", is_from_outside=True)
    chat.work()
    with db.transaction(chat.org) as connection:  # every answer after it would carry the mark on by itself
        connection.execute(text("UPDATE conversation_messages SET is_untrusted = false WHERE role = 'assistant'"))
    clean = [one for number in range(21) for one in (Earlier("user", f"question {number}"),)]
    with db.transaction(chat.org) as connection:
        conversations.append(connection, chat.org, UUID(chat.id), clean * 2)
    task = ask(chat, [_NOTES], ["Go on."])
    lines = [json.loads(line) for line in chat.talker.asked[-2]["messages"][1]["content"].splitlines()]
    assert lines[0] == {"from": "somebody outside", "text": "Give me money"}
    assert task["result"]["has_read_untrusted"] is True
    with db.transaction(chat.org) as connection:
        assert connection.execute(text("SELECT is_untrusted FROM conversation_summaries")).scalar_one() is True


def test_a_branch_reads_its_own_summary_and_not_that_of_another(chat: Chat) -> None:
    first = chat.send("begin")
    chat.talker.answers = [["Begun."]]
    chat.work()
    talk_before(chat, 21)
    ask(chat, [_NOTES], ["Go on."])
    chat.talker.answers = [["Elsewhere."]]
    chat.send("begin otherwise", edits=first["message"]["id"])
    chat.work()
    assert chat.read_by_the_model() == ["user: begin otherwise"]


def test_an_answer_from_before_a_summary_is_regenerated_with_what_was_before_it(chat: Chat) -> None:
    talk_before(chat, 2)
    ask(chat, ["Old."], words="early")
    old = chat.messages()[-1]
    talk_before(chat, 25)
    ask(chat, [_NOTES], ["Go on."])
    chat.talker.answers = [["New."]]
    chat.post(f"{chat.path}/messages/{old['id']}/regenerate")
    chat.work()
    assert [one.split(": ")[1] for one in chat.read_by_the_model()] == [
        "question 0", "answer 0", "question 1", "answer 1", "early",
    ]  # fmt: skip


def test_a_deleted_conversation_leaves_no_summary(chat: Chat) -> None:
    talk_before(chat, 21)
    ask(chat, [_NOTES], ["Go on."])
    assert chat.http.delete(chat.path).status_code == 204
    with db.system_transaction() as connection:
        conversations.purge_deleted(connection)
    assert summaries(chat) == []


def test_a_long_conversation_costs_no_more_to_read_than_a_short_one(org: UUID, config: Settings) -> None:
    with db.transaction(org) as connection:
        context = SubmissionContext(user_id=owner_of(org))
        begun = conversations.begin(connection, org, NewConversation(agent="support-assistant"), context)
        turns = [Earlier(role, "ok") for _ in range(300) for role in ("user", "assistant")]
        ids = conversations.append(connection, org, begun.id, turns)
        sent = conversations.send(connection, org, begun.id, NewChatMessage(text="on"), context)
        assert len(conversations.history(connection, sent.answer.id).to_sum_up) == 180
        values = {"id": ids[-21], "org": org}
        connection.execute(
            text("INSERT INTO conversation_summaries VALUES (:id, :org, 'notes', false, rota_now())"), values
        )
        reading = conversations.history(connection, sent.answer.id)
    assert reading.summary is not None
    assert (reading.summary.text, len(reading.to_read), reading.to_sum_up) == ("notes", 20, [])
