"""What the rehearsal model has a hand in reaches people in demonstration organisations only, and is marked there."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.llm.base import REHEARSAL_HEADER
from agents.llm.models import Models
from agents.review import approve
from core import db
from core.errors import NotPermitted
from core.ids import new_id
from core.settings import Settings, settings
from domain.approvals import service as approvals
from domain.approvals.schemas import Yes
from domain.channels import delivery
from domain.channels import service as channels
from domain.channels.schemas import EmailChannel, GatewaySettings, NewMessage, NewWebhook
from domain.tenants import service as tenants
from embedded.organisation import set_up_organisation
from tests.support.desk import Desk
from tests.support.factories import change_agent, make_organisation, make_row, owner_of, submit
from tests.support.mail import Mailbox, Receiver, mail_server, webhook_receiver
from tests.support.models import Parrot, asking, saying
from tests.support.servers import serving


@pytest.fixture
def bird() -> Parrot:
    return Parrot()


@pytest.fixture
def address(bird: Parrot) -> Iterator[str]:
    with serving(bird.app()) as url:
        yield url


@pytest.fixture
def rehearsing(org: UUID, address: str) -> Iterator[Desk]:
    """A worker whose every answer comes from the rehearsal model."""
    made = Desk(Models(Settings(rehearsal_url=address)))
    yield made
    made.close()


@pytest.fixture
def live(org: UUID, address: str) -> Iterator[Desk]:
    """A worker with a model of a provider."""
    made = Desk(Models(Settings.model_validate({"OPENAI_BASE_URL": f"{address}/v1"})))
    yield made
    made.close()


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mail_server() as made:
        yield made


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with webhook_receiver() as made:
        yield made


def a_gym(box: Mailbox, hook: Receiver, *, is_demonstration: bool) -> UUID:
    """An organisation with every channel, and an agent that does as it likes with some tools of each kind."""
    org = make_organisation(f"org-{new_id().hex[-12:]}", is_demonstration=is_demonstration)
    with db.transaction(org) as connection:
        mail = EmailChannel(host="127.0.0.1", port=box.port, security="none", sender="gym@example.com")
        channels.set_up_email(connection, org, mail)
        for kind in ("sms", "whatsapp"):
            channels.set_up_gateway(connection, org, kind, GatewaySettings(url=hook.url))
        channels.add_webhook(connection, org, NewWebhook(url=hook.url))
    tools = [*CALLS, "notify_coordinators"]
    change_agent(org, "support-assistant", mode="auto", model="gpt-4o-mini", fallback_model=None, tools=tools)
    make_row(org, "clients", id=CLIENT[0])
    return org


CLIENT = [new_id()]
CALLS: dict[str, dict[str, Any]] = {
    "send_email": {"to": "ana@example.org", "subject": "Hi", "body": "Hello"},
    "send_sms": {"to": "+34600111222", "text": "Hello"},
    "send_whatsapp": {"to": "+34600111222", "text": "Hello"},
    "send_message_to_client": {"client_id": "CLIENT", "body": "Hello"},
    "send_retention_message": {"client_id": "CLIENT", "body": "Hello"},
    "send_bulk_message": {"client_ids": ["CLIENT"], "body": "Hello {{name}}"},
    "send_report_email": {"to": "owner@example.com", "subject": "Hi", "report": "Hello"},
    "schedule_follow_up": {"contact_id": "CLIENT", "body": "Hello", "send_at": "LATER"},
    "schedule_social_post": {"platform": "instagram", "text": "Hello", "scheduled_at": "LATER"},
    "create_retention_campaign": {"name": "Back", "message": "Hello {{name}}", "status": "active"},
    "charge_client": {"client_id": "CLIENT", "amount": 9, "kind": "membership", "method": "card"},
}


def call(tool: str) -> tuple[str, str]:
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="minutes")
    spelt = json.dumps(CALLS.get(tool, {}) | {"_confidence": 0.95, "_why": "asked to"})
    return tool, spelt.replace("CLIENT", str(CLIENT[0])).replace("LATER", later)


@pytest.fixture(autouse=True)
def _another_client() -> None:
    CLIENT[0] = new_id()


def count(org: UUID, *tables: str) -> int:
    with db.transaction(org) as connection:
        counts = [connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]  # noqa: S608
        return sum(counts)


def deliver() -> None:
    delivery.deliver_due(delivery.make_senders(settings()))


@pytest.mark.parametrize("tool", sorted(CALLS))
def test_no_tool_reaches_people_outside_a_demonstration(
    tool: str, rehearsing: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    bird.answers = [asking(call(tool)), saying("done")]
    task = rehearsing.run(org, submit(org, "Write to Ana").id)
    assert task.status == "succeeded"  # nobody is asked for approval of what cannot be
    (step,) = [step for step in task.steps if step.stage == "act"]
    assert "rehearsal model" in step.output["message"]["content"]
    assert "ANTHROPIC_API_KEY" in step.output["message"]["content"]
    assert count(org, "outbox", "social_posts", "campaigns", "payments") == 0
    deliver()
    assert (box.mails, hook.posts) == ([], [])


def test_an_outward_tool_that_sends_words_is_not_run(
    rehearsing: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    change_agent(org, "support-assistant", tools=["send_pigeon"])
    bird.answers = [asking(("send_pigeon", "{}")), saying("done")]
    task = rehearsing.run(org, submit(org, "Write to Ana").id)
    (step,) = [step for step in task.steps if step.stage == "act"]
    assert "rehearsal model" in step.output["message"]["content"]


def test_staff_hear_of_it_in_the_app_only_and_see_what_it_is(
    rehearsing: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    with db.transaction(org) as connection:
        everybody = tenants.holders_of(connection, org, ["owner"])
    assert [one.id for one in everybody] == [owner_of(org)]
    bird.answers = [asking(("notify_coordinators", '{"title": "Look", "body": "at this"}')), saying("done")]
    rehearsing.run(org, submit(org, "Tell them").id)
    deliver()
    assert (box.mails, hook.posts) == ([], [])
    with db.transaction(org) as connection:
        told = channels.notifications(connection, owner_of(org))
    assert {one.title for one in told} <= {"[Rehearsal] Look", "[Rehearsal] support-assistant did: notify_coordinators"}


def test_in_a_demonstration_it_leaves_and_is_marked(
    rehearsing: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=True)
    bird.answers = [asking(*(call(tool) for tool in ("send_email", "send_sms"))), saying("done")]
    rehearsing.run(org, submit(org, "Write to Ana").id)
    deliver()
    assert [subject for to, subject, _ in box.texts() if to == "ana@example.org"] == ["[Rehearsal] Hi"]
    texts = [json.loads(body)["data"]["text"] for _, body in hook.posts if b"message.sms" in body]
    assert texts == ["[Rehearsal] Hello"]
    with db.transaction(org) as connection:
        sent = channels.list_messages(connection, channel="email").messages
    assert {one.is_rehearsal for one in sent} == {True}


def test_a_model_of_a_provider_may_write_anywhere_and_is_not_marked(
    live: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    bird.answers = [asking(call("send_email")), saying("done")]
    live.run(org, submit(org, "Write to Ana").id)
    deliver()
    assert [subject for to, subject, _ in box.texts() if to == "ana@example.org"] == ["Hi"]


def test_the_rehearsal_model_behind_a_providers_address_is_known_by_its_answers(
    live: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    answer = asking(call("send_email"))
    answer.headers[REHEARSAL_HEADER] = "true"
    bird.answers = [answer, saying("done")]
    task = live.run(org, submit(org, "Write to Ana").id)
    deliver()
    assert box.mails == []
    assert task.result["is_rehearsal"]


def test_what_it_proposed_is_not_carried_out_later_with_another_model(
    rehearsing: Desk, live: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    """Rehearsed under a demonstration, which it then no longer is, and approved once there is a real model."""
    org = a_gym(box, hook, is_demonstration=True)
    task = _waits_for_approval(org, rehearsing, bird)
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE organisations SET is_demonstration = false WHERE id = :org"), {"org": org})
    with db.transaction(org) as connection:
        (asked,) = approvals.of_task(connection, task.id).values()
        approve(connection, org, asked.id, owner_of(org), Yes(digest=asked.digest))
    bird.answers = [saying("done")]
    ended = live.run(org, task.id, number=1)
    assert ended.status == "succeeded"
    deliver()
    assert [mail for mail in box.texts() if mail[0] == "ana@example.org"] == []


def _waits_for_approval(org: UUID, desk: Desk, bird: Parrot) -> Any:
    change_agent(org, "support-assistant", mode="manual")
    bird.answers = [asking(call("send_email"))]
    task = desk.run(org, submit(org, "Write to Ana").id)
    assert task.waiting_for == "approval"
    return task


@pytest.mark.parametrize("field", ["task_id", "written_by"])
def test_the_outbox_takes_it_from_nobody(
    field: str, rehearsing: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    bird.answers = [saying("Hello")]
    task = rehearsing.run(org, submit(org, "Write something").id)
    wanted = {"channel": "email", "recipient": "ana@example.org", "subject": "Hi", "body": "Hello", field: task.id}
    with pytest.raises(NotPermitted, match="rehearsal model"), db.transaction(org) as connection:
        channels.enqueue(connection, org, NewMessage.model_validate(wanted))
    with db.transaction(org) as connection:  # as a row that was queued in a demonstration
        row = {"id": new_id(), "org": org, "task": task.id}
        connection.execute(
            text("INSERT INTO outbox (id, org_id, channel, recipient, body, task_id, is_rehearsal) "
                 "VALUES (:id, :org, 'email', 'ana@example.org', 'Hello', :task, true)"), row,
        )  # fmt: skip
    deliver()
    assert box.mails == []
    with db.transaction(org) as connection:
        found = channels.get_message(connection, row["id"])
    assert (found.status, "rehearsal model" in str(found.error)) == ("failed", True)


def test_a_reply_from_the_cache_is_a_rehearsal_too(
    rehearsing: Desk, live: Desk, bird: Parrot, box: Mailbox, hook: Receiver
) -> None:
    org = a_gym(box, hook, is_demonstration=False)
    change_agent(org, "support-assistant", limits={"reply_cache": 60})
    bird.answers = [asking(call("send_email")), saying("done"), saying("done")]
    rehearsing.run(org, submit(org, "Write to Ana").id)
    live.run(org, submit(org, "Write to Ana").id)  # its first answer is the one that was kept
    deliver()
    assert box.mails == []


def test_only_an_empty_organisation_becomes_a_demonstration(config: Settings) -> None:
    def is_demonstration(slug: str) -> bool:
        set_up_organisation(slug=slug, name="Gym", time_zone="Europe/Madrid", with_demonstration=True)
        with db.system_transaction() as connection:
            return tenants.organisation_called(connection, slug).is_demonstration

    assert is_demonstration(f"demo-{new_id().hex[-8:]}")
    slug = f"real-{new_id().hex[-8:]}"
    make_row(make_organisation(slug, is_demonstration=False), "clients")
    assert not is_demonstration(slug)
