"""Follow-ups on a real database and a real mail server: planned once, sent when the rule says, stopped when it must."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from agents.learning.learner import Learner
from agents.tools import TOOLS
from agents.tools.registry import Acting, ToolContext
from api.app import make_app
from core import db
from core.errors import NotFound
from core.ids import new_id
from core.settings import Settings, settings
from domain.channels import delivery, queries
from domain.channels import service as channels
from domain.channels.schemas import EmailChannel, GatewaySettings, Outgoing, Room
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome
from domain.followups import sweep
from domain.followups.schemas import RuleFields
from tests.support.clock import Clock, movable_clock
from tests.support.factories import (
    ZONE,
    change_agent,
    claim,
    look,
    make_key,
    make_organisation,
    make_row,
    make_user,
    owner_of,
)
from tests.support.mail import Mailbox, mail_server
from tests.support.servers import SECRET_KEY
from workers.duties import follow_ups as duties

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2027, 3, 1, 12, tzinfo=ZONE)
"""a Monday; the tests begin then"""


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        made.move_to(NOON)
        yield made


@pytest.fixture
def box(org: UUID) -> Iterator[Mailbox]:
    with mail_server() as made:
        with db.system_transaction() as connection:
            connection.execute(text("DELETE FROM outbox"))
        with db.transaction(org) as connection:
            channel = EmailChannel(host="127.0.0.1", port=made.port, security="none", sender="gym@example.com")
            channels.set_up_email(connection, org, channel)
        yield made


@pytest.fixture
def client(org: UUID, clock: Clock, box: Mailbox) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("follow_ups", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def ana(org: UUID, clock: Clock) -> UUID:
    return make_row(org, "clients", language="en", created_at=clock.now() - 100 * DAY)


def switch(client: TestClient, slug: str, *, is_on: bool = True, **changes: Any) -> dict[str, Any]:
    """A rule, changed, and switched on or off."""
    if changes:
        known = client.get(f"/v1/follow-up-rules/{slug}").json()
        fields = {name: known[name] for name in RuleFields.model_fields}
        answer = client.put(f"/v1/follow-up-rules/{slug}", json=fields | changes)
        assert answer.is_success, answer.text
    answer = client.post(f"/v1/follow-up-rules/{slug}/switch", json={"is_on": is_on})
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


def put_quote(client: TestClient, contact: UUID, quote: UUID | None = None, **more: Any) -> UUID:
    """A quote, sent now."""
    quote = quote or new_id()
    body = {"contact": str(contact), "title": "Family membership", "amount": "480.00"}
    answer = client.put(f"/v1/quotes/{quote}", json=body | more)
    assert answer.is_success, answer.text
    return quote


def put_cart(client: TestClient, contact: UUID, cart: UUID | None = None, **more: Any) -> UUID:
    cart = cart or new_id()
    body = {"contact": str(contact), "items": [{"name": "Gloves", "price": "25.00", "quantity": 2}]}
    answer = client.put(f"/v1/carts/{cart}", json=body | more)
    assert answer.is_success, answer.text
    return cart


def allow(client: TestClient, contact: UUID, **fields: Any) -> None:
    answer = client.patch(f"/v1/contacts/{contact}/preferences", json={"has_consented": True} | fields)
    assert answer.is_success, answer.text


def found(client: TestClient, **wanted: Any) -> list[dict[str, Any]]:
    """Follow-ups, in the order of their times."""
    answer = client.get("/v1/follow-ups", params=wanted | {"limit": 200})
    assert answer.is_success, answer.text
    return sorted(answer.json(), key=lambda row: (row["wanted_at"], row["step"]))


def statuses(client: TestClient, **wanted: Any) -> list[str]:
    return [row["status"] for row in found(client, **wanted)]


def attend(org: UUID) -> Any:
    return sweep.attend(org, Learner(Random(1)).choose)


def write(org: UUID, row: dict[str, Any], body: str = "How are you?") -> dict[str, Any]:
    """What the tool answers when the task of a follow-up calls it; then the task has ended."""
    task = UUID(row["task_id"])
    tool = TOOLS.get("send_follow_up")
    assert tool
    held = claim(org, task)
    acting = Acting(org_id=org, user_id=owner_of(org), agent="follow-up", task_id=task, seq=3)
    with db.transaction(org) as connection:
        context = ToolContext(connection=connection, zone=ZONE, today=NOON.date(), acting=acting)
        answer = tool.run(context, tool.validate({"subject": "A word", "body": body}))
    if held:
        with db.transaction(org) as connection:
            claims.end(connection, held, ClaimOutcome(status="succeeded", outcome="succeeded", counted=True))
    return answer


def deliver() -> None:
    delivery.deliver_due(delivery.make_senders(settings()))


def go_round(org: UUID, client: TestClient) -> list[dict[str, Any]]:
    """Plan, start what is due, write it, and send it. Returns what was sent."""
    sweep.plan(org)
    attend(org)
    writing = found(client, status="writing")
    for row in writing:
        write(org, row)
    deliver()
    attend(org)
    ids = {row["id"] for row in writing}
    return [row for row in found(client, status="sent") if row["id"] in ids]


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_come_with_rota_and_are_off(client: TestClient, org: UUID, ana: UUID) -> None:
    listed = client.get("/v1/follow-up-rules").json()
    kinds = {rule["trigger"]["kind"] for rule in listed}
    assert kinds == {
        "quote_sent", "cart_left", "member_away", "trial_booked", "trial_missed", "lead_silent", "bought", "season",
    }  # fmt: skip
    assert all(rule["is_built_in"] and not rule["is_on"] for rule in listed)
    put_quote(client, ana)
    assert sweep.plan(org).planned == 0
    assert client.get("/v1/follow-up-rules/quote").json()["detail"].startswith("There is no rule called 'quote'. There")


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"steps": [{"after": "PT48H", "brief": "x"}, {"after": "PT24H", "brief": "y"}]}, "each must come later"),
        ({"steps": [{"after": "-PT1H", "brief": "x"}]}, "only trial_booked begins with something to come"),
        ({"steps": []}, "at least 1 item"),
        ({"quiet_hours": {"begin": "09:00", "end": "09:00"}}, "for no quiet hours give null"),
        ({"variants": [{"name": "a", "tone": "x"}, {"name": "a", "tone": "y"}]}, "two have the same name"),
        ({"variants": [{"name": "late", "tone": "x", "hour": 23}]}, "lies in the quiet hours"),
        ({"trigger": {"kind": "season", "first": "02-30", "last": "03-01", "offer": "x"}}, "no day of a year"),
        ({"trigger": {"kind": "full_moon"}}, "kind"),
        ({"cap": {"messages": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(client: TestClient, changes: dict[str, Any], about: str) -> None:
    fields = {"name": "mine", "trigger": {"kind": "quote_sent"}, "steps": [{"after": "PT1H", "brief": "x"}]}
    answer = client.put("/v1/follow-up-rules/mine", json=fields | changes)
    assert answer.status_code == 422
    assert about in answer.text
    missing = client.put("/v1/follow-up-rules/mine", json=fields | {"agent": "nobody"})
    assert missing.status_code == 404


def test_a_rule_of_your_own_and_one_that_is_taken_away(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    fields = {
        "name": "mine", "trigger": {"kind": "quote_sent"}, "steps": [{"after": "PT1H", "brief": "x"}],
        "needs_consent": False,
    }  # fmt: skip
    made = client.put("/v1/follow-up-rules/mine", json=fields).json()
    assert (made["is_on"], made["is_built_in"]) == (False, False)
    switch(client, "mine")
    put_quote(client, ana)
    assert sweep.plan(org).planned == 1
    assert client.delete("/v1/follow-up-rules/mine").status_code == 204
    assert client.delete("/v1/follow-up-rules/mine").status_code == 404
    clock.move(HOUR)
    attend(org)
    (row,) = found(client)
    assert (row["status"], row["reason"]) == ("stopped", "the rule was taken away")


def test_what_began_before_the_rule_was_on_is_left_alone(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    put_quote(client, ana)
    clock.move(HOUR)
    switch(client, "quotes")
    later = put_quote(client, ana)
    assert sweep.plan(org).planned == 3
    assert {row["subject"] for row in found(client)} == {str(later)}


def test_switched_off_nothing_more_is_sent_and_on_again_only_what_is_new(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    switch(client, "quotes", is_on=False)
    assert statuses(client) == ["stopped"] * 3
    assert {row["reason"] for row in found(client)} == {"the rule was switched off"}
    clock.move(HOUR)
    switch(client, "quotes")
    assert sweep.plan(org).planned == 0


def test_new_delays_move_what_is_planned_and_steps_that_are_gone_are_not_sent(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes")
    quote = put_quote(client, ana)
    sweep.plan(org)
    sent_at = datetime.fromisoformat(client.get(f"/v1/quotes/{quote}").json()["sent_at"])
    switch(client, "quotes", steps=[{"after": "PT2H", "brief": "x"}])
    first, *others = found(client)
    assert datetime.fromisoformat(first["due_at"]) == sent_at + 2 * HOUR
    sweep.plan(org)
    assert {row["reason"] for row in found(client) if row["id"] != first["id"]} == {
        "the rule has no such step any more"
    }
    assert len(others) == 2
    switch(client, "quotes", steps=[{"after": f"PT{hours}H", "brief": "x"} for hours in (2, 3, 4, 5)])
    assert sweep.plan(org).planned == 1


# ── a sequence ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_quote_is_followed_up_until_it_is_accepted(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    switch(client, "quotes")
    quote = put_quote(client, ana)
    assert go_round(org, client) == []
    clock.move(24 * HOUR - timedelta(minutes=1))
    assert go_round(org, client) == []
    clock.move(timedelta(minutes=1))
    (first,) = go_round(org, client)
    task = look(org, UUID(first["task_id"]))
    assert (task.agent, task.input["has_outside_context"], task.contact) == ("follow-up", True, ana)
    assert task.input["context"]["about"]["quote"] == "Family membership"
    assert task.input["context"]["message"] == "1 of 3"
    ((to, subject, body),) = box.texts()
    assert (to, subject) == ("ana@example.com", "A word")
    assert body.startswith("How are you?")
    assert body.endswith("answer STOP.")
    clock.move(24 * HOUR)
    (second,) = go_round(org, client)
    assert second["step"] == 2
    letters = look(org, UUID(second["task_id"])).input["context"]["correspondence"]
    assert [letter["direction"] for letter in letters] == ["sent"]
    clock.move(HOUR)
    put_quote(client, ana, quote, status="accepted")
    clock.move(23 * HOUR)
    assert go_round(org, client) == []
    *_, third = found(client)
    assert (third["status"], third["reason"]) == ("stopped", "the quote was accepted")
    _, second, _ = found(client)
    assert second["converted_at"] is not None
    assert (Decimal(second["revenue"]), second["currency"]) == (Decimal("480.00"), "EUR")
    effects = client.get("/v1/follow-ups/effectiveness").json()
    assert [(one["step"], one["sent"], one["converted"], one["stopped"]) for one in effects] == [
        (1, 1, 0, 0), (2, 1, 1, 0), (3, 0, 0, 1),
    ]  # fmt: skip
    assert Decimal(effects[1]["revenue"]["EUR"]) == Decimal("480.00")


def test_each_step_is_planned_and_started_once_whatever_works_at_once(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes")
    for _ in range(3):
        put_quote(client, make_row(org, "clients", email=f"{new_id()}@example.com", created_at=clock.now()))

    def all_of_it(_: int) -> int:
        sweep.plan(org)
        started: int = attend(org).started
        return started

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(all_of_it, range(4)))
        clock.move(24 * HOUR)
        started = sum(pool.map(all_of_it, range(4)))
    assert started == 3
    assert len(found(client)) == 9
    with db.transaction(org) as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks")).scalar_one() == 3


def test_the_duties_attend_to_every_organisation(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    duties.plan_follow_ups()
    clock.move(24 * HOUR)
    duties.attend_follow_ups()
    assert statuses(client) == ["writing", "planned", "planned"]
    duties.attend_follow_ups()
    assert statuses(client) == ["writing", "planned", "planned"]


def test_what_is_found_too_late_is_skipped_and_of_two_that_are_due_only_the_last_is_sent(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes", lateness="P3D")
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(50 * HOUR)
    (sent,) = go_round(org, client)
    assert sent["step"] == 2
    first, *_ = found(client)
    assert (first["status"], first["reason"]) == ("skipped", "a later message of the sequence was due too")
    clock.move(10 * DAY)
    assert go_round(org, client) == []
    *_, third = found(client)
    assert (third["status"], third["reason"]) == ("skipped", "its time had passed when it was attended to")


def test_a_step_waits_for_the_one_before_it(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes", steps=[{"after": "PT1H", "brief": "x"}, {"after": "PT2H", "brief": "y"}])
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(HOUR)
    attend(org)
    clock.move(HOUR)
    attend(org)
    first, second = found(client)
    assert (first["status"], second["status"]) == ("writing", "planned")
    assert second["reason"] == "put off: an earlier message is on its way"
    write(org, first)
    deliver()
    clock.move(HOUR)
    (sent,) = go_round(org, client)
    assert sent["step"] == 2


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("zone", "begun", "leaves"),
    [
        (None, "2027-03-02 20:58", "2027-03-03 20:58"),
        (None, "2027-03-02 21:00", "2027-03-04 09:00"),
        (None, "2027-03-02 20:59:30", "2027-03-04 09:00"),  # it would arrive after nine
        (None, "2027-03-02 03:00", "2027-03-03 09:00"),
        ("America/New_York", "2027-03-02 14:00", "2027-03-03 15:00"),  # eight in the morning there
        ("Asia/Tokyo", "2027-03-02 10:00", "2027-03-03 10:00"),
        (None, "2027-03-27 02:30", "2027-03-28 09:00"),  # the clocks are set forward that night
    ],
)
def test_nothing_leaves_in_quiet_hours_of_the_contacts_clock(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, *, zone: str | None, begun: str, leaves: str
) -> None:
    if zone:
        allow(client, ana, time_zone=zone)
    clock.move_to(datetime.fromisoformat(begun).replace(tzinfo=ZONE))
    switch(client, "quotes", steps=[{"after": "PT24H", "brief": "x"}])
    put_quote(client, ana)
    sweep.plan(org)
    expected = datetime.fromisoformat(leaves).replace(tzinfo=ZONE)
    clock.move(24 * HOUR)
    if go_round(org, client) == []:
        (row,) = found(client)
        assert row["reason"] == "put off: quiet hours"
        assert abs(datetime.fromisoformat(row["due_at"]) - expected) < timedelta(seconds=1)
        clock.move_to(expected)
        assert len(go_round(org, client)) == 1
    (row,) = found(client)
    assert abs(datetime.fromisoformat(row["sent_at"]) - expected) < timedelta(seconds=30)


def test_what_was_written_late_or_could_not_leave_waits_for_the_end_of_quiet_hours(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    clock.move_to(datetime(2027, 3, 2, 20, 30, tzinfo=ZONE))
    switch(client, "quotes", steps=[{"after": "PT0S", "brief": "x"}])
    put_quote(client, ana)
    leo = make_row(org, "clients", email="leo@example.com", created_at=clock.now())
    put_quote(client, leo)
    sweep.plan(org)
    attend(org)
    early, late = found(client)
    write(org, early)
    box.answers += ["451 later"]
    deliver()
    clock.move(timedelta(minutes=45))
    attend(org)
    answer = write(org, late)
    assert answer["send_after"] == "2027-03-03T09:00+01:00"
    deliver()
    assert box.mails == []
    clock.move_to(datetime(2027, 3, 3, 9, tzinfo=ZONE))
    deliver()
    attend(org)
    assert len(box.mails) == 2
    assert statuses(client) == ["sent", "sent"]


def test_what_cannot_leave_in_time_is_withdrawn_and_not_paid_for(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    clock.move_to(datetime(2027, 3, 2, 20, 0, tzinfo=ZONE))
    switch(client, "quotes", steps=[{"after": "PT0S", "brief": "x"}], lateness="PT2H")
    put_quote(client, ana)
    sweep.plan(org)
    attend(org)
    (row,) = found(client)
    write(org, row)
    box.answers += ["451 later"]
    deliver()
    clock.move(timedelta(minutes=75))
    attend(org)
    (row,) = found(client)
    assert (row["status"], row["reason"]) == ("skipped", "it could not be sent in time")
    with db.transaction(org) as connection:
        assert channels.get_message(connection, UUID(row["message_id"])).status == "cancelled"


def test_the_cap_counts_the_follow_ups_of_all_rules(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    more: dict[str, Any] = {"cap": {"messages": 2, "within": "P1D"}, "lateness": "P2D", "needs_consent": False}
    for slug in ("quotes", "abandoned-carts"):
        switch(client, slug, steps=[{"after": "PT1H", "brief": "x"}], variants=[{"name": "a", "tone": "x"}], **more)
    put_quote(client, ana)
    put_quote(client, ana)
    put_cart(client, ana)
    sweep.plan(org)
    clock.move(HOUR)
    assert len(go_round(org, client)) == 2
    assert sorted(statuses(client)) == ["planned", "sent", "sent"]
    (waiting,) = found(client, status="planned")
    assert waiting["reason"] == "put off: the cap"
    clock.move(23 * HOUR)
    assert go_round(org, client) == []
    clock.move(HOUR)
    assert len(go_round(org, client)) == 1


def test_an_hour_is_waited_for_and_the_choice_is_kept(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    variants = [{"name": "evening", "tone": "warm", "hour": 19}]
    switch(client, "quotes", steps=[{"after": "PT1H", "brief": "x"}], variants=variants)
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(HOUR)
    attend(org)
    (row,) = found(client)
    assert (row["status"], row["reason"], row["variant"]) == ("planned", "put off: its hour", "evening")
    assert datetime.fromisoformat(row["due_at"]) == datetime(2027, 3, 1, 19, tzinfo=ZONE)
    clock.move_to(datetime(2027, 3, 1, 19, tzinfo=ZONE))
    (sent,) = go_round(org, client)
    assert sent["choice_id"] == row["choice_id"]
    assert len(client.get("/v1/learning/choices").json()) == 1


# ── whom not to write to ─────────────────────────────────────────────────────────────────────────────────────────────


def test_advertising_needs_consent(client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox) -> None:
    leo = make_row(org, "clients", email="leo@example.com", created_at=clock.now())
    allow(client, leo)
    switch(client, "abandoned-carts", variants=[{"name": "a", "tone": "x"}])
    put_cart(client, ana)
    put_cart(client, leo)
    sweep.plan(org)
    clock.move(4 * HOUR)
    go_round(org, client)
    assert [to for to, _, _ in box.texts()] == ["leo@example.com"]
    skipped = found(client, status="skipped")
    assert {(row["contact"], row["reason"]) for row in skipped} == {
        (str(ana), "they have not consented to advertising")
    }


def reply(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/inbox", json={"channel": "email"} | fields)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_answer_stops_what_is_planned_written_and_queued(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    switch(client, "quotes")
    switch(client, "abandoned-carts", needs_consent=False, variants=[{"name": "a", "tone": "x"}])
    put_quote(client, ana)
    clock.move(23 * HOUR)
    put_cart(client, ana, touched_at=(clock.now() - 3 * HOUR).isoformat())
    sweep.plan(org)
    clock.move(HOUR)
    attend(org)
    queued, written = found(client, status="writing")
    write(org, queued)
    answer = reply(client, sender="ANA@example.com", body="Thank you, I am thinking about it")
    assert (answer["contact"], answer["stopped"], answer["is_opt_out"]) == (str(ana), 5, False)
    assert {row["reason"] for row in found(client, status="stopped")} == {"they answered"}
    refusal = write(org, written)
    assert refusal == {"status": "not sent", "why": "they answered"}
    deliver()
    attend(org)
    assert box.mails == []
    assert go_round(org, client) == []
    with db.transaction(org) as connection:
        assert channels.get_message(connection, UUID(found_message(client, queued))).status == "cancelled"


def found_message(client: TestClient, row: dict[str, Any]) -> str:
    message: str = client.get(f"/v1/follow-ups/{row['id']}").json()["message_id"]
    return message


def test_the_task_of_a_stopped_follow_up_is_cancelled(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(24 * HOUR)
    attend(org)
    (row,) = found(client, status="writing")
    stopped = client.post(f"/v1/follow-ups/{row['id']}/stop").json()
    assert (stopped["status"], stopped["reason"]) == ("stopped", "stopped by hand")
    assert client.post(f"/v1/follow-ups/{row['id']}/stop").status_code == 200
    attend(org)
    assert look(org, UUID(row["task_id"])).status == "cancelled"
    (choice,) = client.get("/v1/learning/choices").json()
    assert choice["outcome"] == "void"
    assert client.post(f"/v1/follow-ups/{new_id()}/stop").status_code == 404


def test_what_was_sent_cannot_be_stopped(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(24 * HOUR)
    (sent,) = go_round(org, client)
    assert client.post(f"/v1/follow-ups/{sent['id']}/stop").status_code == 409


@pytest.mark.parametrize(
    ("body", "is_opt_out"),
    [
        ("STOP", True), ("stop.", True), ("Baja", True), ("  Unsubscribe!\n\n> earlier words", True),
        ("No más", True), ("> STOP", False), ("Please stop by tomorrow", False), ("", False),
        ("Does the lift stop here?", False),
    ],
)  # fmt: skip
def test_stop_opts_out_for_good(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, *, body: str, is_opt_out: bool
) -> None:
    allow(client, ana)
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    assert reply(client, contact=str(ana), body=body)["is_opt_out"] is is_opt_out
    allowed = client.get(f"/v1/contacts/{ana}/preferences").json()
    assert (allowed["has_opted_out"], allowed["has_consented"]) == (is_opt_out, not is_opt_out)
    clock.move(HOUR)
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(24 * HOUR)
    assert len(go_round(org, client)) == (0 if is_opt_out else 1)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"sender": "ana@example.com", "body": "Away", "headers": {"Auto-Submitted": "auto-replied"}}, "auto_reply"),
        ({"sender": "ana@example.com", "body": "STOP", "headers": {"Precedence": "auto_reply"}}, "auto_reply"),
        ({"sender": "ana@example.com", "subject": "Out of office", "body": "Back on Monday"}, "auto_reply"),
        (
            {"sender": "mailer-daemon@mx.example.org",
             "body": "Sorry.\n\nFinal-Recipient: rfc822; ana@example.com\nAction: failed\nStatus: 5.1.1\n"},
            "bounce",
        ),
    ],
)  # fmt: skip
def test_what_no_person_wrote_is_no_answer(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, *, fields: dict[str, Any], kind: str
) -> None:
    switch(client, "quotes", variants=[{"name": "a", "tone": "x"}])
    put_quote(client, ana)
    clock.move(24 * HOUR)
    (sent,) = go_round(org, client)
    clock.move(HOUR)
    answer = reply(client, **fields)
    assert (answer["contact"], answer["kind"], answer["stopped"], answer["is_opt_out"]) == (str(ana), kind, 0, False)
    sweep.plan(org)
    row = next(one for one in found(client) if one["id"] == sent["id"])
    assert row["answered_at"] is None
    assert {choice["outcome"] for choice in client.get("/v1/learning/choices").json()} == {None}
    assert "planned" in statuses(client)  # the next message of the sequence still comes
    assert not client.get(f"/v1/contacts/{ana}/preferences").json()["has_opted_out"]
    assert [one["kind"] for one in client.get("/v1/inbox").json()] == [kind]
    answer = reply(client, sender="ana@example.com", body="Yes please", headers={"Auto-Submitted": "no"})
    assert (answer["kind"], answer["stopped"] > 0) == ("words", True)
    assert {choice["outcome"] for choice in client.get("/v1/learning/choices").json()} == {"success"}


def test_what_is_delivered_twice_is_kept_once(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    first = reply(client, contact=str(ana), body="Hello", outside_id="mail-1")
    put_quote(client, ana)
    sweep.plan(org)
    second = reply(client, contact=str(ana), body="Hello", outside_id="mail-1")
    assert (first["id"], first["stopped"], second["stopped"]) == (second["id"], 3, 0)
    assert len(client.get("/v1/inbox", params={"contact": str(ana)}).json()) == 1
    assert statuses(client, status="planned") == ["planned"] * 3


def test_an_answer_must_be_somebodys(client: TestClient, org: UUID, ana: UUID) -> None:
    def answer(**fields: Any) -> Any:
        return client.post("/v1/inbox", json={"channel": "email", "body": "Hi"} | fields)

    assert answer(sender="nobody@example.com").status_code == 404
    assert answer(contact=str(new_id())).status_code == 404
    assert answer().status_code == 422
    assert answer(sender="+34 600-111-222").status_code == 201


def test_opting_out_by_hand_stops_what_is_open(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    allow(client, ana, has_consented=False, has_opted_out=True)
    assert {row["reason"] for row in found(client)} == {"they want no follow-ups"}
    assert client.get(f"/v1/contacts/{new_id()}/preferences").status_code == 404
    zone = client.patch(f"/v1/contacts/{ana}/preferences", json={"time_zone": "Mars/Base"})
    assert zone.status_code == 422
    assert "Europe/Madrid" in zone.text


def test_bought_meanwhile_the_tool_refuses(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    quote = put_quote(client, ana)
    sweep.plan(org)
    clock.move(24 * HOUR)
    attend(org)
    (row,) = found(client, status="writing")
    put_quote(client, ana, quote, status="declined")
    assert write(org, row)["why"] == "the quote was declined"
    assert found(client, status="stopped")[0]["id"] == row["id"]


def test_the_tool_belongs_to_the_tasks_of_rules(client: TestClient, org: UUID, ana: UUID) -> None:
    with pytest.raises(NotFound, match="writes no follow-up"):
        write(org, {"task_id": str(new_id())})


@pytest.mark.parametrize(
    ("ending", "reason"), [("no words", "its task ended without sending it"), ("off", "its agent is switched off")]
)
def test_what_is_not_written_has_failed(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, *, ending: str, reason: str
) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(24 * HOUR)
    if ending == "off":
        change_agent(org, "follow-up", enabled=False)
    attend(org)
    if ending == "no words":
        (row,) = found(client, status="writing")
        held = claim(org, UUID(row["task_id"]))
        assert held
        with db.transaction(org) as connection:
            claims.end(connection, held, ClaimOutcome(status="succeeded", outcome="succeeded", counted=True))
        attend(org)
    first, *_ = found(client)
    assert first["status"] == "failed"
    assert first["reason"].startswith(reason)


def test_who_cannot_be_reached_is_skipped_and_the_channel_follows_the_variant(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    leo = make_row(org, "leads", phone=None, created_at=clock.now() - DAY)
    variants = [{"name": "text", "tone": "x", "channel": "sms"}]
    switch(client, "quotes", variants=variants)
    put_quote(client, ana)
    put_quote(client, leo)
    sweep.plan(org)
    clock.move(24 * HOUR)
    attend(org)
    assert {row["reason"] for row in found(client, status="skipped")} == {"no channel reaches them"}
    with db.transaction(org) as connection:
        channels.set_up_gateway(connection, org, "sms", GatewaySettings(url="http://127.0.0.1:9/"))
    clock.move(24 * HOUR)
    attend(org)
    (row,) = found(client, status="writing")
    assert (row["contact"], row["channel"]) == (str(ana), "sms")


# ── each trigger ─────────────────────────────────────────────────────────────────────────────────────────────────────


def session(org: UUID, starts_at: datetime) -> UUID:
    return make_row(org, "class_sessions", class_id=make_row(org, "classes"), starts_at=starts_at)


def test_members_who_stay_away(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "lapsed-members", needs_consent=False, variants=[{"name": "a", "tone": "x"}])
    came = session(org, clock.now() - 20 * DAY)
    make_row(org, "bookings", client_id=ana, session_id=came, status="attended", created_at=clock.now() - 21 * DAY)
    away = make_row(org, "clients", email="b@example.com", created_at=clock.now() - 20 * DAY)
    regular = make_row(org, "clients", email="c@example.com", created_at=clock.now() - 90 * DAY)
    make_row(org, "bookings", client_id=regular, session_id=session(org, clock.now() + 30 * DAY))
    assert sweep.plan(org).planned == 0
    clock.move(DAY)
    sent = go_round(org, client)
    assert {row["contact"] for row in sent} == {str(ana), str(away)}
    clock.move(DAY)
    make_row(org, "bookings", client_id=ana, session_id=session(org, clock.now() + DAY), created_at=clock.now())
    clock.move(9 * DAY)
    assert [row["contact"] for row in go_round(org, client)] == [str(away)]
    (converted,) = [row for row in found(client, contact=str(ana)) if row["converted_at"]]
    assert converted["step"] == 1
    assert found(client, contact=str(ana), status="stopped")[0]["reason"] == "they booked again"


def test_trials_booked_missed_and_leads_left_alone(client: TestClient, org: UUID, clock: Clock, box: Mailbox) -> None:
    for slug in ("trial-reminders", "missed-trials", "silent-leads"):
        switch(client, slug, variants=[{"name": "a", "tone": "x"}])
    lead = make_row(org, "leads", created_at=clock.now())
    clock.move(HOUR)
    assert [row["rule"] for row in go_round(org, client)] == ["silent-leads"]
    starts_at = clock.now() + 2 * DAY
    trial = make_row(org, "trial_bookings", lead_id=lead, session_id=session(org, starts_at), created_at=clock.now())
    with db.transaction(org) as connection:
        connection.execute(
            text("UPDATE contacts SET status = 'trial_booked', updated_at = rota_now() WHERE id = :id"), {"id": lead}
        )
    clock.move(DAY)
    (reminder,) = go_round(org, client)
    assert reminder["rule"] == "trial-reminders"
    assert reminder["facts"]["class"] == "Spin"
    clock.move_to(starts_at + 4 * HOUR)
    answer = client.put(f"/v1/trials/{trial}/outcome", json={"outcome": "no_show"})
    assert answer.json()["status"] == "no_show"
    (missed,) = go_round(org, client)
    assert missed["rule"] == "missed-trials"
    silent = found(client, rule="silent-leads")
    assert {row["reason"] for row in silent if row["status"] == "stopped"} == {"the lead got on: trial_booked"}
    assert silent[0]["converted_at"] is not None
    assert client.put(f"/v1/trials/{trial}/outcome", json={"outcome": "attended"}).status_code == 409
    assert client.put(f"/v1/trials/{new_id()}/outcome", json={"outcome": "attended"}).status_code == 404


def test_who_came_to_a_trial_has_done_it(client: TestClient, org: UUID, clock: Clock) -> None:
    lead = make_row(org, "leads", status="trial_booked", created_at=clock.now())
    trial = make_row(org, "trial_bookings", lead_id=lead, session_id=session(org, clock.now()))
    for _ in range(2):
        assert client.put(f"/v1/trials/{trial}/outcome", json={"outcome": "attended"}).json()["status"] == "attended"
    with db.transaction(org) as connection:
        status = connection.execute(text("SELECT status FROM contacts WHERE id = :id"), {"id": lead}).scalar_one()
    assert status == "trial_done"


def test_a_purchase_is_followed_by_what_goes_with_it(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    ids = {}
    for name, category in [("Gloves", "boxing"), ("Wraps", "boxing"), ("Mat", "yoga")]:
        ids[name] = new_id()
        body = {"name": name, "category": category, "price": "12.50"}
        assert client.put(f"/v1/products/{ids[name]}", json=body).is_success
    allow(client, ana)
    switch(client, "recommendations")
    item = {"name": "Gloves", "price": "25.00", "product": str(ids["Gloves"])}
    put_cart(client, ana, items=[item], status="bought")
    clock.move(7 * DAY)
    (row,) = go_round(org, client)
    assert [product["name"] for product in row["facts"]["products"]] == ["Wraps"]
    put_cart(client, ana, items=[item], status="bought")
    sweep.plan(org)
    row = client.get(f"/v1/follow-ups/{row['id']}").json()
    assert Decimal(row["revenue"]) == Decimal("25.00")


def test_the_offer_of_a_season_goes_once_a_year_to_its_audience(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    make_row(org, "clients", email="gone@example.com", status="lapsed", created_at=clock.now())
    trigger = {"kind": "season", "first": "12-28", "last": "01-05", "audience": "active", "offer": "A free month"}
    switch(client, "season", trigger=trigger, needs_consent=False)
    clock.move_to(datetime(2027, 12, 27, 23, 59, tzinfo=ZONE))
    assert sweep.plan(org).planned == 0
    clock.move_to(datetime(2027, 12, 28, 10, tzinfo=ZONE))
    (row,) = go_round(org, client)
    assert (row["contact"], row["facts"]) == (str(ana), {"offer": "A free month"})
    clock.move_to(datetime(2028, 1, 3, 10, tzinfo=ZONE))
    assert go_round(org, client) == []
    clock.move_to(datetime(2028, 12, 28, 10, tzinfo=ZONE))
    assert len(go_round(org, client)) == 1


# ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_answer_counts_for_the_last_message_and_teaches_the_variant(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes", attribution="P2D")
    put_quote(client, ana)
    sweep.plan(org)
    clock.move(24 * HOUR)
    (first,) = go_round(org, client)
    clock.move(24 * HOUR)
    (second,) = go_round(org, client)
    clock.move(HOUR)
    reply(client, contact=str(ana), body="Yes, please")
    answered = [row["step"] for row in found(client) if row["answered_at"]]
    assert answered == [2]
    choices = {one["id"]: one for one in client.get("/v1/learning/choices").json()}
    assert (choices[second["choice_id"]]["outcome"], choices[first["choice_id"]]["outcome"]) == ("success", None)
    assert all(0 < one["propensity"] <= 1 for one in choices.values())
    clock.move(3 * DAY)
    sweep.plan(org)
    outcomes = {one["id"]: one["outcome"] for one in client.get("/v1/learning/choices").json()}
    assert outcomes == {first["choice_id"]: "failure", second["choice_id"]: "success"}
    arms = client.get("/v1/learning/arms", params={"policy": "follow-up quotes"}).json()
    assert sum(arm["chosen"] for arm in arms) == 2
    assert sorted((arm["context"], arm["successes"], arm["failures"]) for arm in arms if arm["chosen"]) == [
        ("client, step 1", 0, 1), ("client, step 2", 1, 0),
    ]  # fmt: skip
    sweep.plan(org)
    assert client.get("/v1/learning/arms").json() == arms


def test_a_late_answer_or_purchase_counts_for_nothing(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes", attribution="P1D", steps=[{"after": "PT1H", "brief": "x"}])
    quote = put_quote(client, ana)
    sweep.plan(org)
    clock.move(HOUR)
    go_round(org, client)
    clock.move(25 * HOUR)
    reply(client, contact=str(ana), body="Yes, please")
    put_quote(client, ana, quote, status="accepted")
    sweep.plan(org)
    (row,) = found(client)
    assert (row["answered_at"], row["converted_at"]) == (None, None)
    assert client.get("/v1/learning/choices").json()[0]["outcome"] == "failure"


def test_one_purchase_counts_once(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    """Two rules wrote about the same cart: what it brings counts for the later message."""
    for slug in ("abandoned-carts", "mine"):
        fields = {
            "name": slug, "trigger": {"kind": "cart_left"}, "needs_consent": False,
            "steps": [{"after": "PT1H" if slug == "mine" else "PT2H", "brief": "x"}],
        }  # fmt: skip
        assert client.put(f"/v1/follow-up-rules/{slug}", json=fields).is_success
        switch(client, slug)
    cart = put_cart(client, ana)
    for _ in range(2):
        sweep.plan(org)
        clock.move(HOUR)
        assert len(go_round(org, client)) == 1
    clock.move(HOUR)
    put_cart(client, ana, cart, status="bought")
    sweep.plan(org)
    sweep.plan(org)
    assert [(row["rule"], row["revenue"]) for row in found(client) if row["converted_at"]] == [
        ("abandoned-carts", "50.00")
    ]


def test_what_only_some_may_see_and_do(client: TestClient, org: UUID, ana: UUID) -> None:
    viewer = {"authorization": f"Bearer {make_key(org, SECRET_KEY, user=make_user(org, 'viewer'))}"}
    assert client.get("/v1/follow-ups", headers=viewer).status_code == 200
    for method, path, body in [
        ("POST", "/v1/follow-up-rules/quotes/switch", {"is_on": True}),
        ("POST", "/v1/follow-ups/check", None),
        ("PATCH", f"/v1/contacts/{ana}/preferences", {}),
        ("POST", "/v1/inbox", {"contact": str(ana), "channel": "email", "body": "x"}),
    ]:
        assert client.request(method, path, json=body, headers=viewer).status_code == 403, path
    assert client.post("/v1/follow-ups/check").json()["planned"] == 0


# ── faults that were found ───────────────────────────────────────────────────────────────────────────────────────────


def quick(client: TestClient, **more: Any) -> None:
    """The rule for quotes with one message, at once."""
    switch(client, "quotes", steps=[{"after": "PT0S", "brief": "x"}], **more)


def in_hand(org: UUID, client: TestClient) -> Outgoing:
    """A follow-up whose message a sender has in hand."""
    sweep.plan(org)
    attend(org)
    (row,) = found(client, status="writing")
    write(org, row)
    with db.system_transaction() as connection:
        room = Room(["email"], messages=1, to_troubled=1, of_organisation=8, of_receiver=8, served=[])
        (taken,) = queries.take_due(connection, room)
        return taken


def test_what_was_being_sent_when_they_said_stop_is_not_sent_again(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    quick(client)
    put_quote(client, ana)
    taken = in_hand(org, client)
    reply(client, contact=str(ana), body="STOP")
    with db.system_transaction() as connection:
        again = {"id": taken.id, "attempts": taken.attempts, "status": "queued", "delay": timedelta(seconds=5)}
        assert queries.note_result(connection, again) == "cancelled"
    clock.move(timedelta(minutes=1))
    deliver()
    attend(org)
    assert box.mails == []
    assert found(client)[0]["reason"] == "its message was cancelled"


def test_a_message_of_unknown_outcome_ends_its_follow_up_and_is_not_sent_again(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    quick(client)
    put_quote(client, ana)
    taken = in_hand(org, client)
    clock.move(HOUR)
    delivery.reclaim_left_behind(delivery.make_senders(settings()))
    attend(org)
    (row,) = found(client)
    assert (row["status"], row["reason"]) == ("failed", "nobody knows whether it left")
    again = client.post(f"/v1/messages/{taken.id}/outcome", json={"outcome": "send_again"})
    assert again.status_code == 409
    assert "Nobody wants this message" in again.json()["detail"]
    assert client.post(f"/v1/messages/{taken.id}/outcome", json={"outcome": "not_sent"}).status_code == 200


def test_a_change_of_preferences_leaves_the_others(client: TestClient, org: UUID, ana: UUID) -> None:
    reply(client, contact=str(ana), body="STOP")
    allow(client, ana, time_zone="Asia/Tokyo")
    allowed = client.patch(f"/v1/contacts/{ana}/preferences", json={}).json()
    assert (allowed["has_opted_out"], allowed["has_consented"], allowed["time_zone"]) == (True, True, "Asia/Tokyo")
    allowed = client.patch(f"/v1/contacts/{ana}/preferences", json={"has_opted_out": False, "time_zone": None}).json()
    assert (allowed["has_opted_out"], allowed["time_zone"]) == (False, None)


def test_consent_taken_back_stops_what_is_queued(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    allow(client, ana)
    clock.move_to(datetime(2027, 3, 2, 20, 30, tzinfo=ZONE))
    quick(client, needs_consent=True)
    put_quote(client, ana)
    sweep.plan(org)
    attend(org)
    clock.move(HOUR)
    write(org, found(client)[0])
    allow(client, ana, has_consented=False)
    sweep.plan(org)
    clock.move_to(datetime(2027, 3, 3, 9, tzinfo=ZONE))
    deliver()
    assert box.mails == []


def test_senders_leave_alone_what_would_arrive_in_quiet_hours_or_too_late(
    client: TestClient, org: UUID, ana: UUID, clock: Clock, box: Mailbox
) -> None:
    clock.move_to(datetime(2027, 3, 2, 20, 45, tzinfo=ZONE))
    quick(client)
    put_quote(client, ana)
    sweep.plan(org)
    attend(org)
    write(org, found(client)[0])
    for hours in (3, 72):
        clock.move(hours * HOUR)
        deliver()
        assert box.mails == []
    attend(org)
    assert found(client)[0]["reason"] == "it could not be sent in time"


def test_an_unchanged_cart_is_not_touched_by_reporting_it_again(client: TestClient, ana: UUID, clock: Clock) -> None:
    cart = put_cart(client, ana)
    first = client.get(f"/v1/carts/{cart}").json()
    clock.move(HOUR)
    put_cart(client, ana, cart)
    assert client.get(f"/v1/carts/{cart}").json() == first
    put_cart(client, ana, cart, items=[{"name": "Mat", "price": "20.00"}])
    assert client.get(f"/v1/carts/{cart}").json()["touched_at"] > first["touched_at"]


def test_a_quote_that_is_sent_again_has_one_sequence(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "quotes")
    quote = put_quote(client, ana)
    sweep.plan(org)
    clock.move(HOUR)
    put_quote(client, ana, quote, sent_at=clock.now().isoformat())
    clock.move(24 * HOUR)
    assert len(go_round(org, client)) == 1
    assert {row["reason"] for row in found(client, status="stopped")} == {"the quote was sent again"}


def test_a_season_moved_by_a_day_is_the_same_season(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    trigger = {"kind": "season", "first": "03-02", "last": "03-20", "offer": "x"}
    switch(client, "season", trigger=trigger, needs_consent=False)
    clock.move_to(datetime(2027, 3, 2, 11, tzinfo=ZONE))
    assert len(go_round(org, client)) == 1
    switch(client, "season", trigger=trigger | {"first": "03-03"}, needs_consent=False)
    clock.move_to(datetime(2027, 3, 4, 11, tzinfo=ZONE))
    assert go_round(org, client) == []


def test_one_person_with_two_records_says_stop_once(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    lead = make_row(org, "leads", name="Ana Torres", email="Ana@example.com", created_at=clock.now())
    switch(client, "quotes")
    put_quote(client, lead)
    put_quote(client, ana)
    sweep.plan(org)
    assert reply(client, sender="ana@example.com", body="STOP")["stopped"] == 6
    assert client.get(f"/v1/contacts/{lead}/preferences").json()["has_opted_out"]


def test_an_answer_at_once_counts_for_what_was_just_sent(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    quick(client)
    put_quote(client, ana)
    sweep.plan(org)
    attend(org)
    write(org, found(client)[0])
    deliver()
    reply(client, contact=str(ana), body="Yes!")
    (row,) = found(client)
    assert (row["status"], row["answered_at"] is not None) == ("sent", True)


def test_who_came_is_not_away_though_nobody_noted_it(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    switch(client, "lapsed-members", needs_consent=False, variants=[{"name": "a", "tone": "x"}])
    old, new = session(org, clock.now() - 20 * DAY), session(org, clock.now() - HOUR)
    make_row(org, "bookings", client_id=ana, session_id=old, status="attended", created_at=clock.now() - 25 * DAY)
    make_row(org, "bookings", client_id=ana, session_id=new, created_at=clock.now() - 2 * DAY)
    clock.move(2 * DAY)
    assert sweep.plan(org).planned == 0


def test_a_missed_trial_is_let_be_where_another_is_booked(client: TestClient, org: UUID, clock: Clock) -> None:
    switch(client, "missed-trials")
    lead = make_row(org, "leads", status="trial_booked", created_at=clock.now() - 10 * DAY)
    missed, other = session(org, clock.now() + HOUR), session(org, clock.now() + 5 * DAY)
    for where, status in ((missed, "no_show"), (other, "booked")):
        make_row(org, "trial_bookings", lead_id=lead, session_id=where, status=status, created_at=clock.now() - DAY)
    clock.move(2 * HOUR)
    assert sweep.plan(org).planned == 0


def test_off_and_on_again_before_anybody_looked_sends_nothing_old(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    switch(client, "quotes", is_on=False)
    switch(client, "quotes")
    assert statuses(client) == ["stopped"] * 3


@pytest.mark.parametrize("body", ["no mas", "No ma\u0301s", "stop  all", "> earlier words\n\nSTOP"])
def test_stop_however_it_is_written(client: TestClient, ana: UUID, body: str) -> None:
    assert reply(client, contact=str(ana), body=body)["is_opt_out"]


def test_a_long_correspondence_is_shortened(client: TestClient, org: UUID, ana: UUID, clock: Clock) -> None:
    for _ in range(3):
        reply(client, contact=str(ana), body="x" * 99_000)
    clock.move(HOUR)
    quick(client)
    put_quote(client, ana)
    sweep.plan(org)
    attend(org)
    (row,) = found(client)
    assert len(str(look(org, UUID(row["task_id"])).input)) < 10_000


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rule_of_a_pack_that_is_not_installed_is_not_there_and_starts_nothing(
    client: TestClient, org: UUID, ana: UUID
) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    with db.transaction(org) as connection:
        statement = (
            """UPDATE follow_up_rules SET slug = 'foreign', fields = jsonb_set(fields, '{trigger,kind}', '"x"')"""
        )
        connection.execute(text(statement))
    assert sweep.plan(org).planned == 0
    for method, path in (("get", ""), ("post", "/switch")):
        answer = client.request(method, f"/v1/follow-up-rules/foreign{path}", json={"is_on": True})
        assert (answer.status_code, "There is no rule called 'foreign'" in answer.text) == (404, True)
    assert "foreign" not in {rule["slug"] for rule in client.get("/v1/follow-up-rules").json()}


def test_switching_on_what_is_on_loses_nothing_that_began_meanwhile(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    first = switch(client, "quotes")
    clock.move(HOUR)
    put_quote(client, ana)
    clock.move(HOUR)
    assert switch(client, "quotes")["on_since"] == first["on_since"]
    assert sweep.plan(org).planned == 3


def test_a_rule_that_comes_with_rota_is_reset_when_it_is_removed(client: TestClient, org: UUID, ana: UUID) -> None:
    before = client.get("/v1/follow-up-rules/quotes").json()
    switch(client, "quotes", name="Changed", steps=[{"after": "PT1H", "brief": "x"}])
    put_quote(client, ana)
    assert sweep.plan(org).planned == 1
    assert client.delete("/v1/follow-up-rules/quotes").status_code == 204
    assert client.get("/v1/follow-up-rules/quotes").json() == before
    assert client.delete("/v1/follow-up-rules/quotes").status_code == 404
    assert [(row["status"], row["reason"]) for row in found(client)] == [("stopped", "the rule was taken away")]


# ── lists and results ────────────────────────────────────────────────────────────────────────────────────────────────


def test_follow_ups_are_listed_in_pages_and_of_ones_own_organisation_only(
    client: TestClient, org: UUID, ana: UUID
) -> None:
    switch(client, "quotes")
    put_quote(client, ana)
    sweep.plan(org)
    pages: list[list[str]] = []
    wanted: dict[str, Any] = {"limit": 2}
    for _ in range(2):
        pages.append([row["id"] for row in client.get("/v1/follow-ups", params=wanted).json()])
        wanted["before"] = pages[-1][-1]
    assert [len(page) for page in pages] == [2, 1]
    assert client.get("/v1/follow-ups", params=wanted).json() == []
    ids = [row for page in pages for row in page]
    assert ids == sorted(ids, reverse=True)
    assert found(client, contact=str(new_id())) == found(client, rule="carts") == found(client, status="sent") == []
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    stranger = {"authorization": f"Bearer {make_key(other, SECRET_KEY)}"}
    assert client.get("/v1/follow-ups", headers=stranger).json() == []
    assert client.get(f"/v1/follow-ups/{ids[0]}", headers=stranger).status_code == 404
    assert client.post(f"/v1/follow-ups/{ids[0]}/stop", headers=stranger).status_code == 404
    assert statuses(client) == ["planned"] * 3


def test_results_add_up_by_variant_and_currency_and_only_since_the_day_asked_for(
    client: TestClient, org: UUID, ana: UUID, clock: Clock
) -> None:
    switch(client, "quotes", steps=[{"after": "PT1H", "brief": "x"}])
    for _ in range(5):
        put_quote(client, ana)
    sweep.plan(org)
    rows = found(client)
    earned = [("plain", "480.10", "EUR"), ("plain", "19.90", "EUR"), ("plain", "7", "USD"), ("warm", "1", "EUR")]
    with db.transaction(org) as connection:
        statement = text(
            "UPDATE follow_ups SET status = 'sent', due_at = NULL, sent_at = wanted_at, ended_at = wanted_at,"
            " converted_at = wanted_at, revenue = :revenue, currency = :currency, channel = 'email', variant = :variant"
            " WHERE id = :id"
        )
        for row, (variant, revenue, currency) in zip(rows, earned, strict=False):
            bound = {"id": row["id"], "variant": variant, "revenue": revenue, "currency": currency}
            connection.execute(statement, bound)
    plain, warm, planned = client.get("/v1/follow-ups/effectiveness").json()
    assert (plain["planned"], plain["sent"], plain["converted"], plain["answered"]) == (3, 3, 3, 0)
    assert {name: Decimal(total) for name, total in plain["revenue"].items()} == {"EUR": 500, "USD": 7}
    assert (warm["variant"], warm["sent"], warm["revenue"].keys()) == ("warm", 1, {"EUR"})
    assert (planned["channel"], planned["planned"], planned["revenue"]) == (None, 1, {})
    later = (clock.now() + 2 * HOUR).isoformat()
    assert client.get("/v1/follow-ups/effectiveness", params={"since": later}).json() == []
    clock.move(91 * DAY)
    assert client.get("/v1/follow-ups/effectiveness").json() == []
