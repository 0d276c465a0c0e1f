"""The tools on what agents keep beside the customer records, on real tables."""

import csv
import io
import json
import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.tools import TOOLS
from agents.tools.registry import Acting, Tool, ToolContext
from agents.tools.resources import RESOURCE_TOOLS
from business.office import service as gym
from business.tools.office import OFFICE_TOOLS
from core import db
from core.errors import Conflict, InvalidInput, NotFound, RotaError
from core.ids import new_id
from domain.office import service as office
from tests.support.factories import NOW, ZONE, make_location, make_organisation, make_row, owner_of
from tests.support.tools import TODAY

TOMORROW = NOW + timedelta(days=1)
NAIVE_TOMORROW = TOMORROW.replace(tzinfo=None).isoformat()


def use(org: UUID, tool_name: str, /, **arguments: Any) -> dict[str, Any]:
    """As `tests.support.tools.use`, also for tools that have a parameter called `name`."""
    tool = TOOLS.get(tool_name)
    assert tool is not None
    acting = Acting(org_id=org, user_id=owner_of(org), agent="support-assistant", task_id=new_id(), seq=1)
    with db.transaction(org) as connection:
        context = ToolContext(connection=connection, zone=ZONE, today=TODAY, acting=acting)
        return tool.run(context, tool.validate(arguments))


def rows_of(org: UUID, table: str, columns: str = "*") -> list[Any]:
    with db.transaction(org) as connection:
        return list(connection.execute(text(f"SELECT {columns} FROM {table}")))  # noqa: S608


def make_session(org: UUID, **values: Any) -> UUID:
    return make_row(org, "class_sessions", class_id=make_row(org, "classes"), **values)


def make_booking(org: UUID, session: UUID, **client: Any) -> UUID:
    return make_row(org, "bookings", client_id=make_row(org, "clients", **client), session_id=session)


def at_once(*works: Any) -> list[str]:
    """What became of each: "done", or the refusal's name."""
    outcomes: list[str] = []
    barrier = threading.Barrier(len(works))

    def run(work: Any) -> None:
        barrier.wait()
        try:
            work()
            outcomes.append("done")
        except RotaError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


# ── what the tools say of themselves ─────────────────────────────────────────────────────────────────────────────────


def test_every_tool_says_what_it_needs_and_what_it_can_spoil() -> None:
    said = {tool.name: (tool.category, tool.permission, tool.risk) for tool in [*OFFICE_TOOLS, *RESOURCE_TOOLS]}
    assert said == {
        "create_support_ticket": ("messaging", "tickets:write", "low"),
        "create_lead_task": ("automation", "leads:write", "low"),
        "update_client_tags": ("automation", "clients:write", "low"),
        "export_data": ("automation", "data:export", "moderate"),
        "charge_client": ("crm", "payments:charge", "critical"),
        "refund_payment": ("crm", "payments:refund", "critical"),
        "create_retention_campaign": ("automation", "campaigns:write", "low"),
        "schedule_social_post": ("automation", "social:write", "high"),
        "generate_social_content": ("automation", "social:read", "low"),
        "generate_hashtags": ("automation", "social:read", "low"),
        "view_calendar_events": ("automation", "calendar:read", "low"),
        "schedule_facility_tour": ("automation", "calendar:write", "low"),
        "book_trial_class": ("automation", "bookings:write", "low"),
        "cancel_booking": ("booking", "bookings:write", "moderate"),
        "reschedule_booking": ("booking", "bookings:write", "moderate"),
        "create_resource": ("resources", "resources:write", "low"),
        "read_resource": ("resources", "resources:read", "low"),
        "list_resources": ("resources", "resources:read", "low"),
        "update_resource": ("resources", "resources:write", "low"),
        "delete_resource": ("resources", "resources:delete", "critical"),
    }, "Every tool of OFFICE_TOOLS and RESOURCE_TOOLS has a row here: category, permission, risk."


@pytest.mark.parametrize("tool", [*OFFICE_TOOLS, *RESOURCE_TOOLS], ids=lambda tool: tool.name)
def test_a_tool_changes_the_world_unless_its_permission_is_to_read(tool: Tool) -> None:
    assert tool.changes_world == (not tool.permission.endswith(":read"))
    assert tool.moves_money == tool.permission.startswith("payments:")


