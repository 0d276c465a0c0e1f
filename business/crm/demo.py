"""A demonstration gym: a year of plausible history, generated from a seed and reproducible for a given day.

The history follows from each client's habits (visits a week, favourite classes, reliability). A client joins on a day,
may leave on another, and pays in between. Sessions follow a weekly timetable.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert

from business.crm import models, queries
from business.crm.demo_data import CLASSES, FIRST_NAMES, INTERESTS, LAST_NAMES, PEOPLE, PLANS, SOURCES, TIMETABLE
from business.crm.schemas import ClassCapacity
from core.bulk import insert_rows
from domain.contacts import service as contacts

_DAYS_BACK, _DAYS_AHEAD = 365, 28
_CLIENTS, _LEADS = 240, 60
_SEED = 20_250_101

# Columns that only `contacts` has, and all columns of `contacts`.
_OF_CONTACT_ALONE = ("name", "email", "phone", "status", "language")
_OF_CONTACT = ("id", "org_id", *_OF_CONTACT_ALONE, "created_at", "updated_at")

Row = dict[str, Any]


@dataclass
class Gym:
    """Rows by table, in the order in which they can be inserted."""

    clients: list[Row] = field(default_factory=list)
    leads: list[Row] = field(default_factory=list)
    classes: list[Row] = field(default_factory=list)
    class_sessions: list[Row] = field(default_factory=list)
    bookings: list[Row] = field(default_factory=list)
    subscriptions: list[Row] = field(default_factory=list)
    payments: list[Row] = field(default_factory=list)


@dataclass
class _Person:
    """A client's habits, from which the history follows."""

    row: Row
    joined: date
    left: date | None
    visits_a_week: float
    favourites: list[str]
    reliability: float
    plan: tuple[str, str, str]


def make_gym(org: UUID, *, zone: ZoneInfo, today: date) -> Gym:
    """Return the rows of a gym as of `today`, with a year of history and four weeks of timetable ahead."""
    dice = random.Random(_SEED)
    gym = Gym()
    gym.classes = [{"id": _id(dice, org), "org_id": org, **row} for row in CLASSES]
    capacities = {row["name"]: ClassCapacity(row["id"], row["name"], row["capacity"]) for row in gym.classes}
    sessions = list(_sessions(dice, org, capacities, zone, today))
    gym.class_sessions = [row for _, row in sessions]
    people = [_person(dice, org, number, today) for number in range(_CLIENTS)]
    gym.clients = [person.row for person in people]
    gym.leads = list(_leads(dice, org, zone, today))
    gym.bookings = list(_bookings(dice, org, people, sessions, zone, today))
    for person in people:
        subscription = _subscription(dice, org, person, today)
        gym.subscriptions.append(subscription)
        gym.payments += _payments(dice, org, person, subscription, today)
    return gym


def store(connection: Connection, gym: Gym) -> None:
    """Insert the rows into their tables, with one statement per table."""
    for kind, people in (("client", gym.clients), ("lead", gym.leads)):
        contacts.add_many(
            connection, [{"kind": kind} | {name: row.get(name) for name in _OF_CONTACT} for row in people]
        )
    for table, rows in vars(gym).items():
        own = [{name: value for name, value in row.items() if name not in _OF_CONTACT_ALONE} for row in rows]
        insert_rows(connection, table, own if table in {"clients", "leads"} else rows)


def carry_on(connection: Connection, org: UUID, *, zone: ZoneInfo, today: date) -> None:
    """Extend the timetable to four weeks from `today`, and mark past bookings as attended."""
    queries.mark_past_attended(connection)
    last = queries.last_session_starts(connection)
    known = queries.classes_by_name(connection)
    if last is None or not {row["name"] for row in CLASSES} <= set(known):
        return  # this gym was customised: leave its timetable alone
    dice = random.Random(last.isoformat())
    rows = [row for _, row in _sessions(dice, org, known, zone, today) if row["starts_at"] > last]
    if rows:
        connection.execute(insert(models.class_sessions), rows)


def _id(dice: random.Random, org: UUID) -> UUID:
    """Return an id that is reproducible for an organisation and different for every other."""
    return UUID(int=dice.getrandbits(128) ^ org.int, version=4)


