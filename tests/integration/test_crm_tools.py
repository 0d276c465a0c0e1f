"""The CRM tools and booking, on real tables."""

import threading
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.tools import TOOLS
from business.crm import service as crm
from core import db
from core.errors import Conflict, InvalidInput, NotFound, RotaError
from core.ids import new_id
from tests.support.factories import NOW, ZONE, make_organisation, make_row
from tests.support.outward import OWN_TOOLS
from tests.support.outward import TOOLS as OUTWARD_TOOLS
from tests.support.tools import TODAY, use


def test_every_tool_that_the_gym_needs_is_there() -> None:
    assert set(TOOLS.names()) - {tool.name for tool in (*OUTWARD_TOOLS, *OWN_TOOLS)} == {
        "search_clients", "view_client_profile", "view_client_bookings", "view_client_payments", "update_client_status",
        "search_leads", "view_lead_profile", "update_lead_status", "search_classes", "view_class_schedule",
        "check_class_availability", "view_class_bookings", "query_payments", "query_subscriptions",
        "calculate_engagement_score",
        # analytics
        "generate_revenue_report", "generate_churn_report", "generate_ltv_report", "generate_monthly_turnover_report",
        "calculate_mrr", "calculate_arr", "analyze_payment_trends", "analyze_class_attendance",
        "analyze_member_engagement", "analyze_no_show_rates", "identify_at_risk_members", "generate_operations_report",
        # messaging
        "send_email", "send_sms", "create_support_ticket", "notify_staff", "send_message_to_client",
        "send_message_to_lead", "send_retention_message", "send_report_email", "schedule_follow_up",
        "send_bulk_message", "send_whatsapp", "send_follow_up",
        # automation
        "trigger_workflow", "schedule_task", "update_client_tags", "export_data", "create_retention_campaign",
        "create_lead_task", "schedule_social_post", "generate_social_content", "generate_hashtags",
        "view_calendar_events", "book_trial_class", "schedule_facility_tour",
        # resources, bookings, payments, coordination
        "create_resource", "read_resource", "list_resources", "update_resource", "delete_resource", "book_class",
        "cancel_booking", "reschedule_booking", "charge_client", "refund_payment", "request_approval",
        "escalate_issue", "notify_coordinators",
    }, "This list names every tool of the platform and of the gym."  # fmt: skip


def test_clients_are_found_by_name_without_accents_by_mail_and_by_phone(org: UUID) -> None:
    maria = make_row(org, "clients", name="María García López", email="mgl@example.com", phone="+34 611 000 999")
    make_row(org, "clients", name="John Smith")
    for query in ("maria garcia", "LÓPEZ", "mgl@example.com", "000 999"):
        found = use(org, "search_clients", query=query)
        assert [row["client_id"] for row in found["clients"]] == [maria], query


def test_a_misspelt_name_finds_similar_ones_and_says_so(org: UUID) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    found = use(org, "search_clients", query="Ana Tores")
    assert [row["client_id"] for row in found["clients"]] == [ana]
    assert "similar" in found["note"]
    assert use(org, "search_clients", query="Zzyzx")["count"] == 0


def test_a_profile_shows_plan_visits_and_what_was_paid(org: UUID) -> None:
    client = make_row(org, "clients")
    make_row(org, "subscriptions", client_id=client, plan="Student", amount=32)
    make_row(org, "payments", client_id=client, amount=32)
    make_row(org, "payments", client_id=client, amount=99, status="failed")
    profile = use(org, "view_client_profile", client_id=str(client))
    assert (profile["subscription"]["plan"], profile["total_paid"], profile["visits"]) == ("Student", 32, 0)


def test_a_status_change_is_noted_with_its_reason(org: UUID) -> None:
    client = make_row(org, "clients")
    changed = use(org, "update_client_status", client_id=str(client), status="frozen", reason="injury")
    assert (changed["status_before"], changed["status"]) == ("active", "frozen")
    assert "frozen (injury)" in use(org, "view_client_profile", client_id=str(client))["notes"]


def test_bookings_and_payments_of_a_client(org: UUID) -> None:
    client, spin = make_row(org, "clients"), make_row(org, "classes")
    past = make_row(org, "class_sessions", class_id=spin, starts_at=NOW - timedelta(days=2))
    future = make_row(org, "class_sessions", class_id=spin)
    make_row(org, "bookings", client_id=client, session_id=past, status="no_show")
    make_row(org, "bookings", client_id=client, session_id=future)
    make_row(org, "payments", client_id=client)
    assert use(org, "view_client_bookings", client_id=str(client))["count"] == 2
    upcoming = use(org, "view_client_bookings", client_id=str(client), upcoming_only=True)
    assert [row["session_id"] for row in upcoming["bookings"]] == [future]
    assert use(org, "view_client_payments", client_id=str(client))["count"] == 1


