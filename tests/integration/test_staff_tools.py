"""Tools that write to people and start tasks: to whom, where, when, and with whose permission."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.tools import TOOLS
from agents.tools.registry import Acting, Start, ToolContext
from core import db
from core.errors import InvalidInput, NotFound, NotPermitted, RotaError
from core.ids import new_id
from domain.channels import service as channels
from domain.channels.schemas import EmailChannel, GatewaySettings
from domain.tasks import service as tasks
from domain.tasks.schemas import Bounds, TreeLimits
from tests.support.factories import (
    NOW,
    ZONE,
    make_location,
    make_row,
    make_user,
    owner_of,
    submit,
)

HELLO = {"subject": "Hi", "body": "Hello"}


@pytest.fixture(autouse=True)
def _channels(org: UUID) -> None:
    with db.transaction(org) as connection:
        mail = EmailChannel(host="127.0.0.1", port=1, security="none", sender="gym@example.com")
        channels.set_up_email(connection, org, mail)
        channels.set_up_gateway(connection, org, "sms", GatewaySettings(url="http://127.0.0.1:1/"))


def use(org: UUID, name: str, acting: dict[str, Any] | None = None, /, **arguments: Any) -> dict[str, Any]:
    """What a tool returns to an agent that acts for the owner, or as `acting` says."""
    tool = TOOLS.get(name)
    assert tool is not None
    values: dict[str, Any] = {
        "org_id": org,
        "user_id": owner_of(org),
        "agent": "support-assistant",
        "task_id": new_id(),
        "seq": 1,
    }
    with db.transaction(org) as connection:
        context = ToolContext(connection, ZONE, NOW.date(), Acting(**values | (acting or {})))
        return tool.run(context, tool.validate(arguments))


def queued(org: UUID, channel: str) -> list[str]:
    with db.transaction(org) as connection:
        statement = text("SELECT recipient FROM outbox WHERE channel = :channel ORDER BY recipient")
        return list(connection.execute(statement, {"channel": channel}).scalars())


# ── whom a message may reach ─────────────────────────────────────────────────────────────────────────────────────────


def test_who_may_write_at_one_location_writes_to_the_contacts_there_only(org: UUID) -> None:
    here, there = make_location(org, "here"), make_location(org, "there")
    near = make_row(org, "clients", email="near@example.com", location_id=here)
    far = make_row(org, "clients", email="far@example.com", location_id=there)
    nowhere = make_row(org, "clients", email="nowhere@example.com")
    local = {"user_id": make_user(org, "staff", at="here")}
    confined = {"location_id": here}  # the owner, in a task at this location
    for acting in (local, confined):
        for contact in (far, nowhere):
            with pytest.raises(NotPermitted, match="some locations only"):
                use(org, "send_message_to_client", acting, client_id=str(contact), **HELLO)
        with pytest.raises(NotPermitted, match="some locations only"):  # a bare address is of no location
            use(org, "send_email", acting, to="near@example.com", **HELLO)
    assert queued(org, "email") == []
    use(org, "send_message_to_client", local, client_id=str(near), **HELLO)
    use(org, "send_message_to_client", confined, client_id=str(near), **HELLO)
    use(org, "send_message_to_client", client_id=str(far), **HELLO)
    assert queued(org, "email") == ["far@example.com", "near@example.com", "near@example.com"]
    with pytest.raises(NotPermitted, match="email:send"):
        use(org, "send_message_to_client", local | {"location_id": there}, client_id=str(far), **HELLO)


@pytest.mark.parametrize(
    ("acting", "channel", "permission"),
    [
        ({"scopes": ["messages:send", "email:*"]}, "sms", "sms:send"),
        ({"scopes": ["messages:send", "sms:*"]}, "email", "email:send"),
        ({"scopes": []}, "email", "email:send"),
        ({"user_id": None}, "sms", "sms:send"),  # a viewer
    ],
)
def test_a_message_needs_the_permission_for_its_channel(
    org: UUID, acting: dict[str, Any], channel: str, permission: str
) -> None:
    client = make_row(org, "clients")
    if "user_id" in acting:
        acting = {"user_id": make_user(org, "viewer")}
    with pytest.raises(NotPermitted, match=permission):
        use(org, "send_message_to_client", acting, client_id=str(client), channel=channel, **HELLO)
    assert queued(org, channel) == []


def test_a_contact_is_written_to_where_they_have_an_address_and_in_the_length_of_the_channel(org: UUID) -> None:
    client = make_row(org, "clients", email="")
    with pytest.raises(InvalidInput, match="no e-mail address"):
        use(org, "send_message_to_client", client_id=str(client), **HELLO)
    silent = make_row(org, "clients", phone=None)
    with pytest.raises(InvalidInput, match="no phone number"):
        use(org, "send_message_to_client", client_id=str(silent), channel="sms", **HELLO)
    when = (NOW + timedelta(days=2)).isoformat()
    wanted = {"contact_id": str(client), "send_at": when, "channel": "sms"}
    with pytest.raises(InvalidInput, match="1600 characters at most; this has 1601"):
        use(org, "schedule_follow_up", **wanted, body="x" * 1601)
    assert use(org, "schedule_follow_up", **wanted, body="x" * 1600)["to"] == "+34 600 111 222"
    long = {"contact_id": str(silent), "send_at": when, "body": "x" * 1601}
    assert use(org, "schedule_follow_up", **long)["channel"] == "email"


@pytest.mark.parametrize("away", [timedelta(hours=-1), timedelta(days=367)])
def test_a_follow_up_lies_within_the_year_to_come(org: UUID, away: timedelta) -> None:
    client = make_row(org, "clients")
    with pytest.raises(InvalidInput, match="within the next year"):
        use(org, "schedule_follow_up", contact_id=str(client), send_at=(NOW + away).isoformat(), body="Hello")
    assert queued(org, "email") == []


def test_a_report_goes_to_users_of_the_organisation_and_to_nobody_else(org: UUID) -> None:
    make_row(org, "clients", email="ana@example.com")
    for stranger in ("ana@example.com", "eve@example.com"):
        with pytest.raises(NotFound, match="no user"):
            use(org, "send_report_email", to=stranger, subject="Figures", report="59")
    assert use(org, "send_report_email", to="OWNER@example.com", subject="Figures", report="59")["to"] == (
        "owner@example.com"  # as it is on record
    )


# ── whom of the staff a notification reaches ─────────────────────────────────────────────────────────────────────────


def test_staff_are_notified_by_role_at_the_location_or_by_address(org: UUID) -> None:
    here = make_location(org, "here")
    make_location(org, "there")
    near, far = make_user(org, "staff", at="here"), make_user(org, "staff", at="there")
    everywhere = make_user(org, "staff")
    words = {"title": "Look", "body": "The shower is cold"}
    assert use(org, "notify_staff", {"location_id": here}, **words) == {"notified": 2}
    assert queued(org, "in_app") == sorted(map(str, [near, everywhere]))
    assert use(org, "notify_staff", **words) == {"notified": 1}  # without a location: those who are staff everywhere
    assert str(far) not in queued(org, "in_app")
    assert use(org, "notify_staff", role="staff", email="owner@example.com", **words) == {"notified": 1}
    assert str(owner_of(org)) in queued(org, "in_app")
    for wrong, error in (({"role": "emperor"}, InvalidInput), ({"email": "eve@example.com"}, NotFound)):
        with pytest.raises(error):
            use(org, "notify_staff", **words, **wrong)


def test_an_issue_is_escalated_to_those_who_coordinate_at_the_location(org: UUID) -> None:
    here = make_location(org, "here")
    make_location(org, "there")
    near, far = make_user(org, "coordinator", at="here"), make_user(org, "manager", at="there")
    make_user(org, "staff", at="here")
    issue = {"subject": "Flood", "details": "Water in the hall"}
    told = use(org, "escalate_issue", {"location_id": here}, **issue)
    assert (told["notified"], told["ticket_id"] is not None) == (2, True)
    assert queued(org, "in_app") == sorted(map(str, [near, owner_of(org)]))
    note = {"title": "Look", "body": "at this"}
    assert use(org, "notify_coordinators", **note) == {"notified": 1}
    assert str(far) not in queued(org, "in_app")


# ── tasks that a task starts ─────────────────────────────────────────────────────────────────────────────────────────


def start(root: UUID) -> Start:
    tree = TreeLimits(max_depth=3, max_descendants=9, max_cost=Decimal(5))
    bounds = Bounds(agents=["support-assistant"], tools=["send_email"], mode="semi-auto", tree=tree)
    return Start(root, 1, bounds, 9)


def test_a_scheduled_task_has_no_more_means_and_no_more_trust_than_the_one_that_scheduled_it(org: UUID) -> None:
    here, user = make_location(org, "here"), make_user(org, "manager")
    root = submit(org).id
    acting = {"user_id": user, "location_id": here, "scopes": ["tasks:*"], "may_start": start(root), "task_id": root}
    for read_untrusted in (False, True):
        made = use(
            org, "schedule_task", acting | {"read_untrusted": read_untrusted},
            agent="support-assistant", message="go on", run_at=(NOW + timedelta(days=1)).isoformat(),
        )  # fmt: skip
        with db.transaction(org) as connection:
            task = tasks.get_task(connection, UUID(str(made["task_id"])))
            lineage = tasks.lineage_of(connection, task.id)
            assert tasks.scopes_of(connection, task.id) == ["tasks:*"]
        assert (task.user_id, task.location_id, task.origin_id) == (user, here, root)
        assert (lineage.root_id, lineage.depth, lineage.bounds) == (root, 1, start(root).bounds)
        assert bool(task.input.get("is_from_outside")) is read_untrusted


@pytest.mark.parametrize("away", [timedelta(minutes=-1), timedelta(seconds=30), timedelta(days=367)])
def test_a_task_is_scheduled_for_a_time_to_come_within_a_year(org: UUID, away: timedelta) -> None:
    root = submit(org).id
    with pytest.raises(InvalidInput, match="at least a minute and at most a year"):
        use(
            org, "schedule_task", {"task_id": root, "may_start": start(root)},
            agent="support-assistant", message="go on", run_at=(datetime.now(UTC) + away).isoformat(),
        )  # fmt: skip


def test_only_a_task_starts_others_and_only_agents_and_workflows_that_exist(org: UUID) -> None:
    root = submit(org).id
    may = {"task_id": root, "may_start": start(root)}
    later = (NOW + timedelta(days=1)).isoformat()
    with pytest.raises(NotPermitted, match="Only a task"):
        use(org, "schedule_task", agent="support-assistant", message="go on", run_at=later)
    for name, arguments in (
        ("schedule_task", {"agent": "nobody", "message": "go on", "run_at": later}),
        ("trigger_workflow", {"workflow": "nothing"}),
    ):
        with pytest.raises(RotaError, match=r"nobody|nothing"):
            use(org, name, may, **arguments)
    with db.transaction(org) as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks")).scalar_one() == 1