def _sessions(
    dice: random.Random, org: UUID, classes: dict[str, ClassCapacity], zone: ZoneInfo, today: date
) -> Iterator[tuple[str, Row]]:
    for offset in range(-_DAYS_BACK, _DAYS_AHEAD + 1):
        day = today + timedelta(days=offset)
        for weekday, hour, minute, name, instructor, room in TIMETABLE:
            if weekday != day.weekday():
                continue
            yield (
                name,
                {
                    "id": _id(dice, org),
                    "org_id": org,
                    "class_id": classes[name].id,
                    "instructor": instructor,
                    "room": room,
                    "starts_at": datetime.combine(day, time(hour, minute), zone).astimezone(UTC),
                    "capacity": classes[name].capacity,
                    # Now and then an instructor is ill, but never in the days ahead, which a new user would book.
                    "status": "cancelled" if offset < 0 and dice.random() < 0.01 else "scheduled",
                },
            )


def _person(dice: random.Random, org: UUID, number: int, today: date) -> _Person:
    name, language = PEOPLE[number] if number < len(PEOPLE) else _invented_name(dice)
    joined = today - timedelta(days=dice.randint(20, 700))
    is_gone = number >= len(PEOPLE) and dice.random() < 0.22
    left = joined + timedelta(days=dice.randint(15, max(16, (today - joined).days - 1))) if is_gone else None
    status = dice.choice(["cancelled", "lapsed"]) if left else dice.choices(["active", "frozen"], [0.96, 0.04])[0]
    if number < len(PEOPLE):
        status = "active"
    created = datetime.combine(joined, time(12), UTC)
    row = {
        "id": _id(dice, org),
        "org_id": org,
        "name": name,
        "email": f"{_ascii(name).replace(' ', '.')}{number}@example.com",
        "phone": f"+34 6{dice.randint(10, 99)} {dice.randint(100, 999)} {dice.randint(100, 999)}",
        "status": status,
        "language": language,
        "tags": dice.sample(
            ["morning", "evening", "student", "family", "corporate", "personal-training"], k=dice.randint(0, 2)
        ),
        "notes": "",
        "joined_on": joined,
        "created_at": created,
        "updated_at": created,
    }
    return _Person(
        row=row,
        joined=joined,
        left=left,
        visits_a_week=dice.choices([0.3, 1, 2, 3, 4.5], [0.12, 0.28, 0.32, 0.2, 0.08])[0],
        favourites=dice.sample([str(c["name"]) for c in CLASSES], k=3),
        reliability=dice.uniform(0.78, 0.99),
        plan=dice.choices(PLANS, [0.55, 0.2, 0.15, 0.1])[0],
    )


def _invented_name(dice: random.Random) -> tuple[str, str]:
    first, language = dice.choice(FIRST_NAMES)
    last = dice.choice([name for name, tongue in LAST_NAMES if tongue == language])
    second = f" {dice.choice([name for name, tongue in LAST_NAMES if tongue == 'es'])}" if language == "es" else ""
    return f"{first} {last}{second}", language


def _ascii(name: str) -> str:
    return name.lower().translate(str.maketrans("áéíóúüñç", "aeiouunc"))


def _leads(dice: random.Random, org: UUID, zone: ZoneInfo, today: date) -> Iterator[Row]:
    for number in range(_LEADS):
        name, _ = _invented_name(dice)
        age = max(1, dice.randint(0, 90))  # today may not have reached the hour yet
        hour = time(dice.randint(8, 20), dice.randint(0, 59))
        created = datetime.combine(today - timedelta(days=age), hour, zone).astimezone(UTC)
        likely = ["new", "contacted"] if age < 7 else ["contacted", "trial_booked", "trial_done", "won", "lost"]
        yield {
            "id": _id(dice, org),
            "org_id": org,
            "name": name,
            "email": f"{_ascii(name).replace(' ', '.')}.{number}@example.net",
            "phone": f"+34 6{dice.randint(10, 99)} {dice.randint(100, 999)} {dice.randint(100, 999)}",
            "source": dice.choice(SOURCES),
            "interest": dice.choice(INTERESTS),
            "status": dice.choice(likely),
            "notes": "",
            "created_at": created,
            "updated_at": created,
        }