@pytest.mark.parametrize("name", ["charge_client", "refund_payment"])
def test_the_amount_is_what_is_at_stake(name: str) -> None:
    [tool] = [tool for tool in OFFICE_TOOLS if tool.name == name]
    wanted: dict[str, Any] = {"amount": 49.9, "kind": "shop", "client_id": str(new_id()), "payment_id": str(new_id())}
    parameters = tool.validate({key: wanted[key] for key in wanted if key in tool.parameters.model_fields})
    assert tool.at_stake(parameters).amount == Decimal("49.9")


# ── tickets, tasks, tags ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_ticket_is_opened_once_and_says_who_made_it(org: UUID) -> None:
    client = make_row(org, "clients")
    said = {"subject": "Cold shower", "body": "Since Monday.", "priority": "high", "client_id": str(client)}
    made = use(org, "create_support_ticket", **said)
    assert (made["client"], made["status"], made["priority"]) == ("Ana Torres", "open", "high")
    with pytest.raises(Conflict, match="open already for Ana Torres"):
        use(org, "create_support_ticket", **said)
    [row] = rows_of(org, "support_tickets")
    assert (row.id, row.created_by, row.body) == (made["ticket_id"], "support-assistant", "Since Monday.")
    assert row.task_id is not None
    assert use(org, "create_support_ticket", **{**said, "client_id": str(make_row(org, "clients"))})


def test_a_ticket_about_nobody_is_opened_once_too(org: UUID) -> None:
    use(org, "create_support_ticket", subject="Broken door", body="It squeaks.")
    with pytest.raises(Conflict, match="open already"):
        use(org, "create_support_ticket", subject="Broken door", body="It still does.")


def test_a_task_about_a_lead_is_given_once_and_not_for_yesterday(org: UUID) -> None:
    lead = str(make_row(org, "leads"))
    made = use(org, "create_lead_task", lead_id=lead, title="Call back", assignee="Marta", due_on=str(TODAY))
    assert (made["lead"], made["due_on"], made["assignee"]) == ("Leo Park", TODAY, "Marta")
    with pytest.raises(Conflict, match="Call back"):
        use(org, "create_lead_task", lead_id=lead, title="Call back")
    with pytest.raises(InvalidInput, match="has passed"):
        use(org, "create_lead_task", lead_id=lead, title="Write", due_on=str(TODAY - timedelta(days=1)))


def test_tags_come_and_go_whatever_their_case_and_a_second_time_changes_nothing(org: UUID) -> None:
    client = make_row(org, "clients", tags=["VIP", "early bird"])
    for _ in range(2):
        changed = use(org, "update_client_tags", client_id=str(client), add=["vip", "Student"], remove=["Early Bird"])
        assert changed["tags"] == ["VIP", "Student"]
    assert use(org, "view_client_profile", client_id=str(client))["tags"] == ["VIP", "Student"]


def test_tags_that_contradict_are_none_or_too_many_are_refused(org: UUID) -> None:
    client = str(make_row(org, "clients", tags=[f"tag {n}" for n in range(40)]))
    for add, remove, said in (
        ([], [], "Name tags"),
        (["a"], ["A"], "either add or remove"),
        ([f"new {n}" for n in range(11)], [], "50 are the most"),
    ):
        with pytest.raises(InvalidInput, match=said):
            use(org, "update_client_tags", client_id=client, add=add, remove=remove)


def test_tags_changed_at_once_are_all_kept(org: UUID) -> None:
    client = make_row(org, "clients")
    works = [lambda n=n: use(org, "update_client_tags", client_id=str(client), add=[f"tag {n}"]) for n in range(6)]
    assert set(at_once(*works)) == {"done"}
    assert len(use(org, "view_client_profile", client_id=str(client))["tags"]) == 6


# ── exports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def exported(org: UUID, **arguments: Any) -> tuple[dict[str, Any], str]:
    made = use(org, "export_data", **arguments)
    with db.transaction(org) as connection:
        return made, office.view_export(connection, made["export_id"]).content