def test_engagement_is_scored_from_the_records(org: UUID) -> None:
    client, spin = make_row(org, "clients"), make_row(org, "classes")
    make_row(org, "subscriptions", client_id=client)
    for days in range(1, 9):
        session = make_row(org, "class_sessions", class_id=spin, starts_at=NOW - timedelta(days=days))
        make_row(org, "bookings", client_id=client, session_id=session, status="attended")
    score = use(org, "calculate_engagement_score", client_id=str(client))
    assert score["activity"]["visits_30_days"] == 8
    assert score["frequency"] == 35
    assert score["band"] == "engaged"


def test_leads_are_found_viewed_and_moved(org: UUID) -> None:
    lead = make_row(org, "leads", name="Leo Park", source="instagram", status="new")
    make_row(org, "leads", name="Old One", source="google", status="lost")
    assert [row["lead_id"] for row in use(org, "search_leads", status="new", source="Instagram")["leads"]] == [lead]
    assert use(org, "update_lead_status", lead_id=str(lead), status="contacted", note="called")["status"] == "contacted"
    assert "contacted (called)" in use(org, "view_lead_profile", lead_id=str(lead))["notes"]


def test_classes_sessions_places_and_attendees(org: UUID) -> None:
    spin, yoga = make_row(org, "classes"), make_row(org, "classes", name="Yoga", category="mind", level="beginner")
    tomorrow = TODAY + timedelta(days=1)
    session = make_row(org, "class_sessions", class_id=spin, capacity=2)
    make_row(org, "class_sessions", class_id=yoga, instructor="Lucía Prado")
    client = make_row(org, "clients")
    make_row(org, "bookings", client_id=client, session_id=session)
    make_row(org, "bookings", client_id=make_row(org, "clients"), session_id=session, status="cancelled")
    assert use(org, "search_classes", level="advanced")["count"] == 1  # "all levels" fits
    assert use(org, "search_classes", query="yoga")["classes"][0]["class_id"] == yoga
    schedule = use(org, "view_class_schedule", class_name="spin", from_date=str(tomorrow))
    assert [(row["session_id"], row["places_left"]) for row in schedule["sessions"]] == [(session, 1)]
    assert use(org, "view_class_schedule", instructor="lucia")["count"] == 1
    assert use(org, "check_class_availability", session_id=str(session))["is_available"]
    assert [row["client_id"] for row in use(org, "view_class_bookings", session_id=str(session))["bookings"]] == [
        client
    ]