def _bookings(
    dice: random.Random,
    org: UUID,
    people: list[_Person],
    sessions: list[tuple[str, Row]],
    zone: ZoneInfo,
    today: date,
) -> Iterator[Row]:
    keen = [person for person in people if person.row["status"] == "active" or person.left]
    for name, session in sessions:
        day = session["starts_at"].astimezone(zone).date()
        if session["status"] == "cancelled":
            continue
        days_ahead = (day - today).days
        # People book a few days ahead at most: the further off a class is, the emptier.
        eagerness = 1.0 if days_ahead <= 0 else max(0.0, 0.5 - days_ahead * 0.06)
        places = session["capacity"] - (1 if days_ahead > 0 else 0)
        present = [p for p in keen if p.joined <= day and (p.left is None or day < p.left)]
        chosen = [
            p
            for p in present
            if dice.random() < eagerness * p.visits_a_week * (0.055 if name in p.favourites else 0.012)
        ]
        for person in chosen[:places]:
            yield {
                "id": _id(dice, org),
                "org_id": org,
                "client_id": person.row["id"],
                "session_id": session["id"],
                "status": _booking_status(dice, person, days_ahead),
                "created_at": session["starts_at"] - timedelta(hours=dice.randint(3, 70) + 24 * max(0, days_ahead + 1)),
            }


def _booking_status(dice: random.Random, person: _Person, days_ahead: int) -> str:
    if days_ahead >= 0:
        return "booked"
    if dice.random() < 0.06:
        return "cancelled"
    return "attended" if dice.random() < person.reliability else "no_show"


def _subscription(dice: random.Random, org: UUID, person: _Person, today: date) -> Row:
    plan, price, period = person.plan
    status = {"active": "active", "frozen": "paused"}.get(str(person.row["status"]), "cancelled")
    if status == "active" and dice.random() < 0.04:
        status = "past_due"
    return {
        "id": _id(dice, org),
        "org_id": org,
        "client_id": person.row["id"],
        "plan": plan,
        "amount": Decimal(price),
        "currency": "EUR",
        "period": period,
        "status": status,
        "started_on": person.joined,
        "renews_on": _next_renewal(person.joined, period, today) if status in {"active", "past_due"} else None,
        "ended_on": person.left,
    }


def _next_renewal(started: date, period: str, today: date) -> date:
    days = 365 if period == "year" else 30
    return started + timedelta(days=days * ((today - started).days // days + 1))


def _payments(dice: random.Random, org: UUID, person: _Person, subscription: Row, today: date) -> Iterator[Row]:
    method = dice.choices(["card", "direct_debit"], [0.6, 0.4])[0]
    step = timedelta(days=365 if subscription["period"] == "year" else 30)
    due = person.joined
    while due < min(today, person.left or today):
        if (today - due).days <= _DAYS_BACK:
            is_late = due + step >= today and subscription["status"] == "past_due"
            status = "failed" if is_late or dice.random() < 0.03 else "paid"
            yield _payment(dice, org, person, due, subscription["amount"], "membership", method, status) | {
                "subscription_id": subscription["id"]
            }
        due += step
    for _ in range(dice.choices([0, 1, 3, 8], [0.55, 0.25, 0.15, 0.05])[0]):
        kind, amount = dice.choice(
            [("shop", "12.50"), ("shop", "29.90"), ("personal_training", "45.00"), ("day_pass", "15.00")]
        )
        since = max(person.joined, today - timedelta(days=_DAYS_BACK))
        until = person.left or today
        day = since + timedelta(days=dice.randint(0, max(0, (until - since).days - 1)))
        bought = _payment(dice, org, person, day, Decimal(amount), kind, "card", "paid")
        if day < until:  # a client may have left before the year begins
            yield bought


def _payment(
    dice: random.Random, org: UUID, person: _Person, day: date, amount: Decimal, kind: str, method: str, status: str
) -> Row:
    return {
        "id": _id(dice, org),
        "org_id": org,
        "client_id": person.row["id"],
        "subscription_id": None,
        "amount": amount,
        "currency": "EUR",
        "kind": kind,
        "method": method,
        "status": status,
        "paid_at": datetime.combine(day, time(dice.randint(6, 9), dice.randint(0, 59)), UTC),
    }
