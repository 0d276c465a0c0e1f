"""A month of the gym on real processes, its clock moved forward: who is written to, when, and what is said of it after.

The expectations are written down by hand beside what happens, so that they owe nothing to the code that plans.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pytest

from core.ids import new_id
from embedded.state import read_state
from tests.support.installation import Installation, installation
from tests.support.mail import Mailbox, mail_server
from tests.support.servers import wait_until

HOME = ZoneInfo("Europe/Madrid")
FIRST = datetime(2027, 3, 1, 6, tzinfo=HOME)
"""a Monday; on the 28th the clocks are set forward"""
LOOKS = (time(10), time(17), time(22, 30))
"""when it is looked what is due; the last lies in the quiet hours of most"""
DAYS, BUSY_DAYS = 31, 17
"""after the busy days it is looked once a day"""
PLAIN = [{"name": "plain", "tone": "friendly"}]


class Gym:
    """The gym, its people, and a hand on its clock."""

    def __init__(self, rota: Installation, box: Mailbox, owner: psycopg.Connection[Any]) -> None:
        self.rota = rota
        self.box = box
        self.owner = owner
        self.people: dict[str, UUID] = {}

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of whatever organisation."""
        done = self.owner.execute(statement.encode(), values)
        return done.fetchall() if done.description else []

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.rota.http.request(method, path, json=body)
        assert answer.is_success, (path, answer.text)
        return answer.json()

    def move_to(self, moment: datetime) -> None:
        """Set the clock forward, while nothing runs."""
        self.run("UPDATE clock SET ahead = ahead + (%s - rota_now())", moment)

    def look(self) -> None:
        """Let everything that is due be planned, written and sent."""
        self.call("POST", "/v1/follow-ups/check")
        wait_until(self.is_quiet, seconds=60, what="what is due is written and sent")

    def is_quiet(self) -> bool:
        ((under_way,),) = self.run(
            "SELECT (SELECT count(*) FROM follow_ups f LEFT JOIN outbox m ON m.id = f.message_id WHERE f.status IN "
            "('writing', 'queued') AND (m.send_after IS NULL OR m.send_after <= rota_now())) "
            "+ (SELECT count(*) FROM tasks WHERE status IN ('queued', 'running'))"
        )
        if under_way:
            self.call("POST", "/v1/follow-ups/check")
        return not under_way

    def join(self, name: str, *, days_ago: int = 2, consents: bool = True, zone: str | None = None) -> None:
        """A member whose last visit was so many days before the month begins."""
        made, session = new_id(), new_id()
        org = self.run("SELECT id FROM organisations LIMIT 1")[0][0]
        visit = FIRST - timedelta(days=days_ago) + timedelta(hours=3)
        self.run(
            "INSERT INTO contacts (id, org_id, kind, name, email, status, language, created_at, updated_at) "
            "VALUES (%s, %s, 'client', %s, %s, 'active', 'en', %s, %s)",
            made, org, name, f"{name.lower()}@example.com", visit, visit,
        )  # fmt: skip
        self.run(
            "INSERT INTO clients (id, org_id, joined_on, created_at, updated_at) VALUES (%s, %s, '2026-01-01', %s, %s)",
            made, org, visit, visit,
        )  # fmt: skip
        self.run(
            "INSERT INTO class_sessions (id, org_id, class_id, instructor, room, starts_at, capacity, status) "
            "SELECT %s, org_id, id, 'Marta Gil', 'One', %s, 20, 'scheduled' FROM classes LIMIT 1",
            session, visit,
        )  # fmt: skip
        self.run(
            "INSERT INTO bookings (id, org_id, client_id, session_id, status, created_at) "
            "VALUES (%s, %s, %s, %s, 'attended', %s)",
            new_id(), org, made, session, visit,
        )  # fmt: skip
        self.call("PATCH", f"/v1/contacts/{made}/preferences", {"has_consented": consents, "time_zone": zone})
        self.people[name] = made

    def quote(self, name: str, quote: UUID, **more: Any) -> None:
        body = {"contact": str(self.people[name]), "title": "Family membership", "amount": "480.00"}
        self.call("PUT", f"/v1/quotes/{quote}", body | more)

    def cart(self, name: str, cart: UUID, **more: Any) -> None:
        body = {"contact": str(self.people[name]), "items": [{"name": "Gloves", "price": "25.00"}]}
        self.call("PUT", f"/v1/carts/{cart}", body | more)

    def answer(self, name: str, words: str) -> None:
        self.call("POST", "/v1/inbox", {"sender": f"{name.lower()}@example.com", "channel": "email", "body": words})

    def book(self, name: str) -> None:
        """They book a class of the week to come."""
        ((session,),) = self.run("SELECT id FROM class_sessions WHERE starts_at < %s ORDER BY starts_at LIMIT 1", FIRST)
        self.run(
            "INSERT INTO bookings (id, org_id, client_id, session_id, status, created_at) "
            "SELECT %s, org_id, %s, %s, 'booked', rota_now() FROM class_sessions WHERE id = %s",
            new_id(), self.people[name], session, session,
        )  # fmt: skip