def test_every_kind_of_record_is_exported_in_both_forms(org: UUID) -> None:
    client, session = make_row(org, "clients"), make_session(org)
    make_row(org, "leads")
    make_row(org, "payments", client_id=client, amount=Decimal("12.50"))
    make_row(org, "subscriptions", client_id=client)
    make_row(org, "bookings", client_id=client, session_id=session)
    for what in ("clients", "leads", "payments", "bookings", "subscriptions"):
        made, sheet = exported(org, what=what)
        assert (made["row_count"], made["is_complete"]) == (1, True)
        [row] = csv.DictReader(io.StringIO(sheet))
        assert list(row) == made["columns"]
        assert len(json.loads(exported(org, what=what, format="json")[1])) == 1
    _, payments = exported(org, what="payments", format="json")
    assert json.loads(payments)[0]["amount"] == "12.50"


def test_an_export_holds_the_days_asked_for_by_the_gyms_clock(org: UUID) -> None:
    client = make_row(org, "clients")
    for days in (0, 3, 10):
        paid = NOW.replace(hour=0, minute=30) - timedelta(days=days)
        make_row(org, "payments", client_id=client, paid_at=paid)
    first, last = TODAY - timedelta(days=3), TODAY - timedelta(days=1)
    assert use(org, "export_data", what="payments", from_date=str(first), to_date=str(last))["row_count"] == 1
    assert use(org, "export_data", what="payments", from_date=str(first))["row_count"] == 2
    with pytest.raises(InvalidInput, match="Swap them"):
        use(org, "export_data", what="payments", from_date=str(last), to_date=str(first))


def test_an_export_of_nothing_has_headings_and_says_so(org: UUID) -> None:
    made, sheet = exported(org, what="leads")
    assert made["row_count"] == 0
    assert "no such records" in made["note"]
    assert sheet.startswith("lead_id,name,email")


def test_an_export_is_no_spreadsheet_program(org: UUID) -> None:
    make_row(org, "clients", name='=HYPERLINK("http://evil","x")', phone="+34 600", email="@x", tags=["-1+1"])
    [row] = csv.DictReader(io.StringIO(exported(org, what="clients")[1]))
    assert row["name"] == '\'=HYPERLINK("http://evil","x")'
    assert (row["phone"], row["email"], row["tags"]) == ("'+34 600", "'@x", "'-1+1")


def test_a_file_too_long_is_cut_and_says_so(org: UUID) -> None:
    with db.transaction(org) as connection:
        connection.execute(
            text("""
                WITH people AS (
                    INSERT INTO contacts (id, org_id, kind, name, email, status)
                    SELECT gen_random_uuid(), :org, 'lead', 'Lead ' || n, 'l@example.com', 'new'
                      FROM generate_series(1, 10001) AS n
                    RETURNING id, org_id
                )
                INSERT INTO leads (id, org_id, source, interest) SELECT id, org_id, 'web', 'yoga' FROM people
            """),
            {"org": org},
        )
    made = use(org, "export_data", what="leads")
    assert (made["row_count"], made["is_complete"]) == (10_000, False)
    assert "later from_date" in made["note"]


def test_an_export_is_seen_by_those_only_who_see_its_rows(org: UUID) -> None:
    north, south = make_location(org, "north"), make_location(org, "south")
    everything = use(org, "export_data", what="clients")["export_id"]
    with db.transaction(org, [north]) as connection:
        maker = Acting(org_id=org, user_id=owner_of(org), agent="somebody", task_id=new_id(), seq=1)
        period = {"first": None, "last": None}
        mine = gym.export_data(connection, maker, what="clients", form="csv", **period, zone=ZONE)["export_id"]
    for locations, seen, hidden in (
        ([], [mine, everything], []),
        ([north], [mine], [everything]),
        ([north, south], [mine], [everything]),
        ([south], [], [mine, everything]),
    ):
        with db.transaction(org, locations) as connection:
            for export in seen:
                office.view_export(connection, export)
            for export in hidden:
                with pytest.raises(NotFound):
                    office.view_export(connection, export)


