"""The demonstration gym: its records agree with each other and with the day it was made, in every time zone."""

import functools
from collections import Counter
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from business.crm import demo

TODAY = date(2026, 3, 4)
# Zones in which classes are on another day than in UTC: in the morning, or in the evening.
ZONES = {"Pacific/Auckland": UUID(int=7), "America/Los_Angeles": UUID(int=8)}


@functools.cache
def made(zone: str) -> demo.Gym:
    return demo.make_gym(ZONES[zone], zone=ZoneInfo(zone), today=TODAY)


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> ZoneInfo:
    return ZoneInfo(request.param)


@pytest.fixture
def gym(zone: ZoneInfo) -> demo.Gym:
    return made(str(zone))


@pytest.fixture
def midnight(zone: ZoneInfo) -> datetime:
    """The earliest moment at which the gym can be made on its day."""
    return datetime.combine(TODAY, time.min, zone)


def by_id(rows: list[dict[str, Any]]) -> dict[UUID, dict[str, Any]]:
    return {row["id"]: row for row in rows}


def days_of_bookings(gym: demo.Gym, zone: ZoneInfo) -> list[tuple[dict[str, Any], date]]:
    """Each booking with the day of its class by the gym's clock."""
    sessions = by_id(gym.class_sessions)
    return [(row, sessions[row["session_id"]]["starts_at"].astimezone(zone).date()) for row in gym.bookings]


def test_only_classes_of_earlier_days_have_attendance(gym: demo.Gym, zone: ZoneInfo) -> None:
    upcoming = {row["status"] for row, day in days_of_bookings(gym, zone) if day >= TODAY}
    past = {row["status"] for row, day in days_of_bookings(gym, zone) if day < TODAY}
    assert upcoming == {"booked"}
    assert past == {"attended", "no_show", "cancelled"}


def test_nothing_was_made_or_paid_after_the_gym_was(gym: demo.Gym, midnight: datetime) -> None:
    for table in ("clients", "leads", "bookings"):
        assert max(row["created_at"] for row in getattr(gym, table)) < midnight, table
    assert max(row["paid_at"] for row in gym.payments) < midnight
    assert {row["status"] for row in gym.class_sessions if row["starts_at"] >= midnight} == {"scheduled"}


def test_clients_come_and_pay_only_while_they_are_members(gym: demo.Gym, zone: ZoneInfo) -> None:
    joined = {row["id"]: row["joined_on"] for row in gym.clients}
    left = {row["client_id"]: row["ended_on"] or date.max for row in gym.subscriptions}
    came = [(row["client_id"], day) for row, day in days_of_bookings(gym, zone)]
    paid = [(row["client_id"], row["paid_at"].date()) for row in gym.payments]
    assert [one for one in came + paid if not joined[one[0]] <= one[1] < left[one[0]]] == []


def test_no_session_is_overbooked_or_booked_twice_by_a_client(gym: demo.Gym) -> None:
    taken = Counter(row["session_id"] for row in gym.bookings)
    sessions = by_id(gym.class_sessions)
    assert all(count <= sessions[session]["capacity"] for session, count in taken.items())
    assert {sessions[session]["status"] for session in taken} == {"scheduled"}
    pairs = Counter((row["session_id"], row["client_id"]) for row in gym.bookings)
    assert pairs.most_common(1)[0][1] == 1


def test_every_future_session_has_a_place_to_book(gym: demo.Gym, zone: ZoneInfo) -> None:
    taken = Counter(row["session_id"] for row in gym.bookings)
    tomorrow = datetime.combine(TODAY + timedelta(days=1), time.min, zone)
    future = [row for row in gym.class_sessions if row["starts_at"] >= tomorrow]
    assert len(future) == 4 * 27  # four weeks of the weekly timetable
    assert all(taken[row["id"]] < row["capacity"] for row in future)


def test_subscriptions_agree_with_their_clients(gym: demo.Gym) -> None:
    clients = by_id(gym.clients)
    fitting = {
        "active": {"active", "past_due"},
        "frozen": {"paused"},
        "cancelled": {"cancelled"},
        "lapsed": {"cancelled"},
    }
    assert len(gym.subscriptions) == len(clients)
    for row in gym.subscriptions:
        assert row["status"] in fitting[clients[row["client_id"]]["status"]]
        assert (row["ended_on"] is not None) == (row["status"] == "cancelled")
        assert (row["renews_on"] is not None) == (row["status"] in {"active", "past_due"})
        assert row["renews_on"] is None or TODAY < row["renews_on"] <= TODAY + timedelta(days=365)


def test_a_past_due_subscription_has_a_failed_last_payment(gym: demo.Gym) -> None:
    past_due = [row["id"] for row in gym.subscriptions if row["status"] == "past_due" and row["period"] == "month"]
    last = {row["subscription_id"]: row["status"] for row in gym.payments}  # in order of time
    assert past_due
    assert {last[subscription] for subscription in past_due} == {"failed"}


def test_two_organisations_have_the_same_people_under_different_ids() -> None:
    first, second = (made(zone) for zone in ZONES)
    assert [row["name"] for row in first.clients] == [row["name"] for row in second.clients]
    assert len(first.bookings) == len(second.bookings)
    for table, rows in vars(first).items():
        assert {row["org_id"] for row in rows} == {ZONES["Pacific/Auckland"]}, table
        ids = {row["id"] for row in rows}
        assert len(ids) == len(rows), table
        assert ids.isdisjoint(row["id"] for row in getattr(second, table)), table


def test_addresses_are_distinct_and_reserved_for_examples(gym: demo.Gym) -> None:
    addresses = [row["email"] for row in (*gym.clients, *gym.leads)]
    assert len(set(addresses)) == len(addresses)
    assert {address.rpartition("@")[2] for address in addresses} == {"example.com", "example.net"}
    assert all(address.isascii() and " " not in address for address in addresses)
