"""Events posted to webhooks: the same as in the feed, each once, to those that are to get them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.channels import posting
from domain.channels import service as channels
from domain.channels.schemas import FeedWebhook, NewWebhook, Notice
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome
from domain.events import service as events
from domain.events.kinds import event_kinds
from domain.events.schemas import Event
from tests.support.factories import claim, make_key, make_organisation, submit
from tests.support.mail import Receiver, webhook_receiver
from tests.support.outbox import deliver_all
from tests.support.servers import SECRET_KEY


@pytest.fixture
def org(config: Settings) -> UUID:
    """An organisation in which nothing has happened."""
    return make_organisation(f"posting-{new_id().hex[-12:]}", tokens=0, is_prepaid=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with webhook_receiver() as made:
        yield made


def add(org: UUID, url: str, **more: Any) -> None:
    with db.transaction(org) as connection:
        channels.add_webhook(connection, org, NewWebhook(url=url, **more))


def end(org: UUID, task_id: UUID) -> None:
    claimed = claim(org, task_id)
    assert claimed is not None
    with db.transaction(org) as connection:
        claims.end(connection, claimed, ClaimOutcome(status="succeeded", outcome="succeeded", result={"answer": "ok"}))


def in_the_outbox(org: UUID) -> list[tuple[str, Any]]:
    """What is posted, with the address."""
    posting.post_events()
    with db.transaction(org) as connection:
        rows = connection.execute(
            text("SELECT recipient, body FROM outbox WHERE org_id = :org AND channel = 'webhook' ORDER BY id"),
            {"org": org},
        )
        return [(recipient, json.loads(body)) for recipient, body in rows]


def test_a_webhook_is_posted_what_its_patterns_fit_once_and_in_order(org: UUID, receiver: Receiver) -> None:
    submit(org, "before")
    add(org, receiver.url, events=["task.*"])
    task = submit(org)
    end(org, task.id)
    first = in_the_outbox(org)
    assert [body["type"] for _, body in first] == ["task.accepted", "task.started", "task.ended"]
    assert {body["data"]["task_id"] for _, body in first} == {str(task.id)}
    assert first[-1][1]["data"]["status"] == "succeeded"
    assert in_the_outbox(org) == first
    deliver_all(org)
    assert [json.loads(body)["type"] for _, body in receiver.posts] == [body["type"] for _, body in first]


def test_workers_that_post_at_once_post_each_event_once(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, events=["task.accepted"])
    ids = {str(submit(org, str(number)).id) for number in range(30)}
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: posting.post_events(), range(8)))
    posted = [body["data"]["task_id"] for _, body in in_the_outbox(org)]
    assert len(posted) == 30
    assert set(posted) == ids


def test_agents_narrow_what_is_posted(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, events=["task.accepted"], agents=["financial-analyst"])
    submit(org)
    submit(org, agent="financial-analyst")
    assert [body["data"]["agent"] for _, body in in_the_outbox(org)] == ["financial-analyst"]


def test_a_submission_names_the_webhook_that_hears_of_its_end(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, events=["budget.crossed"])
    end(org, submit(org).id)
    task = submit(org, notify=receiver.url)
    end(org, task.id)
    assert [(body["type"], body["data"]["task_id"]) for _, body in in_the_outbox(org)] == [("task.ended", str(task.id))]


def test_a_submission_that_names_no_webhook_of_ours_is_refused(org: UUID) -> None:
    with TestClient(make_app()) as client:
        headers = {"authorization": f"Bearer {make_key(org, SECRET_KEY)}"}
        body = {"agent": "support-assistant", "input": {"message": "hi"}, "notify": "https://elsewhere.example.com/"}
        answer = client.post("/v1/tasks", json=body, headers=headers)
    assert answer.status_code == 422
    assert "rota webhooks add https://elsewhere.example.com/" in answer.text


def test_what_people_are_notified_of_is_posted_once(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url)
    with db.transaction(org) as connection:
        channels.tell(connection, org, [], Notice(kind="budget.crossed", title="80 %", body="x"))
    assert [body["type"] for _, body in in_the_outbox(org)] == ["budget.crossed"]


def test_another_organisations_webhook_hears_nothing(org: UUID, receiver: Receiver) -> None:
    other = make_organisation(f"other-{new_id().hex[-12:]}", tokens=0)
    add(other, receiver.url, events=["task.*"])
    submit(org, notify=receiver.url)
    assert in_the_outbox(other) == []


@pytest.mark.parametrize(
    ("kind", "patterns", "is_posted"),
    [
        ("task.ended", ["*"], False),
        ("task.ended", ["task.*"], True),
        ("decision.made", ["task.*", "decision.made"], True),
        ("approval.decided", ["*"], True),
        ("approval.requested", ["*"], False),  # posted with the notice
        ("schedule.fired", ["*"], True),
        ("budget.crossed", ["*"], False),
        ("a.kind_of_a_pack_that_is_gone", ["*"], False),
    ],
)
def test_what_is_frequent_is_posted_to_those_who_name_it(kind: str, patterns: list[str], is_posted: bool) -> None:
    webhook = FeedWebhook(
        id=new_id(), org_id=new_id(), url="https://x", events=patterns, agents=None, cursor_xid=0, cursor_seq=0
    )
    event = Event(
        xid=1, seq=1, org_id=webhook.org_id, kind=kind, at=None, task_id=None, agent=None, location_id=None,  # type: ignore[arg-type]
        conversation_id=None, data={},
    )  # fmt: skip
    assert posting.is_posted(event, webhook, dict(event_kinds()), None) is is_posted


def test_agents_narrow_notices_too(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, agents=["financial-analyst"])
    for agent in ("support-assistant", "financial-analyst"):
        with db.transaction(org) as connection:
            channels.tell(
                connection, org, [], Notice(kind="budget.crossed", title=agent, body="x", data={"agent": agent})
            )
    assert [body["data"]["title"] for _, body in in_the_outbox(org)] == ["financial-analyst"]


def test_what_happens_while_a_webhook_is_disabled_is_not_posted_later(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, events=["task.accepted"])
    with db.transaction(org) as connection:
        (webhook,) = channels.list_webhooks(connection, org)
        channels.disable_webhook(connection, org, webhook.id, "It answered 410.")
    submit(org)
    with db.transaction(org) as connection:
        channels.enable_webhook(connection, org, webhook.id)
    later = submit(org)
    assert [body["data"]["task_id"] for _, body in in_the_outbox(org)] == [str(later.id)]


def test_after_a_restore_a_webhook_and_a_reader_begin_anew(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, events=["task.accepted"])
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE webhooks SET cursor_xid = '999999999999' WHERE org_id = :org"), {"org": org})
        connection.execute(
            text("INSERT INTO deleted_events (org_id, xid, seq) VALUES (:org, '999999999999', 1)"), {"org": org}
        )
    assert in_the_outbox(org) == []
    task = submit(org)
    assert [body["data"]["task_id"] for _, body in in_the_outbox(org)] == [str(task.id)]
    with db.transaction(org) as connection:
        horizon = events.horizon(connection, org)
    assert not horizon.has_lost(horizon.end)


def test_a_busy_organisation_is_posted_in_portions(org: UUID, receiver: Receiver) -> None:
    add(org, receiver.url, events=["event.raised"])
    with db.transaction(org) as connection:
        for number in range(250):
            events.record(connection, org, "event.raised", {"name": str(number), "payload": {}})
    assert [body["data"]["name"] for _, body in in_the_outbox(org)] == [str(number) for number in range(250)]