# ── campaigns and posts ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_campaign_is_for_those_who_fit_everything_now(org: UUID) -> None:
    session = make_session(org, starts_at=NOW - timedelta(days=40))
    quiet = make_row(org, "clients", name="Quiet", tags=["VIP", "spin"])
    make_row(org, "bookings", client_id=quiet, session_id=session, status="attended")
    busy = make_row(org, "clients", name="Busy", tags=["vip"])
    recent = make_session(org, starts_at=NOW - timedelta(days=2))
    make_row(org, "bookings", client_id=busy, session_id=recent, status="attended")
    make_row(org, "clients", name="New", tags=["vip"], joined_on=TODAY)
    make_row(org, "clients", name="Untagged")
    make_row(org, "clients", name="Gone", tags=["vip"], status="cancelled")
    wanted: dict[str, Any] = {"message": "We miss you", "status": "active", "tags": ["vip"], "inactive_days": 30}
    made = use(org, "create_retention_campaign", name="Spring", **wanted)
    assert (made["members"], made["some_members"], made["status"]) == (1, ["Quiet"], "draft")
    assert [row.client_id for row in rows_of(org, "campaign_members")] == [quiet]
    [row] = rows_of(org, "campaigns")
    assert (row.kind, row.audience) == ("retention", {"status": "active", "tags": ["vip"], "inactive_days": 30})
    with pytest.raises(Conflict, match="another name"):
        use(org, "create_retention_campaign", name="Spring", **wanted)


def test_a_campaign_for_nobody_or_for_everybody_is_not_made(org: UUID) -> None:
    make_row(org, "clients")
    with pytest.raises(Conflict, match="No client fits"):
        use(org, "create_retention_campaign", name="A", message="Hello", tags=["nobody"])
    with pytest.raises(InvalidInput, match="Say whom"):
        use(org, "create_retention_campaign", name="A", message="Hello")
    assert rows_of(org, "campaigns") == []


def test_a_post_is_scheduled_once_for_a_time_to_come_by_the_gyms_clock(org: UUID) -> None:
    post = {"platform": "instagram", "text": "See you #Spin", "scheduled_at": NAIVE_TOMORROW}
    made = use(org, "schedule_social_post", **post)
    assert made["scheduled_at"] == TOMORROW.isoformat(timespec="minutes")
    assert made["status"] == "scheduled"
    with pytest.raises(Conflict, match="scheduled on instagram"):
        use(org, "schedule_social_post", **post)
    assert use(org, "schedule_social_post", **{**post, "platform": "facebook"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scheduled_at": (NOW - timedelta(minutes=1)).isoformat()}, "has passed"),
        ({"scheduled_at": "0001-01-01T00:00:00"}, "no year to plan for"),
        ({"scheduled_at": "9999-12-31T23:59:59-12:00"}, "no year to plan for"),
        ({"scheduled_at": "soon"}, "scheduled_at"),
        ({"platform": "x", "text": "a" * 281}, "takes 280"),
        ({"platform": "tiktok"}, "platform"),
        ({"media_url": "file:///etc/passwd"}, "media_url"),
    ],
)
def test_a_post_that_cannot_be_is_refused_in_words(org: UUID, changed: dict[str, Any], said: str) -> None:
    post = {"platform": "instagram", "text": "Hello", "scheduled_at": TOMORROW.isoformat()}
    with pytest.raises(InvalidInput, match=said):
        use(org, "schedule_social_post", **{**post, **changed})


def test_posts_and_hashtags_speak_of_real_classes_and_repeat_themselves(org: UUID) -> None:
    make_session(org, starts_at=TOMORROW)
    make_row(org, "classes", name="Yoga Flow", category="mind")
    wanted = {"platform": "instagram", "class_name": "spin", "count": 2, "language": "es"}
    made = use(org, "generate_social_content", **wanted)
    assert made == use(org, "generate_social_content", **wanted)
    assert made["count"] == 2
    assert all("Spin" in post and f"a las {TOMORROW:%H:%M}" in post for post in made["posts"])
    tags = use(org, "generate_hashtags", topic="summer days", class_name="yoga", count=3)
    assert tags == {"hashtags": ["#SummerDays", "#YogaFlow", "#Mind"], "count": 3}
    assert rows_of(org, "social_posts") == []


def test_of_a_class_that_is_not_there_nothing_is_written(org: UUID) -> None:
    with pytest.raises(NotFound, match="search_classes"):
        use(org, "generate_social_content", platform="x", class_name="underwater chess")
    assert use(org, "generate_hashtags", class_name="underwater chess", count=1)["hashtags"] == ["#Fitness"]


