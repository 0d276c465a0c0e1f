"""Feedback on answers: one from each user, with the task, in the feed, and for those who may see the task."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from api.app import make_app
from core import db
from core.settings import Settings
from domain.conversations import service as conversations
from domain.feedback import service as feedback
from tests.support.chat import Chat, chatting
from tests.support.factories import make_key, make_location, make_user
from tests.support.servers import SECRET_KEY, serving


@pytest.fixture(scope="module")
def served(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def chat(org: UUID, served: str) -> Iterator[Chat]:
    with chatting(org, served) as made:
        yield made


@pytest.fixture
def answer(chat: Chat) -> Any:
    """An answer that was given."""
    chat.talker.answers = [["At ten."]]
    sent = chat.send("When is yoga?")
    chat.work()
    return sent["answer"]


def rate(chat: Chat, path: str, rating: str, comment: str = "") -> httpx2.Response:
    return chat.http.put(f"{path}/feedback", json={"rating": rating, "comment": comment})


def as_user(chat: Chat, role: str, location: str | None = None) -> httpx2.Client:
    """A client of another user of the organisation; close it."""
    user = make_user(chat.org, role, at=location)
    headers = {"authorization": f"Bearer {make_key(chat.org, SECRET_KEY, user=user)}"}
    return httpx2.Client(base_url=chat.url, headers=headers, trust_env=False, timeout=30)


def test_feedback_stands_with_the_answer_and_with_the_steps_that_led_to_it(chat: Chat, answer: Any) -> None:
    given = rate(chat, f"{chat.path}/messages/{answer['id']}", "down", "  The hour is wrong. ")
    assert given.status_code == 200
    assert (given.json()["agent"], given.json()["comment"]) == ("support-assistant", "The hour is wrong.")
    task = chat.http.get(f"/v1/tasks/{answer['task_id']}").json()
    assert [(one["rating"], one["comment"]) for one in task["feedback"]] == [("down", "The hour is wrong.")]
    assert [step["stage"] for step in task["steps"]] == ["perceive", "decide", "learn"]
    assert [one["rating"] for one in chat.messages()] == [None, "down"]


def test_a_user_has_one_rating_which_can_be_changed_and_taken_back(chat: Chat, answer: Any) -> None:
    path = f"/v1/tasks/{answer['task_id']}"
    first = rate(chat, path, "down", "wrong").json()
    second = rate(chat, path, "up").json()
    assert (second["id"], second["rating"], second["comment"]) == (first["id"], "up", "")
    assert [one["rating"] for one in chat.http.get("/v1/feedback").json()["feedback"]] == ["up"]
    assert chat.http.delete(f"{path}/feedback").status_code == 204
    assert chat.http.delete(f"{path}/feedback").status_code == 404
    assert chat.http.get(path).json()["feedback"] == []
    told = chat.http.get("/v1/events?type=answer.rated", headers={"accept": "application/json"}).json()["events"]
    assert [(one["data"]["rating"], one["data"]["feedback_id"]) for one in told] == [
        ("down", first["id"]), ("up", first["id"]),
    ]  # fmt: skip
    assert "wrong" not in str(told)


def test_what_is_no_answer_yet_or_never_is_refused(chat: Chat) -> None:
    sent = chat.send("hello")
    assert rate(chat, f"{chat.path}/messages/{sent['answer']['id']}", "up").status_code == 409
    assert rate(chat, f"{chat.path}/messages/{sent['message']['id']}", "up").status_code == 409
    assert rate(chat, f"/v1/tasks/{sent['answer']['task_id']}", "up").status_code == 409
    assert rate(chat, f"{chat.path}/messages/{sent['answer']['id']}", "great").status_code == 422
    assert rate(chat, f"{chat.path}/messages/{sent['answer']['id']}", "up", "x" * 2_001).status_code == 422


def test_feedback_is_listed_by_agent_and_rating_in_pages(chat: Chat, answer: Any) -> None:
    rate(chat, f"/v1/tasks/{answer['task_id']}", "up")
    for _ in range(2):
        with as_user(chat, "staff") as client:
            client.put(f"/v1/tasks/{answer['task_id']}/feedback", json={"rating": "down"}).raise_for_status()
    page = chat.http.get("/v1/feedback?limit=2").json()
    rest = chat.http.get("/v1/feedback", params={"limit": 2, "before": page["next_before"]}).json()
    assert [one["rating"] for one in page["feedback"] + rest["feedback"]] == ["down", "down", "up"]
    assert rest["next_before"] is None
    assert len(chat.http.get("/v1/feedback?rating=down&agent=support-assistant").json()["feedback"]) == 2
    assert chat.http.get("/v1/feedback?agent=sales-assistant").json()["feedback"] == []


def test_only_those_who_may_work_with_the_task_rate_it_and_only_at_their_location(chat: Chat, answer: Any) -> None:
    make_location(chat.org, "north")
    path = f"/v1/tasks/{answer['task_id']}/feedback"
    rate(chat, f"/v1/tasks/{answer['task_id']}", "up")
    with as_user(chat, "viewer") as viewer:
        assert viewer.put(path, json={"rating": "up"}).status_code == 403
        assert len(viewer.get("/v1/feedback").json()["feedback"]) == 1
    with as_user(chat, "staff", "north") as elsewhere:
        assert elsewhere.put(path, json={"rating": "up"}).status_code == 404
        assert elsewhere.get("/v1/feedback").json()["feedback"] == []


def test_with_the_conversation_its_feedback_goes(chat: Chat, answer: Any) -> None:
    rate(chat, f"/v1/tasks/{answer['task_id']}", "up", "fine words")
    chat.http.delete(chat.path)
    with db.system_transaction() as connection:
        conversations.purge_deleted(connection)
    with db.transaction(chat.org) as connection:
        assert feedback.list_feedback(connection).feedback == []


def test_feedback_outlives_its_task_and_an_old_answer_can_be_rated(chat: Chat, answer: Any) -> None:
    path = f"{chat.path}/messages/{answer['id']}"
    rate(chat, path, "down", "wrong")
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM tasks WHERE id = :id"), {"id": answer["task_id"]})
    assert [one["rating"] for one in chat.messages()] == [None, "down"]
    again = rate(chat, path, "up")
    assert (again.status_code, again.json()["agent"]) == (200, "support-assistant")
    assert [one["rating"] for one in chat.http.get("/v1/feedback").json()["feedback"]] == ["up"]