def test_payments_and_subscriptions_are_totalled_over_all_and_listed_in_part(org: UUID) -> None:
    client = make_row(org, "clients")
    for amount, status in ((10, "paid"), (20, "paid"), (40, "failed")):
        make_row(org, "payments", client_id=client, amount=amount, status=status)
    make_row(org, "payments", client_id=client, amount=1000, paid_at=NOW - timedelta(days=200))
    found = use(org, "query_payments", limit=1)
    assert {(t["status"], t["payments"], t["amount"]) for t in found["totals"]} == {("paid", 2, 30), ("failed", 1, 40)}
    assert len(found["payments"]) == 1
    assert use(org, "query_payments", status="failed", min_amount=41)["payments"] == []
    make_row(org, "subscriptions", client_id=client, plan="Unlimited yearly", amount=600, period="year")
    totals = use(org, "query_subscriptions", plan="unlimited")["totals"]
    assert [(t["subscriptions"], t["monthly_amount"]) for t in totals] == [(1, 50)]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("view_client_profile", {"client_id": str(new_id())}),
        ("view_client_bookings", {"client_id": str(new_id())}),
        ("update_client_status", {"client_id": str(new_id()), "status": "frozen"}),
        ("view_lead_profile", {"lead_id": str(new_id())}),
        ("check_class_availability", {"session_id": str(new_id())}),
        ("book_class", {"client_id": str(new_id()), "session_id": str(new_id())}),
    ],
)
def test_what_does_not_exist_is_told_with_how_to_find_it(org: UUID, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(NotFound, match=r"search_|view_class_schedule"):
        use(org, name, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("search_clients", {"query": ""}),
        ("search_clients", {"query": "a", "limit": 1000}),
        ("view_class_schedule", {"from_date": "9999-12-31"}),
        ("view_class_schedule", {"from_date": "2026-02-30"}),
        ("view_class_schedule", {"from_date": "2026-03-02", "to_date": "2026-03-01"}),
        ("query_payments", {"to_date": "0001-01-01"}),
        ("update_lead_status", {"lead_id": "x", "status": "sold"}),
    ],
)
def test_bad_parameters_are_refused_in_words(org: UUID, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        use(org, name, **arguments)


def test_tools_reach_only_their_own_organisation(org: UUID) -> None:
    other = make_organisation(f"other-{new_id().hex[-8:]}")
    client, session = make_row(other, "clients", name="Secret"), None
    session = make_row(other, "class_sessions", class_id=make_row(other, "classes"))
    assert use(org, "search_clients", query="Secret")["count"] == 0
    for name, arguments in (
        ("view_client_profile", {"client_id": client}),
        ("check_class_availability", {"session_id": session}),
        ("book_class", {"client_id": client, "session_id": session}),
    ):
        with pytest.raises(NotFound):
            use(org, name, **{key: str(value) for key, value in arguments.items()})


# ── booking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_past_or_cancelled_session_cannot_be_booked_nor_twice_nor_by_the_inactive(org: UUID) -> None:
    ana, spin = make_row(org, "clients"), make_row(org, "classes")
    open_session = make_row(org, "class_sessions", class_id=spin, capacity=1)
    use(org, "book_class", client_id=str(ana), session_id=str(open_session))
    cases = [
        (ana, open_session, "already"),
        (make_row(org, "clients"), open_session, "full"),
        (make_row(org, "clients", status="frozen"), open_session, "frozen"),
        (ana, make_row(org, "class_sessions", class_id=spin, starts_at=NOW - timedelta(hours=1)), "over"),
        (ana, make_row(org, "class_sessions", class_id=spin, status="cancelled"), "cancelled"),
    ]
    for client, session, said in cases:
        with pytest.raises(Conflict, match=said):
            use(org, "book_class", client_id=str(client), session_id=str(session))


def test_many_at_once_never_overbook_and_nobody_is_booked_twice(org: UUID) -> None:
    session = make_row(org, "class_sessions", class_id=make_row(org, "classes"), capacity=5)
    clients = [make_row(org, "clients", name=f"Client {n}") for n in range(12)]
    outcomes: list[str] = []
    barrier = threading.Barrier(24)

    def book(client: UUID) -> None:
        barrier.wait()
        try:
            use(org, "book_class", client_id=str(client), session_id=str(session))
            outcomes.append("booked")
        except RotaError as error:
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=book, args=(client,)) for client in [*clients, *clients]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("booked") == 5
    assert outcomes.count("Conflict") == 19
    with db.transaction(org) as connection:
        rows = connection.execute(text("SELECT client_id FROM bookings")).scalars().all()
    assert len(rows) == len(set(rows)) == 5


def test_the_demonstration_gym_is_a_year_old_consistent_and_made_once(org: UUID) -> None:
    with db.transaction(org) as connection:
        assert crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY)
        assert not crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY)
        counts = {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
            for table in ("clients", "leads", "bookings", "payments", "class_sessions")
        }
        overbooked = connection.execute(
            text("""
                SELECT count(*) FROM (
                    SELECT s.id FROM class_sessions s JOIN bookings b ON b.session_id = s.id AND b.status <> 'cancelled'
                     GROUP BY s.id, s.capacity HAVING count(*) > s.capacity) AS too_full
            """)
        ).scalar_one()
        first: date = connection.execute(text("SELECT min(starts_at)::date FROM class_sessions")).scalar_one()
    assert counts["clients"] == 240
    assert counts["leads"] == 60
    assert counts["bookings"] > 3_000
    assert counts["payments"] > 1_000
    assert overbooked == 0
    assert (TODAY - first).days >= 364
    assert use(org, "search_clients", query="Ana Torres")["count"] == 1


def test_the_demonstration_timetable_goes_on_when_time_does(org: UUID) -> None:
    with db.transaction(org) as connection:
        crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY)
        before: int = connection.execute(text("SELECT count(*) FROM class_sessions")).scalar_one()
        crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY + timedelta(days=14))
        crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY + timedelta(days=14))
        after: int = connection.execute(text("SELECT count(*) FROM class_sessions")).scalar_one()
    assert after - before == 2 * 27  # two weeks of the weekly timetable, once


def test_times_are_told_as_the_gyms_clock_shows_them(org: UUID) -> None:
    client = make_row(org, "clients")
    session = make_row(org, "class_sessions", class_id=make_row(org, "classes"))
    make_row(org, "bookings", client_id=client, session_id=session)
    [booking] = use(org, "view_client_bookings", client_id=str(client))["bookings"]
    assert booking["starts_at"] == use(org, "check_class_availability", session_id=str(session))["starts_at"]
    assert datetime.fromisoformat(booking["starts_at"]).utcoffset() == NOW.utcoffset()