# ── calendar ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_calendar_shows_tours_and_sessions_in_order(org: UUID) -> None:
    assert use(org, "view_calendar_events")["events"] == []
    session = make_session(org, starts_at=TOMORROW + timedelta(minutes=30))
    client = str(make_row(org, "clients"))
    tour = use(org, "schedule_facility_tour", client_id=client, starts_at=NAIVE_TOMORROW, location="Reception")
    make_session(org, starts_at=NOW + timedelta(days=20))
    shown = use(org, "view_calendar_events")["events"]
    assert [event.get("event_id") or event["session_id"] for event in shown] == [tour["event_id"], session]
    assert [event["title"] for event in shown] == ["Tour: Ana Torres", "Spin"]
    assert shown[0]["starts_at"] == tour["starts_at"] == TOMORROW.isoformat(timespec="minutes")
    assert [event["kind"] for event in use(org, "view_calendar_events", kind="class")["events"]] == ["class"]
    assert [event["kind"] for event in use(org, "view_calendar_events", kind="tour")["events"]] == ["tour"]
    assert use(org, "view_calendar_events", limit=1)["count"] == 1
    with pytest.raises(InvalidInput, match="Swap them"):
        use(org, "view_calendar_events", from_date="2026-03-02", to_date="2026-03-01")


def test_a_tour_overlaps_no_other_and_lies_ahead(org: UUID) -> None:
    lead, client = str(make_row(org, "leads")), str(make_row(org, "clients"))
    use(org, "schedule_facility_tour", lead_id=lead, starts_at=TOMORROW.isoformat(), duration_minutes=30)
    for minutes in (-29, 0, 29):
        start = TOMORROW + timedelta(minutes=minutes)
        with pytest.raises(Conflict, match="Another tour is at"):
            use(org, "schedule_facility_tour", lead_id=lead, starts_at=start.isoformat())
    after = TOMORROW + timedelta(minutes=30)
    use(org, "schedule_facility_tour", client_id=client, starts_at=after.isoformat())
    for wrong, said in (
        ({"starts_at": (NOW - timedelta(hours=1)).isoformat(), "lead_id": lead}, "has passed"),
        ({"starts_at": NAIVE_TOMORROW}, "Say who comes"),
        ({"starts_at": NAIVE_TOMORROW, "lead_id": lead, "client_id": client}, "not both"),
    ):
        with pytest.raises(InvalidInput, match=said):
            use(org, "schedule_facility_tour", **wrong)


def test_of_two_tours_agreed_at_once_one_stands(org: UUID) -> None:
    leads = [str(make_row(org, "leads")) for _ in range(4)]
    works = [
        lambda lead=lead: use(org, "schedule_facility_tour", lead_id=lead, starts_at=NAIVE_TOMORROW) for lead in leads
    ]
    assert at_once(*works) == ["Conflict"] * 3 + ["done"]


# ── places in sessions ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_trial_takes_a_place_and_moves_the_lead(org: UUID) -> None:
    lead, session = make_row(org, "leads"), make_session(org, capacity=2)
    make_booking(org, session)
    wanted = {"lead_id": str(lead), "session_id": str(session)}
    made = use(org, "book_trial_class", **wanted)
    assert (made["lead_status"], made["places_left"], made["class_name"]) == ("trial_booked", 0, "Spin")
    profile = use(org, "view_lead_profile", lead_id=str(lead))
    assert profile["status"] == "trial_booked"
    assert "trial of Spin" in profile["notes"]
    with pytest.raises(Conflict, match="already"):
        use(org, "book_trial_class", **wanted)
    with pytest.raises(Conflict, match="full"):
        use(org, "book_trial_class", **{**wanted, "lead_id": str(make_row(org, "leads"))})


def test_a_trial_is_refused_where_there_is_nothing_to_try(org: UUID) -> None:
    lead, spin = str(make_row(org, "leads")), make_row(org, "classes")
    past = make_row(org, "class_sessions", class_id=spin, starts_at=NOW - timedelta(hours=1))
    cancelled = make_row(org, "class_sessions", class_id=spin, status="cancelled")
    for session in (past, cancelled):
        with pytest.raises(Conflict, match="over or was cancelled"):
            use(org, "book_trial_class", lead_id=lead, session_id=str(session))
    won = str(make_row(org, "leads", status="won"))
    with pytest.raises(Conflict, match="book_class"):
        use(org, "book_trial_class", lead_id=won, session_id=str(make_session(org)))


