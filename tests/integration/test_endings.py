"""What agents begin comes to an end: looked at, moved on and settled over HTTP, or ended by the clock."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from agents.tools import TOOLS
from agents.tools.registry import Acting, ToolContext
from api.app import make_app
from business.crm import service as crm
from business.duties import lapse_charges
from core import db
from core.errors import Conflict, InvalidInput, NotPermitted
from core.ids import new_id
from core.settings import ROOT, Settings
from domain.channels import service as channels
from domain.channels.schemas import EmailChannel, NewWebhook
from domain.contacts import service as contacts
from domain.office import endings, records, times
from domain.office import service as office
from domain.office.schemas import EventKind, EventOutcome, NewEvent
from domain.wallet import service as wallet
from domain.wallet.schemas import TopUp
from tests.support.clock import Clock, movable_clock
from tests.support.factories import ZONE, make_key, make_location, make_organisation, make_row, make_user, owner_of
from tests.support.mail import Mailbox, Receiver, mail_server, webhook_receiver
from tests.support.outbox import deliver_all
from tests.support.servers import SECRET_KEY, serving
from workers.duties.office import attend_office

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM outbox"))
    with TestClient(make_app()) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def box(org: UUID) -> Iterator[Mailbox]:
    with mail_server() as made:
        wanted = EmailChannel(host="127.0.0.1", port=made.port, security="none", sender="gym@example.com")
        with db.transaction(org) as connection:
            channels.set_up_email(connection, org, wanted)
        yield made


@pytest.fixture
def receiver(org: UUID) -> Iterator[Receiver]:
    with webhook_receiver() as made:
        with db.transaction(org) as connection:
            channels.add_webhook(connection, org, NewWebhook(url=made.url))
        yield made


def use(org: UUID, tool_name: str, clock: Clock | None = None, /, **arguments: Any) -> dict[str, Any]:
    """What a tool returns, used by an agent for the owner."""
    tool = TOOLS.get(tool_name)
    assert tool is not None
    acting = Acting(org_id=org, user_id=owner_of(org), agent="support-assistant", task_id=new_id(), seq=1)
    now = (clock or Clock()).now().astimezone(ZONE)
    with db.transaction(org) as connection:
        context = ToolContext(connection=connection, zone=ZONE, today=now.date(), acting=acting)
        found: dict[str, Any] = tool.run(context, tool.validate(arguments))
    return found


def told(org: UUID) -> list[str]:
    """The kinds of events that the owner was told of in the app, the earliest first."""
    deliver_all(org)
    with db.transaction(org) as connection:
        return [one.kind for one in reversed(channels.notifications(connection, owner_of(org), limit=200))]


def local_key(org: UUID, role: str, slug: str = "centro") -> tuple[dict[str, str], UUID]:
    """Headers of somebody with a role at one location only, and the location."""
    location = make_location(org, slug)
    user = make_user(org, role, at=slug)
    return {"authorization": f"Bearer {make_key(org, SECRET_KEY, user=user)}"}, location


# ── tickets and tasks for staff ──────────────────────────────────────────────────────────────────────────────────────


def test_a_ticket_is_listed_taken_on_closed_and_opened_again(client: TestClient, org: UUID) -> None:
    made = use(org, "create_support_ticket", subject="Broken rower", body="It squeaks")
    [listed] = client.get("/v1/tickets", params={"status": "open"}).json()
    assert (listed["id"], listed["created_by"]) == (str(made["ticket_id"]), "support-assistant")
    path = f"/v1/tickets/{listed['id']}"
    taken = client.patch(path, json={"status": "in_progress", "assignee": "Marta", "note": "ordered a part"}).json()
    assert (taken["status"], taken["assignee"], taken["note"]) == ("in_progress", "Marta", "ordered a part")
    assert client.patch(path, json={"assignee": None}).json()["assignee"] is None
    assert client.patch(path, json={"status": "resolved"}).json()["note"] == "ordered a part"
    assert client.patch(path, json={"status": "closed"}).json()["status"] == "closed"
    refused = client.patch(path, json={"status": "resolved"})
    assert (refused.status_code, "what can follow is open" in refused.text) == (409, True)
    use(org, "create_support_ticket", subject="Broken rower", body="Again")
    again = client.patch(path, json={"status": "open"})
    assert (again.status_code, "about the same is open" in again.text) == (409, True)
    assert client.get(f"/v1/tickets/{new_id()}").status_code == 404
    changes = [row for row in client.get("/v1/audit").json()["lines"] if row["verb"] == "change_ticket"]
    assert len(changes) == 4


def test_a_task_for_staff_is_listed_and_done(client: TestClient, org: UUID) -> None:
    lead = make_row(org, "leads")
    made = use(org, "create_lead_task", lead_id=str(lead), title="Call back")
    [listed] = client.get("/v1/staff-tasks", params={"lead": str(lead)}).json()
    assert listed["id"] == str(made["staff_task_id"])
    assert client.patch(f"/v1/staff-tasks/{listed['id']}", json={"status": "done"}).json()["status"] == "done"
    assert client.get("/v1/staff-tasks", params={"status": "open"}).json() == []


def test_who_is_at_one_location_sees_and_moves_what_lies_there_alone(client: TestClient, org: UUID) -> None:
    headers, centre = local_key(org, "manager")
    here, there = make_row(org, "clients", location_id=centre), make_row(org, "clients", name="Far Away")
    for about in (here, there):
        use(org, "create_support_ticket", subject=f"About {about}", body="x", client_id=str(about))
        use(org, "charge_client", client_id=str(about), amount=5, kind="shop")
    use(org, "export_data", what="clients")
    use(org, "create_retention_campaign", name="All", message="Come", status="active")
    assert [one["client_id"] for one in client.get("/v1/tickets", headers=headers).json()] == [str(here)]
    [charge] = client.get("/v1/payments", headers=headers).json()
    assert charge["client_id"] == str(here)
    settle = f"/v1/payments/{charge['id']}/outcome"
    assert client.post(settle, json={"outcome": "paid"}, headers=headers).status_code == 200
    hidden = next(one["id"] for one in client.get("/v1/payments").json() if one["client_id"] == str(there))
    answer = client.post(f"/v1/payments/{hidden}/outcome", json={"outcome": "paid"}, headers=headers)
    assert answer.status_code == 404
    for path in ("/v1/exports", "/v1/campaigns", "/v1/posts"):
        assert client.get(path, headers=headers).json() == []


_ROUTES = [
    ("get", "/v1/tickets", "tickets:read"),
    ("patch", "/v1/tickets/{id}", "tickets:write"),
    ("get", "/v1/staff-tasks", "leads:read"),
    ("patch", "/v1/staff-tasks/{id}", "leads:write"),
    ("get", "/v1/campaigns", "campaigns:read"),
    ("post", "/v1/campaigns/{id}/launch", "campaigns:write"),
    ("post", "/v1/campaigns/{id}/cancel", "campaigns:write"),
    ("get", "/v1/posts", "social:read"),
    ("post", "/v1/posts/{id}/outcome", "social:write"),
    ("get", "/v1/exports", "data:export"),
    ("get", "/v1/exports/{id}/content", "data:export"),
    ("delete", "/v1/exports/{id}", "data:export"),
    ("get", "/v1/payments", "payments:read"),
    ("post", "/v1/payments/{id}/outcome", "payments:settle"),
    ("get", "/v1/calendar-events", "calendar:read"),
    ("post", "/v1/calendar-events/{id}/outcome", "calendar:write"),
    ("get", "/v1/bookings", "bookings:read"),
    ("post", "/v1/bookings/{id}/outcome", "bookings:write"),
    ("get", "/v1/trials", "bookings:read"),
    ("get", "/v1/resources", "resources:read"),
    ("delete", "/v1/resources/{id}", "resources:delete"),
]


@pytest.mark.parametrize(("method", "path", "permission"), _ROUTES)
def test_a_key_needs_the_permission(client: TestClient, org: UUID, method: str, path: str, permission: str) -> None:
    others = [one for _, _, one in _ROUTES if one != permission]
    headers = {"authorization": f"Bearer {make_key(org, SECRET_KEY, scopes=others)}"}
    answer = client.request(method, path.format(id=new_id()), headers=headers)
    assert (answer.status_code, permission in answer.text) == (403, True)


# ── posts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def schedule_post(org: UUID, clock: Clock, words: str = "See you #Spin") -> str:
    at = (clock.now() + timedelta(hours=1)).isoformat()
    return str(use(org, "schedule_social_post", clock, platform="instagram", text=words, scheduled_at=at)["post_id"])


def test_a_post_is_handed_over_at_its_time_and_published(
    client: TestClient, org: UUID, clock: Clock, receiver: Receiver
) -> None:
    post = schedule_post(org, clock)
    attend_office()
    assert client.get(f"/v1/posts/{post}").json()["status"] == "scheduled"
    clock.move(timedelta(hours=1, seconds=1))
    for _ in range(2):  # whatever runs twice
        attend_office()
    assert told(org) == ["post.due"]
    [event] = [json.loads(body) for _, body in receiver.posts]
    assert (event["type"], event["data"]["post_id"], event["data"]["text"]) == ("post.due", post, "See you #Spin")
    assert [one["id"] for one in client.get("/v1/posts", params={"status": "due"}).json()] == [post]
    said = {"outcome": "published", "url": "https://social.example/p/1"}
    done = client.post(f"/v1/posts/{post}/outcome", json=said).json()
    assert (done["status"], done["url"]) == ("published", "https://social.example/p/1")
    assert client.post(f"/v1/posts/{post}/outcome", json=said).status_code == 200
    assert client.post(f"/v1/posts/{post}/outcome", json={"outcome": "cancelled"}).status_code == 409


def test_a_post_that_nobody_publishes_is_missed_and_one_that_is_off_is_not_handed_over(
    client: TestClient, org: UUID, clock: Clock
) -> None:
    missed, off = schedule_post(org, clock), schedule_post(org, clock, "Not this one")
    assert client.post(f"/v1/posts/{off}/outcome", json={"outcome": "cancelled"}).json()["status"] == "cancelled"
    clock.move(timedelta(hours=2))
    attend_office()
    clock.move(2 * DAY - MINUTE)
    attend_office()
    assert client.get(f"/v1/posts/{missed}").json()["status"] == "due"
    clock.move(2 * MINUTE)
    attend_office()
    assert client.get(f"/v1/posts/{missed}").json()["status"] == "missed"
    assert told(org) == ["post.due", "post.missed"]
    late = client.post(f"/v1/posts/{missed}/outcome", json={"outcome": "published"})
    assert late.json()["status"] == "published"


# ── charges ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def charge(org: UUID, clock: Clock, amount: float = 59.9) -> str:
    client = str(make_row(org, "clients"))
    return str(use(org, "charge_client", clock, client_id=client, amount=amount, kind="membership")["payment_id"])


def test_a_charge_is_told_collected_and_counts_from_then_on(
    client: TestClient, org: UUID, clock: Clock, receiver: Receiver
) -> None:
    payment = charge(org, clock)
    assert told(org) == ["payment.wanted"]
    [event] = [json.loads(body) for _, body in receiver.posts]
    assert (event["type"], event["data"]["amount"]) == ("payment.wanted", "59.9")
    assert [one["amount"] for one in client.get("/v1/payments", params={"status": "pending"}).json()] == ["59.90"]
    clock.move(DAY)
    said = {"outcome": "paid", "reference": "pay_1"}
    paid = client.post(f"/v1/payments/{payment}/outcome", json=said).json()
    assert (paid["status"], paid["reference"], paid["settled_at"]) == ("paid", "pay_1", paid["paid_at"])
    assert client.post(f"/v1/payments/{payment}/outcome", json={"outcome": "failed"}).status_code == 409
    clock.move(8 * DAY)
    attend_office()
    assert client.get(f"/v1/payments/{payment}").json()["status"] == "paid"


def test_a_charge_that_nobody_collects_lapses_and_is_no_failure_of_the_client(
    client: TestClient, org: UUID, clock: Clock
) -> None:
    payment = charge(org, clock)
    clock.move(7 * DAY - MINUTE)
    lapse_charges()
    assert client.get(f"/v1/payments/{payment}").json()["status"] == "pending"
    clock.move(2 * MINUTE)
    lapse_charges()
    lapsed = client.get(f"/v1/payments/{payment}").json()
    assert lapsed["status"] == "lapsed"
    assert told(org) == ["payment.wanted", "payment.lapsed"]
    with db.transaction(org) as connection:
        activity = crm.calculate_engagement(connection, UUID(lapsed["client_id"]), clock.now().date(), ZONE)["activity"]
    assert activity["failed_payments_90_days"] == 0
    assert client.post(f"/v1/payments/{payment}/outcome", json={"outcome": "paid"}).json()["status"] == "paid"


def test_a_refund_is_told_to_those_who_give_the_money_back(client: TestClient, org: UUID) -> None:
    payment = make_row(org, "payments", client_id=make_row(org, "clients"))
    use(org, "refund_payment", payment_id=str(payment), amount=59)
    assert told(org) == ["payment.refunded"]
    assert client.get(f"/v1/payments/{payment}").json()["status"] == "refunded"


# ── exports, events, bookings, resources ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_export_is_fetched_noted_deleted_and_kept_for_a_month_at_most(
    client: TestClient, org: UUID, clock: Clock, form: str
) -> None:
    make_row(org, "clients", name="Ana Torres")
    first, second = (str(use(org, "export_data", what="clients", format=form)["export_id"]) for _ in range(2))
    answer = client.get(f"/v1/exports/{first}/content")
    rows = list(csv.DictReader(io.StringIO(answer.text))) if form == "csv" else answer.json()
    assert [row["name"] for row in rows] == ["Ana Torres"]
    assert form in answer.headers["content-type"]
    assert f".{form}" in answer.headers["content-disposition"]
    assert "fetch_export" in {row["verb"] for row in client.get("/v1/audit").json()["lines"]}
    assert client.delete(f"/v1/exports/{first}").status_code == 204
    assert [one["id"] for one in client.get("/v1/exports").json()] == [second]
    clock.move(30 * DAY + MINUTE)
    attend_office()
    assert client.get("/v1/exports").json() == []


def test_a_tour_is_listed_and_told_how_it_ended(client: TestClient, org: UUID) -> None:
    at = (Clock().now() + DAY).isoformat()
    made = use(org, "schedule_facility_tour", lead_id=str(make_row(org, "leads")), starts_at=at)
    [listed] = client.get("/v1/calendar-events", params={"kind": "tour", "status": "scheduled"}).json()
    assert listed["id"] == str(made["event_id"])
    path = f"/v1/calendar-events/{listed['id']}/outcome"
    assert client.post(path, json={"outcome": "no_show", "note": "ill"}).json()["status"] == "no_show"
    assert client.post(path, json={"outcome": "held"}).status_code == 409


def test_who_came_to_a_class_is_noted_once_it_has_begun(client: TestClient, org: UUID) -> None:
    spin, person = make_row(org, "classes"), make_row(org, "clients")
    past = make_row(org, "class_sessions", class_id=spin, starts_at=Clock().now() - DAY)
    coming = make_row(org, "class_sessions", class_id=spin)
    kept, later = (make_row(org, "bookings", client_id=person, session_id=one) for one in (past, coming))
    said = {"outcome": "attended"}
    assert client.post(f"/v1/bookings/{kept}/outcome", json=said).json()["status"] == "attended"
    assert client.post(f"/v1/bookings/{later}/outcome", json=said).status_code == 409
    [listed] = client.get("/v1/bookings", params={"session": str(past)}).json()
    assert listed["status"] == "attended"


def test_trials_are_listed_and_resources_read_and_taken_away(client: TestClient, org: UUID) -> None:
    session = make_row(org, "class_sessions", class_id=make_row(org, "classes"))
    lead = make_row(org, "leads")
    use(org, "book_trial_class", lead_id=str(lead), session_id=str(session))
    assert [one["lead_id"] for one in client.get("/v1/trials").json()] == [str(lead)]
    tool = TOOLS.get("create_resource")
    assert tool
    acting = Acting(org_id=org, user_id=owner_of(org), agent="a", task_id=new_id(), seq=1)
    with db.transaction(org) as connection:
        context = ToolContext(connection=connection, zone=ZONE, today=Clock().now().date(), acting=acting)
        made = tool.run(context, tool.validate({"kind": "equipment", "name": "Rower", "data": {"place": "One"}}))
    [listed] = client.get("/v1/resources", params={"kind": "equipment"}).json()
    assert (listed["id"], listed["data"]) == (str(made["resource_id"]), {"place": "One"})
    assert client.delete(f"/v1/resources/{listed['id']}").status_code == 204
    assert client.get("/v1/resources").json() == []
    assert client.get(f"/v1/resources/{listed['id']}").status_code == 404


# ── campaigns ────────────────────────────────────────────────────────────────────────────────────────────────────────


def opt_out(org: UUID, contact: UUID) -> None:
    with db.transaction(org) as connection:
        contacts.opt_out(connection, contact)


def draft(org: UUID, **audience: Any) -> dict[str, Any]:
    wanted = audience or {"tags": ["quiet"]}
    return use(org, "create_retention_campaign", message="{{name}}, come back!", **{"name": "Spring"} | wanted)


def quiet(org: UUID, name: str, **more: Any) -> UUID:
    return make_row(org, "clients", name=name, tags=["quiet"], email=f"{name.lower()}@example.com", **more)


@pytest.fixture
def people(org: UUID) -> dict[str, UUID]:
    """Two who may be written to, and three whom no tool may write to in order to win them."""
    made = {
        "Ana": quiet(org, "Ana"),
        "Ben": quiet(org, "Ben", status="lapsed", language="en"),
        "Gone": quiet(org, "Gone", status="cancelled"),
        "Silent": quiet(org, "Silent"),
        "Lost": make_row(org, "clients", name="Lost", tags=["quiet"], email=""),
    }
    opt_out(org, made["Silent"])
    return made


def test_the_audience_is_whom_the_sending_tools_would_not_refuse(
    client: TestClient, org: UUID, people: dict[str, UUID], box: Mailbox
) -> None:
    made = draft(org)
    assert (made["members"], made["some_members"]) == (2, ["Ana", "Ben"])
    assert made["left_out"] == {"has cancelled": 1, "wants no such messages": 1, "has no e-mail address": 1}
    for name, person in people.items():
        sends = {"client_id": str(person), "body": "We miss you"}
        if name in made["some_members"]:
            assert use(org, "send_retention_message", **sends)["status"] == "queued"
        else:
            with pytest.raises(NotPermitted, match=name):
                use(org, "send_retention_message", **sends)
    bulk = use(org, "send_bulk_message", client_ids=[str(one) for one in people.values()], body="Hello")
    assert (bulk["queued"], bulk["left_out"]) == (2, ["Gone", "Lost", "Silent"])


def test_a_campaign_runs_to_its_end_and_is_paid_for(
    client: TestClient, org: UUID, people: dict[str, UUID], box: Mailbox
) -> None:
    made = draft(org)
    path = f"/v1/campaigns/{made['campaign_id']}"
    attend_office()
    assert box.mails == []  # a draft sends nothing
    opt_out(org, people["Ben"])  # after it was drafted
    with db.transaction(org) as connection:
        before = wallet.balance(connection, org).balance
    for _ in range(2):
        assert client.post(f"{path}/launch").json()["status"] == "active"
    for _ in range(2):
        attend_office()
    assert client.get(path).json()["members"] == {"left_out": 1, "queued": 1}
    told(org)
    attend_office()
    shown = client.get(path).json()
    assert (shown["status"], shown["members"]) == ("finished", {"left_out": 1, "sent": 1})
    assert shown["ended_at"]
    mails = [one for one in box.texts() if one[0] == "ana@example.com"]
    assert mails == [("ana@example.com", "Ana, te echamos de menos", "Ana, come back!")]
    members = client.get(f"{path}/members").json()
    assert {one["name"]: one["reason"] for one in members} == {"Ana": None, "Ben": "wants no such messages"}
    assert told(org) == ["campaign.drafted", "campaign.finished"]
    with db.transaction(org) as connection:
        assert wallet.balance(connection, org).balance == before - 1
        found = wallet.reconcile(connection, org)
    assert (found.difference, found.held_difference) == (0, 0)
    assert client.post(f"{path}/cancel").status_code == 409


def test_a_campaign_waits_for_tokens_and_goes_on_with_them(client: TestClient, box: Mailbox, config: Settings) -> None:
    poor = make_organisation(f"poor-{new_id().hex[-12:]}", tokens=1)
    headers = {"authorization": f"Bearer {make_key(poor, SECRET_KEY)}"}
    with db.transaction(poor) as connection:
        wanted = EmailChannel(host="127.0.0.1", port=box.port, security="none", sender="gym@example.com")
        channels.set_up_email(connection, poor, wanted)
    quiet(poor, "Ana")
    quiet(poor, "Ben")
    path = f"/v1/campaigns/{draft(poor)['campaign_id']}"
    assert client.post(f"{path}/launch", headers=headers).status_code == 200
    attend_office()
    shown = client.get(path, headers=headers).json()
    assert (shown["status"], shown["members"]) == ("active", {"chosen": 1, "queued": 1})
    assert "Waits for tokens" in shown["note"]
    with db.transaction(poor) as connection:
        wallet.top_up(connection, poor, TopUp(tokens=5))
    attend_office()
    told(poor)
    attend_office()
    shown = client.get(path, headers=headers).json()
    assert (shown["status"], shown["members"], shown["note"]) == ("finished", {"sent": 2}, "")


def test_a_cancelled_campaign_writes_to_nobody_more_and_is_paid_back(
    client: TestClient, org: UUID, people: dict[str, UUID], box: Mailbox
) -> None:
    path = f"/v1/campaigns/{draft(org)['campaign_id']}"
    with db.transaction(org) as connection:
        before = wallet.balance(connection, org).balance
    client.post(f"{path}/launch")
    attend_office()
    shown = client.post(f"{path}/cancel").json()
    assert (shown["status"], shown["members"]) == ("cancelled", {"cancelled": 2})
    told(org)
    assert [one for one in box.texts() if "@example.com" in one[0] and "come back" in one[2]] == []
    with db.transaction(org) as connection:
        assert wallet.balance(connection, org).balance == before


def test_a_campaign_is_launched_only_where_its_messages_can_leave_and_by_who_may_send_them(
    client: TestClient, org: UUID, people: dict[str, UUID]
) -> None:
    path = f"/v1/campaigns/{draft(org)['campaign_id']}/launch"
    refused = client.post(path)
    assert (refused.status_code, "no email channel" in refused.text) == (409, True)
    headers = {"authorization": f"Bearer {make_key(org, SECRET_KEY, scopes=['campaigns:*'])}"}
    refused = client.post(path, headers=headers)
    assert (refused.status_code, "email:send" in refused.text) == (403, True)


def test_a_campaign_for_people_who_may_not_be_written_to_is_not_made(org: UUID, people: dict[str, UUID]) -> None:
    with pytest.raises(Exception, match="1 has cancelled"):
        draft(org, status="cancelled")


def test_a_campaign_whose_channel_was_removed_is_a_draft_again_and_says_what_to_do(
    client: TestClient, org: UUID, people: dict[str, UUID], box: Mailbox
) -> None:
    path = f"/v1/campaigns/{draft(org)['campaign_id']}"
    client.post(f"{path}/launch")
    with db.transaction(org) as connection:
        channels.remove_channel(connection, "email")
    attend_office()
    shown = client.get(path).json()
    assert (shown["status"], shown["members"]) == ("draft", {"chosen": 2})
    assert shown["note"].startswith("Stopped: This organisation has no email channel")
    assert shown["note"].endswith("Then launch it again.")


def test_two_who_carry_on_a_campaign_at_once_write_to_each_member_once_and_finish_it_once(
    client: TestClient, org: UUID, people: dict[str, UUID], box: Mailbox
) -> None:
    path = f"/v1/campaigns/{draft(org)['campaign_id']}"
    client.post(f"{path}/launch")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(endings.attend, [org] * 3))
        deliver_all(org)
        list(pool.map(endings.attend, [org] * 3))
    assert client.get(path).json()["status"] == "finished"
    assert sorted(to for to, _, body in box.texts() if body.endswith(", come back!")) == [
        "ana@example.com", "ben@example.com",
    ]  # fmt: skip
    assert told(org) == ["campaign.drafted", "campaign.finished"]


def test_members_are_listed_in_pages_and_a_campaign_that_is_over_is_not_launched(
    client: TestClient, org: UUID, people: dict[str, UUID], box: Mailbox
) -> None:
    path = f"/v1/campaigns/{draft(org)['campaign_id']}"
    [first] = client.get(f"{path}/members", params={"limit": 1}).json()
    [second] = client.get(f"{path}/members", params={"limit": 5, "after": first["client_id"]}).json()
    assert sorted([first["name"], second["name"]]) == ["Ana", "Ben"]
    assert client.get(f"{path}/members", params={"after": second["client_id"]}).json() == []
    for _ in range(2):
        assert client.post(f"{path}/cancel").json()["status"] == "cancelled"
    refused = client.post(f"{path}/launch")
    assert (refused.status_code, "is cancelled; it must be draft" in refused.text) == (409, True)
    assert client.get(f"/v1/campaigns/{new_id()}/members").status_code == 404


def test_two_who_hand_over_a_post_at_once_tell_of_it_once(client: TestClient, org: UUID, clock: Clock) -> None:
    schedule_post(org, clock)
    clock.move(timedelta(hours=2))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(endings.attend, [org] * 3))
    assert told(org) == ["post.due"]


def test_an_event_reported_twice_stays_as_it_was_reported_first(client: TestClient, org: UUID) -> None:
    at = (Clock().now() + DAY).isoformat()
    event = use(org, "schedule_facility_tour", lead_id=str(make_row(org, "leads")), starts_at=at)["event_id"]
    path = f"/v1/calendar-events/{event}/outcome"
    first = client.post(path, json={"outcome": "held", "note": "came"}).json()
    assert client.post(path, json={"outcome": "held", "note": "another note"}).json() == first
    refused = client.post(path, json={"outcome": "cancelled"})
    assert (refused.status_code, "what can follow is nothing: it has ended" in refused.text) == (409, True)


# ── the calendar ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Author:
    """Who makes a record."""

    org_id: UUID
    task_id: UUID = field(default_factory=new_id)
    agent: str = "a"


def add_event(org: UUID, starts_at: datetime, kind: EventKind = "tour", hours: float = 1) -> UUID:
    with db.transaction(org) as connection:
        made = office.add_event_alone(
            connection,
            Author(org),
            NewEvent(kind, "x"),
            starts_at=starts_at,
            duration=timedelta(hours=hours),
            zone=ZONE,
        )
    found: UUID = made["event_id"]
    return found


def test_events_of_a_kind_may_touch_and_not_overlap_and_other_kinds_do_not_matter(org: UUID, clock: Clock) -> None:
    clock.move_to(datetime(2027, 3, 1, 12, tzinfo=ZONE))
    ten = datetime(2027, 3, 2, 10, tzinfo=ZONE)
    first = add_event(org, ten)
    for starts, hours in ((ten, 1), (ten - HOUR / 2, 1), (ten + HOUR / 2, 0.1), (ten - HOUR, 3)):
        with pytest.raises(Conflict, match=r"Another tour is at 2027-03-02T10:00\+01:00"):
            add_event(org, starts, hours=hours)
    add_event(org, ten - HOUR)
    add_event(org, ten + HOUR)
    add_event(org, ten, "reminder")
    with db.transaction(org) as connection:
        records.settle_event(connection, first, EventOutcome(outcome="cancelled"))
    add_event(org, ten)
    add_event(make_organisation(f"org-{new_id().hex[-12:]}"), ten)


@pytest.mark.parametrize(
    ("starts_at", "said"),
    [
        (datetime(2027, 3, 1, 12, tzinfo=ZONE), "2027-03-01T12:00+01:00 has passed"),
        (datetime(2027, 3, 1, 11, 59), "2027-03-01T11:59+01:00 has passed"),  # noqa: DTZ001  by the gym's clock
        (datetime(2033, 1, 1, tzinfo=ZONE), "2033 is no year to plan for"),
        (datetime(1, 1, 1, tzinfo=UTC), "1 is no year to plan for"),
        (datetime(9999, 12, 31, 23, tzinfo=UTC), "9999 is no year to plan for"),
    ],
)
def test_an_event_lies_ahead_by_five_years_at_most(org: UUID, clock: Clock, starts_at: datetime, said: str) -> None:
    clock.move_to(datetime(2027, 3, 1, 12, tzinfo=ZONE))
    with pytest.raises(InvalidInput) as refused:
        add_event(org, starts_at)
    assert refused.value.message.startswith(said)


def test_a_day_of_the_calendar_is_the_organisations_also_when_it_has_23_or_25_hours(org: UUID, clock: Clock) -> None:
    def seen(first: date, last: date) -> list[Any]:
        with db.transaction(org) as connection:
            found = office.view_calendar(connection, first=first, last=last, kind=None, zone=ZONE, limit=50)
        return [event["starts_at"] for event in found]

    clock.move_to(datetime(2027, 3, 1, 12, tzinfo=ZONE))
    for day in (date(2027, 3, 28), date(2027, 10, 31)):  # the clocks are set forward, and back
        midnight = datetime.combine(day, time.min, ZONE)
        following = datetime.combine(day + DAY, time.min, ZONE)
        for starts in (midnight - MINUTE, midnight, following - MINUTE, following):
            add_event(org, starts, hours=0.01)
        assert seen(day, day) == [times.shown(one, ZONE) for one in (midnight, following - MINUTE)]
        assert len(seen(day - DAY, day + DAY)) == 4
        assert seen(day, day - DAY) == []


# ── from the command line ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def rota(config: Settings, org: UUID) -> Iterator[Callable[..., str]]:
    """The command, talking to a served API: what it prints, once it ended well."""
    with serving(make_app()) as url:
        key = make_key(org, SECRET_KEY)

        def run(*words: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "cli.main", *words],
                cwd=ROOT,
                env=os.environ | {"ROTA_API_URL": url, "ROTA_API_KEY": key, "COLUMNS": "200"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


def test_the_command_line_reaches_every_end(
    org: UUID, rota: Callable[..., str], clock: Clock, box: Mailbox, tmp_path: Path
) -> None:
    use(org, "create_support_ticket", subject="Broken rower", body="x")
    use(org, "create_lead_task", lead_id=str(make_row(org, "leads")), title="Call back")
    post, payment = schedule_post(org, clock), charge(org, clock)
    campaign = use(org, "create_retention_campaign", name="All", message="Come", status="active")["campaign_id"]
    export = str(use(org, "export_data", what="clients")["export_id"])
    at = (clock.now() + DAY).isoformat()
    event = str(use(org, "schedule_facility_tour", lead_id=str(make_row(org, "leads")), starts_at=at)["event_id"])
    [ticket] = json.loads(rota("tickets", "--json"))
    [task] = json.loads(rota("staff-tasks", "--json"))
    assert json.loads(rota("tickets", "move", ticket["id"], "closed", "--json"))["status"] == "closed"
    assert json.loads(rota("staff-tasks", "move", task["id"], "done", "--json"))["status"] == "done"
    said = rota("posts", "settle", post, "published", "--url", "https://social.example/1", "--json")
    assert json.loads(said)["url"] == "https://social.example/1"
    assert json.loads(rota("payments", "settle", payment, "failed", "--note", "card expired", "--json"))["note"]
    assert json.loads(rota("calendar", "settle", event, "held", "--json"))["status"] == "held"
    assert json.loads(rota("campaigns", "launch", str(campaign), "--json"))["status"] == "active"
    assert "Ana Torres" in rota("campaigns", "members", str(campaign))
    assert "Ana Torres" in rota("exports", "get", export)
    rota("exports", "get", export, "--output", str(tmp_path / "clients.csv"))
    assert "Ana Torres" in (tmp_path / "clients.csv").read_text()
    rota("exports", "remove", export)
    assert "No exports yet" in rota("exports")
    assert "No tickets are open." in rota("tickets", "--status", "open")
    assert "Broken rower" in rota("tickets", "show", ticket["id"])