def owner_of(rota: Installation) -> str:
    """The address of the database for who owns its tables."""
    state = read_state(rota.data)
    assert state is not None
    return state.environment["ROTA_OWNER_DATABASE_URL"]


@pytest.fixture(scope="module")
def gym(home: Path) -> Iterator[Gym]:
    with (
        mail_server() as box,
        installation(home / "month", {"ROTA_PRIVATE_NETWORKS": '["127.0.0.0/8"]'}) as rota,
        psycopg.connect(owner_of(rota), autocommit=True) as owner,
    ):
        made = Gym(rota, box, owner)
        made.run(
            "UPDATE contacts SET status = 'cancelled' WHERE kind = 'client'"
        )  # the demonstration's own people: the month is of others
        made.call(
            "PUT", "/v1/channels/email",
            {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "gym@example.com"},
        )  # fmt: skip
        allow = {"name": "to whom it is about", "when": {"tools": ["send_follow_up"]}, "then": "allow_contact"}
        policy = made.call("GET", "/v1/rules")
        made.call("PUT", "/v1/rules", policy | {"rules": [*policy["rules"], allow]})
        yield made


def at(day: int, clock: str) -> datetime:
    """A moment of the month, by the gym's clock."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2027, 3, day, hour, minute, tzinfo=HOME)


def test_a_month_of_the_gym(gym: Gym) -> None:
    gym.move_to(FIRST)
    for slug in ("quotes", "abandoned-carts", "lapsed-members"):
        rule = gym.call("GET", f"/v1/follow-up-rules/{slug}")
        fields = ("name", "trigger", "steps", "channel", "quiet_hours", "cap", "needs_consent", "lateness",
                  "attribution", "agent", "priority")  # fmt: skip
        changed = {name: rule[name] for name in fields} | {"variants": PLAIN}
        gym.call("PUT", f"/v1/follow-up-rules/{slug}", changed)
        gym.call("POST", f"/v1/follow-up-rules/{slug}/switch", {"is_on": True})
    for name in ("Ada", "Bea", "Cleo", "Dora", "Eva", "Finn", "Gus", "Hal", "Ida"):
        gym.join(name)
    gym.join("Jon", consents=False)
    gym.join("Kim", zone="America/New_York")
    gym.join("Lea", days_ago=15)  # away for 21 days on the 7th
    gym.join("Max", days_ago=11)  # on the 11th
    gym.join("Nia", days_ago=1, zone="Asia/Tokyo")
    quotes = {name: new_id() for name in ("Ada", "Bea", "Cleo", "Dora", "Kim", "Ida")}
    carts = {name: new_id() for name in ("Eva", "Finn", "Gus", "Jon", "Ida", "Hal")}

    def lost(name: str) -> None:
        gym.run("UPDATE contacts SET status = 'cancelled' WHERE id = %s", gym.people[name])

    # What happens, and under it what must follow.
    happens = [
        (at(2, "09:30"), lambda: gym.quote("Ada", quotes["Ada"])),  # nobody decides: three messages
        (at(2, "11:00"), lambda: gym.quote("Bea", quotes["Bea"])),
        (at(4, "10:30"), lambda: gym.quote("Bea", quotes["Bea"], status="accepted")),  # after the first
        (at(5, "08:00"), lambda: gym.quote("Cleo", quotes["Cleo"])),
        (at(6, "18:00"), lambda: gym.answer("Cleo", "Let me think about it")),  # after the first
        (at(5, "22:00"), lambda: gym.quote("Dora", quotes["Dora"])),  # due by night: in the morning
        (at(7, "20:00"), lambda: gym.answer("Dora", "STOP")),  # after the first
        (at(12, "09:30"), lambda: gym.quote("Dora", new_id())),  # opted out: nothing
        (at(3, "09:20"), lambda: gym.quote("Kim", quotes["Kim"])),  # half past three in the morning there
        (at(8, "12:30"), lambda: gym.cart("Eva", carts["Eva"])),  # two messages
        (at(8, "12:35"), lambda: gym.cart("Finn", carts["Finn"])),
        (at(8, "20:00"), lambda: gym.cart("Finn", carts["Finn"], status="bought")),  # after the first
        (at(9, "19:00"), lambda: gym.cart("Gus", carts["Gus"])),  # due at 23:00: in the morning
        (at(9, "21:30"), lambda: gym.cart("Gus", carts["Gus"], status="emptied")),  # before the first
        (at(9, "09:00"), lambda: gym.cart("Jon", carts["Jon"])),  # no consent
        (at(10, "09:00"), lambda: gym.cart("Hal", carts["Hal"])),
        (at(10, "19:00"), lambda: gym.cart("Hal", carts["Hal"], status="bought")),  # after the first
        (at(15, "09:00"), lambda: gym.quote("Ida", quotes["Ida"])),  # with a cart, more than three in a week
        (at(16, "05:30"), lambda: gym.cart("Ida", carts["Ida"])),
        (at(9, "12:00"), lambda: gym.book("Lea")),  # after the first
        *((at(20, "08:00"), lambda name=name: lost(name)) for name in ("Ada", "Bea", "Cleo", "Eva", "Finn", "Gus")),
        *((at(20, "08:00"), lambda name=name: lost(name)) for name in ("Hal", "Ida", "Jon", "Kim")),
    ]
    expected = {
        ("Ada", "quotes", 1): at(3, "10:00"),
        ("Ada", "quotes", 2): at(4, "10:00"),
        ("Ada", "quotes", 3): at(5, "10:00"),
        ("Bea", "quotes", 1): at(3, "17:00"),
        ("Cleo", "quotes", 1): at(6, "10:00"),
        ("Dora", "quotes", 1): at(7, "10:00"),
        ("Kim", "quotes", 1): at(4, "17:00"),
        ("Kim", "quotes", 2): at(5, "17:00"),
        ("Kim", "quotes", 3): at(6, "17:00"),
        ("Eva", "abandoned-carts", 1): at(8, "17:00"),
        ("Eva", "abandoned-carts", 2): at(9, "17:00"),
        ("Finn", "abandoned-carts", 1): at(8, "17:00"),
        ("Hal", "abandoned-carts", 1): at(10, "17:00"),
        ("Ida", "quotes", 1): at(16, "10:00"),
        ("Ida", "abandoned-carts", 1): at(16, "10:00"),
        ("Ida", "quotes", 2): at(17, "10:00"),
        ("Lea", "lapsed-members", 1): at(7, "10:00"),
        ("Max", "lapsed-members", 1): at(11, "10:00"),
        ("Max", "lapsed-members", 2): at(21, "10:00"),
        ("Nia", "lapsed-members", 1): at(21, "10:00"),
        ("Nia", "lapsed-members", 2): at(31, "10:00"),  # ten days of 24 hours, across the change of the clocks
    }
    moments = [at(1, "00:00") + timedelta(days=day) for day in range(DAYS)]
    looks = [
        datetime.combine(day.date(), clock, HOME)
        for day in moments
        for clock in (LOOKS if day.day <= BUSY_DAYS else LOOKS[:1])
    ]
    script: list[tuple[datetime, Any]] = [*happens, *((moment, gym.look) for moment in looks)]
    for moment, act in sorted(script, key=lambda step: step[0]):
        gym.move_to(moment)
        act()

    names = {identity: name for name, identity in gym.people.items()}
    sent = {
        (names[contact], rule, step): sent_at
        for contact, rule, step, sent_at in gym.run(
            "SELECT contact, rule, step, sent_at FROM follow_ups WHERE status = 'sent'"
        )
    }
    assert sent.keys() == expected.keys()
    late = {key: (sent[key], moment) for key, moment in expected.items() if not is_about(sent[key], moment)}
    assert late == {}
    outbox = gym.run(
        "SELECT contact, recipient, sent_at, body FROM outbox WHERE channel = 'email' AND contact IS NOT NULL"
    )
    zones = {"Kim": "America/New_York", "Nia": "Asia/Tokyo"}
    for contact, _, left_at, body in outbox:
        clock = left_at.astimezone(ZoneInfo(zones.get(names[contact], "Europe/Madrid"))).time()
        assert time(9) <= clock < time(21)
        assert "answer STOP" in body
    assert Counter(recipient for _, recipient, _, _ in outbox) == Counter(
        f"{name.lower()}@example.com" for name, _, _ in expected
    )
    mails = Counter(str(mail["To"]) for mail in gym.box.mails)
    assert {to: number for to, number in mails.items() if to.split("@")[0].title() in gym.people} == Counter(
        recipient for _, recipient, _, _ in outbox
    )
    report = gym.call("GET", "/v1/follow-ups/effectiveness")
    assert sum(one["sent"] for one in report) == len(outbox)
    assert {(one["rule"], one["step"]): one["sent"] for one in report if one["sent"]} == Counter(
        (rule, step) for _, rule, step in expected
    )
    assert {(one["rule"], one["step"]): one["answered"] for one in report if one["answered"]} == {("quotes", 1): 1}
    assert {(one["rule"], one["step"]): one["converted"] for one in report if one["converted"]} == {
        ("quotes", 1): 1, ("abandoned-carts", 1): 2, ("lapsed-members", 1): 1,
    }  # fmt: skip
    revenue = {(one["rule"], one["step"]): Decimal(one["revenue"]["EUR"]) for one in report if one["revenue"]}
    assert revenue == {("quotes", 1): Decimal(480), ("abandoned-carts", 1): Decimal(50)}
    ((charged,),) = gym.run("SELECT count(*) FROM wallet_entries WHERE item = 'email' AND target = 'spent'")
    assert charged == len(outbox)


def is_about(found: datetime, wanted: datetime) -> bool:
    """Within the time that a look takes."""
    return wanted <= found < wanted + timedelta(minutes=2)