def test_the_last_place_is_given_to_one(org: UUID) -> None:
    session = str(make_session(org, capacity=3))
    leads = [str(make_row(org, "leads")) for _ in range(6)]
    elsewhere = make_session(org)
    bookings = [str(make_booking(org, elsewhere)) for _ in range(4)]
    outcomes = at_once(
        *(lambda lead=lead: use(org, "book_trial_class", lead_id=lead, session_id=session) for lead in leads),
        *(
            lambda booking=booking: use(org, "reschedule_booking", booking_id=booking, session_id=session)
            for booking in bookings
        ),
    )
    assert outcomes == ["Conflict"] * 7 + ["done"] * 3
    taken = [row for row in rows_of(org, "trial_bookings") + rows_of(org, "bookings") if str(row.session_id) == session]
    assert len(taken) == 3


def test_a_place_taken_by_somebody_from_another_location_is_taken(org: UUID) -> None:
    north, south = make_location(org, "north"), make_location(org, "south")
    session = make_session(org, capacity=1, location_id=north)
    make_booking(org, session, location_id=south)
    with db.transaction(org, [north]) as connection:
        left = connection.execute(text("SELECT rota_places_taken(:id)"), {"id": session}).scalar_one()
    assert left == 1
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    with db.transaction(other) as connection:
        assert connection.execute(text("SELECT rota_places_taken(:id)"), {"id": session}).scalar_one() == 0


def test_a_booking_is_cancelled_once_and_not_after_the_class(org: UUID) -> None:
    session = make_session(org, capacity=1)
    booking = str(make_booking(org, session))
    assert use(org, "cancel_booking", booking_id=booking)["status"] == "cancelled"
    with pytest.raises(Conflict, match="cancelled already"):
        use(org, "cancel_booking", booking_id=booking)
    assert use(org, "check_class_availability", session_id=str(session))["places_left"] == 1
    past = make_booking(org, make_session(org, starts_at=NOW - timedelta(hours=1)))
    with pytest.raises(Conflict, match="has begun"):
        use(org, "cancel_booking", booking_id=str(past))


def test_a_booking_moves_once_to_a_session_with_room(org: UUID) -> None:
    before, after = make_session(org, capacity=1), make_session(org, starts_at=NOW + timedelta(days=3), capacity=1)
    booking = str(make_booking(org, before))
    moved = use(org, "reschedule_booking", booking_id=booking, session_id=str(after))
    assert (moved["session_id"], moved["places_left"]) == (after, 0)
    assert moved["moved_from"]["class_name"] == "Spin"
    with pytest.raises(Conflict, match="already"):
        use(org, "reschedule_booking", booking_id=booking, session_id=str(after))
    assert use(org, "check_class_availability", session_id=str(before))["places_left"] == 1
    late = str(make_booking(org, before))
    with pytest.raises(Conflict, match="full"):
        use(org, "reschedule_booking", booking_id=late, session_id=str(after))
    assert use(org, "view_class_bookings", session_id=str(before))["bookings"][0]["booking_id"] == UUID(late)


def test_a_booking_that_does_not_stand_or_of_the_inactive_does_not_move(org: UUID) -> None:
    target, session = str(make_session(org)), make_session(org)
    frozen = make_booking(org, session, status="frozen")
    over = make_booking(org, make_session(org, starts_at=NOW - timedelta(hours=1)))
    attended = make_row(org, "bookings", client_id=make_row(org, "clients"), session_id=session, status="attended")
    for booking, said in ((frozen, "frozen"), (over, "has begun"), (attended, "attended already")):
        with pytest.raises(Conflict, match=said):
            use(org, "reschedule_booking", booking_id=str(booking), session_id=target)


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_charge_is_pending_in_the_clients_currency_and_recorded_once(org: UUID) -> None:
    client = make_row(org, "clients")
    make_row(org, "subscriptions", client_id=client, currency="GBP")
    charge = {"client_id": str(client), "amount": 59.9, "kind": "membership"}
    made = use(org, "charge_client", **charge)
    assert (made["status"], made["amount"], made["currency"], made["client"]) == (
        "pending", Decimal("59.9"), "GBP", "Ana Torres",
    )  # fmt: skip
    with pytest.raises(Conflict, match="already"):
        use(org, "charge_client", **charge)
    assert use(org, "charge_client", **{**charge, "amount": 12})["amount"] == 12
    amounts = [row["amount"] for row in use(org, "view_client_payments", client_id=str(client))["payments"]]
    assert sorted(amounts) == [Decimal(12), Decimal("59.90")]


def test_of_two_equal_charges_at_once_one_is_recorded(org: UUID) -> None:
    client = str(make_row(org, "clients"))
    works = [lambda: use(org, "charge_client", client_id=client, amount=5, kind="shop")] * 4
    assert at_once(*works) == ["Conflict"] * 3 + ["done"]


@pytest.mark.parametrize("amount", [0, -1, 1.234, 1_000_000, "NaN", "Infinity", None])
def test_an_amount_that_is_none_is_refused(org: UUID, amount: Any) -> None:
    with pytest.raises(InvalidInput, match="amount"):
        use(org, "charge_client", client_id=str(make_row(org, "clients")), amount=amount, kind="shop")


def test_a_payment_is_refunded_whole_and_once(org: UUID) -> None:
    payment = str(make_row(org, "payments", client_id=make_row(org, "clients"), amount=59))
    for amount in (58.99, 60):
        with pytest.raises(InvalidInput, match=r"was of 59\.00 EUR"):
            use(org, "refund_payment", payment_id=payment, amount=amount)
    made = use(org, "refund_payment", payment_id=payment, amount=59)
    assert (made["status_before"], made["status"], made["client"]) == ("paid", "refunded", "Ana Torres")
    with pytest.raises(Conflict, match="refunded already"):
        use(org, "refund_payment", payment_id=payment, amount=59)
    for status in ("failed", "pending"):
        other = make_row(org, "payments", client_id=make_row(org, "clients"), status=status)
        with pytest.raises(Conflict, match="only a paid one"):
            use(org, "refund_payment", payment_id=str(other), amount=59)


def test_two_who_refund_at_once_refund_once(org: UUID) -> None:
    payment = str(make_row(org, "payments", client_id=make_row(org, "clients")))
    works = [lambda: use(org, "refund_payment", payment_id=payment, amount=59)] * 4
    assert at_once(*works) == ["Conflict"] * 3 + ["done"]


# ── resources ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_resource_is_created_read_listed_changed_and_deleted(org: UUID) -> None:
    assert use(org, "list_resources") == {"resources": [], "count": 0, "total": 0}
    data = {"maker": "Concept2", "place": {"room": "One", "row": 3}}
    made = use(org, "create_resource", kind="equipment", name="Rower 7", data=data)
    resource = str(made["resource_id"])
    with pytest.raises(Conflict, match="list_resources"):
        use(org, "create_resource", kind="equipment", name="Rower 7")
    use(org, "create_resource", kind="supplier", name="Rower Ltd")
    assert use(org, "read_resource", resource_id=resource)["data"] == data
    listed = use(org, "list_resources", query="ROWER", kind="equipment")
    assert ([row["name"] for row in listed["resources"]], listed["total"]) == (["Rower 7"], 1)
    page = use(org, "list_resources", limit=1, skip=1)
    assert ([row["name"] for row in page["resources"]], page["total"]) == (["Rower Ltd"], 2)
    changed = use(org, "update_resource", resource_id=resource, version=1, data={"maker": None, "place": {"row": 4}})
    assert (changed["data"], changed["version"]) == ({"place": {"room": "One", "row": 4}}, 2)
    assert use(org, "read_resource", resource_id=resource)["data"] == changed["data"]
    assert use(org, "delete_resource", resource_id=resource)["is_deleted"]
    for name in ("read_resource", "delete_resource"):
        with pytest.raises(NotFound, match="list_resources"):
            use(org, name, resource_id=resource)
    assert use(org, "create_resource", kind="equipment", name="Rower 7")["version"] == 1


def test_of_two_who_change_the_same_version_one_is_told_to_read_again(org: UUID) -> None:
    resource = str(use(org, "create_resource", kind="equipment", name="Bike", data={"n": 0})["resource_id"])
    works = [lambda n=n: use(org, "update_resource", resource_id=resource, version=1, data={"n": n}) for n in range(4)]
    assert at_once(*works) == ["Conflict"] * 3 + ["done"]
    with pytest.raises(Conflict, match="at version 2, not 1"):
        use(org, "update_resource", resource_id=resource, version=1, data={})


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("create_resource", {"kind": "Big Thing", "name": "x"}, "kind"),
        ("create_resource", {"kind": "x", "name": "x", "data": {"a": "\0"}}, "cannot be stored"),
        ("create_resource", {"kind": "x", "name": "x", "data": {"a": "x" * 70_000}}, "64 KB"),
        ("create_resource", {"kind": "x", "name": "x", "data": [1]}, "data"),
        ("list_resources", {"limit": 1_000}, "limit"),
        ("update_client_tags", {"client_id": "x", "add": [""]}, "add"),
        ("create_support_ticket", {"subject": " ", "body": "x"}, "subject"),
        ("export_data", {"what": "passwords"}, "what"),
    ],
)
def test_bad_parameters_are_refused_in_words(org: UUID, name: str, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        use(org, name, **arguments)


# ── others' records ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_tools_reach_only_their_own_organisation(org: UUID) -> None:
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    session = make_session(other)
    booking = str(make_booking(other, session, name="Secret"))
    client, lead = str(make_row(other, "clients")), str(make_row(other, "leads"))
    payment = str(make_row(other, "payments", client_id=UUID(client)))
    resource = str(use(other, "create_resource", kind="secret", name="Secret")["resource_id"])
    tour = {"starts_at": NAIVE_TOMORROW}
    use(other, "schedule_facility_tour", lead_id=lead, **tour)
    mine = str(make_row(org, "leads"))
    for name, arguments in (
        ("create_support_ticket", {"subject": "a", "body": "b", "client_id": client}),
        ("create_lead_task", {"lead_id": lead, "title": "a"}),
        ("update_client_tags", {"client_id": client, "add": ["a"]}),
        ("schedule_facility_tour", {"lead_id": lead, **tour}),
        ("schedule_facility_tour", {"client_id": client, **tour}),
        ("book_trial_class", {"lead_id": lead, "session_id": str(make_session(org))}),
        ("book_trial_class", {"lead_id": mine, "session_id": str(session)}),
        ("cancel_booking", {"booking_id": booking}),
        ("reschedule_booking", {"booking_id": booking, "session_id": str(session)}),
        ("charge_client", {"client_id": client, "amount": 1, "kind": "shop"}),
        ("refund_payment", {"payment_id": payment, "amount": 59}),
        ("read_resource", {"resource_id": resource}),
        ("update_resource", {"resource_id": resource, "version": 1, "data": {}}),
        ("delete_resource", {"resource_id": resource}),
    ):
        with pytest.raises(NotFound):
            use(org, name, **arguments)
    with pytest.raises(Conflict, match="No client fits"):
        use(org, "create_retention_campaign", name="A", message="Hello", status="active")
    assert use(org, "export_data", what="clients")["row_count"] == 0
    assert use(org, "list_resources")["total"] == 0
    assert use(org, "view_calendar_events", kind="tour")["count"] == 0
    assert use(org, "schedule_facility_tour", lead_id=mine, **tour)


def test_records_of_people_elsewhere_are_hidden_from_who_is_limited_to_a_location(org: UUID) -> None:
    north, south = make_location(org, "north"), make_location(org, "south")
    client, lead = make_row(org, "clients", location_id=south), make_row(org, "leads", location_id=south)
    use(org, "create_support_ticket", subject="About", body="x", client_id=str(client))
    use(org, "create_support_ticket", subject="General", body="x")
    use(org, "create_lead_task", lead_id=str(lead), title="Call")
    use(org, "schedule_facility_tour", client_id=str(client), starts_at=NAIVE_TOMORROW)
    use(org, "book_trial_class", lead_id=str(lead), session_id=str(make_session(org)))
    use(org, "create_retention_campaign", name="A", message="Hello", status="active")
    counts = {"support_tickets": 2, "staff_tasks": 1, "calendar_events": 1, "trial_bookings": 1, "campaign_members": 1}
    for location, hidden in ((south, 0), (north, 1)):
        with db.transaction(org, [location]) as connection:
            for table, count in counts.items():
                seen = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
                assert seen == count - hidden, (table, location)
