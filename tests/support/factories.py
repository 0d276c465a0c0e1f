"""Organisations, tasks and gyms for tests."""

import functools
from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert, text

from agents.catalogue import load_catalogue
from agents.checks import agent_check
from core import db
from core.ids import new_id
from domain.agents import service as agents
from domain.agents.schemas import Agent, AgentChange
from domain.claims import service as claims
from domain.claims.schemas import Claimed, JournalLine, StepRecord
from domain.dispatch import service as dispatching
from domain.dispatch.planner import Planner
from domain.dispatch.shares import most_in_flight
from domain.tasks import service as tasks
from domain.tasks.schemas import PRIORITIES, Due, Step, SubmissionContext, Task, TaskInput, TaskSubmission
from domain.tenants import keys
from domain.tenants import service as tenants
from domain.tenants.permissions import Grant
from domain.tenants.schemas import NewLocation, NewUser, RoleGrant
from domain.wallet import service as wallet
from domain.wallet.schemas import TopUp
from domain.workers import service as workers
from tests.support.tables import tables

OWNER = "owner@example.com"
ZONE = ZoneInfo("Europe/Madrid")
NOW = datetime.now(ZONE)
"""The moment that records and tools share. It is read once: a run that goes past midnight must not make its records on
one day and look for them on another."""


def make_organisation(
    slug: str, *, tokens: int = 1_000_000, is_prepaid: bool = True, is_demonstration: bool = True
) -> UUID:
    """An organisation with the ready-made agents, and prepaid with some tokens. Its people are invented, so what tests
    have the rehearsal model write may leave.
    """
    with db.system_transaction() as connection:
        org = tenants.ensure_organisation(connection, slug=slug, name=slug.title(), time_zone="Europe/Madrid").id
        tenants.ensure_owner(connection, org, OWNER)
        tenants.set_prepaid(connection, org, is_prepaid=is_prepaid)
        if tokens:
            wallet.top_up(connection, org, TopUp(tokens=tokens))
        if is_demonstration:
            tenants.mark_demonstration(connection, org)
    with db.transaction(org) as connection:
        agents.seed_agents(connection, org, load_catalogue(), agent_check(connection))
    return org


@functools.lru_cache(maxsize=1024)
def owner_of(org: UUID) -> UUID:
    """The user who owns the organisation."""
    with db.transaction(org) as connection:
        return tenants.user_with_email(connection, org, OWNER).id


def make_user(org: UUID, *roles: str, at: str | None = None) -> UUID:
    """A user of the organisation with these roles, everywhere or at one location."""
    everything = [Grant(("*",), None)]
    fields = NewUser(
        email=f"{new_id().hex[-12:]}@example.com",
        name="Somebody",
        grants=[RoleGrant(role=role, location=at) for role in roles],
    )
    with db.transaction(org) as connection:
        return tenants.add_user(connection, org, fields, by=everything).id


def make_location(org: UUID, slug: str) -> UUID:
    """A location of the organisation."""
    with db.transaction(org) as connection:
        return tenants.add_location(connection, org, NewLocation(slug=slug, name=slug.title())).id


def make_key(org: UUID, pepper: str, *, user: UUID | None = None, scopes: list[str] | None = None) -> str:
    """An API key of the organisation's owner, or of another user."""
    with db.system_transaction() as connection:
        key = keys.create_api_key(
            connection, org, user_id=user or owner_of(org), name="test", pepper=pepper, scopes=scopes
        )
    return str(key)


def change_agent(org: UUID, slug: str, **changes: Any) -> Agent:
    """Change an agent."""
    with db.transaction(org) as connection:
        change = AgentChange.model_validate(changes)
        return agents.change_agent(connection, slug, change, agent_check(connection))


def submission(message: str = "hello", **more: Any) -> TaskSubmission:
    """A submission to the support assistant."""
    return TaskSubmission(**{"agent": "support-assistant", "input": TaskInput(message=message), **more})


def submit(
    org: UUID, message: str = "hello", *, idempotency_key: str | None = None, user: UUID | None = None, **more: Any
) -> Task:
    """A submitted task, for the organisation's owner or another user."""
    context = SubmissionContext(user_id=user or owner_of(org))
    return submit_within(org, submission(message, **more), context, idempotency_key=idempotency_key)


def submit_within(
    org: UUID, wanted: TaskSubmission, context: SubmissionContext, *, idempotency_key: str | None = None
) -> Task:
    """A submitted task, in this context."""
    with db.transaction(org) as connection:
        return tasks.submit(connection, wanted, context, idempotency_key=idempotency_key)


def dispatch(
    *,
    bound: int = 100,
    bounds: dict[Any, int] | None = None,
    planner: Planner | None = None,
    keeps_share: bool = False,
    usable: Collection[str] = (),
) -> list[Due]:
    """What the dispatcher would publish now; with `keeps_share`, as far as bulk leaves slots to what is more urgent."""
    with db.system_transaction() as connection:
        planner = planner or Planner(timedelta(minutes=2))
        wanted = dict.fromkeys(PRIORITIES, bound) | (bounds or {})
        most = most_in_flight(dispatching.crews(connection, timedelta(seconds=10))) if keeps_share else None
        return dispatching.take_due(connection, planner, wanted, usable=usable, most=most).due


def publish(org: UUID, task_id: UUID) -> None:
    """Have the task stand as dispatched, whatever else is due."""
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE tasks SET dispatched_at = rota_now() WHERE id = :id"), {"id": task_id})


def claim(org: UUID, task_id: UUID, number: int = 0, worker: str = "w1") -> Claimed | None:
    """The task, which was published, claimed by `worker`; None when the claim is refused."""
    publish(org, task_id)
    with db.transaction(org) as connection:
        return claims.claim(connection, task_id, number, worker)


def look(org: UUID, task_id: UUID) -> Any:
    """The task with its journal and attempts."""
    with db.transaction(org) as connection:
        return tasks.get_task_detail(connection, task_id)


def register_worker(worker: str = "w1") -> None:
    """A worker that was heard of just now."""
    with db.system_transaction() as connection:
        workers.register_worker(
            connection,
            {
                "id": worker,
                "name": worker,
                "hostname": "here",
                "pid": 1,
                "queues": ["critical", "high", "normal", "low"],
                "concurrency": 1,
                "pool": "elastic",
            },
        )


def make_row(org: UUID, table: str, **values: Any) -> UUID:
    """A row of the gym's records, with sensible values for what is not given."""
    row_id = new_id()
    row = {"id": row_id, "org_id": org, **_defaults(table), **values}
    with db.transaction(org) as connection:
        if kind := _KINDS.get(table):
            contact = {name: row.pop(name, None) for name in _OF_CONTACT} | {
                "id": row["id"],
                "org_id": org,
                "kind": kind,
            }
            stamps = {name: row[name] for name in ("created_at", "updated_at")}
            connection.execute(insert(tables()["contacts"]), contact | stamps | {"has_consented": False})
        connection.execute(insert(tables()[table]), row)
    return row_id


_KINDS = {"clients": "client", "leads": "lead"}
_OF_CONTACT = ("name", "email", "phone", "status", "language", "location_id")


def _defaults(table: str) -> dict[str, Any]:
    stamps = {"created_at": NOW, "updated_at": NOW}
    defaults: dict[str, dict[str, Any]] = {
        "clients": {
            "name": "Ana Torres", "email": "ana@example.com", "phone": "+34 600 111 222", "status": "active",
            "language": "es", "tags": [], "notes": "", "joined_on": date(2026, 1, 1), **stamps,
        },
        "leads": {
            "name": "Leo Park", "email": "leo@example.com", "phone": None, "source": "instagram",
            "interest": "boxing", "status": "new", "notes": "", **stamps,
        },
        "classes": {
            "name": "Spin", "category": "cardio", "description": "Cycling", "level": "all levels",
            "duration_minutes": 45, "capacity": 10,
        },
        "class_sessions": {
            "instructor": "Marta Gil", "room": "One", "starts_at": NOW + timedelta(days=1), "capacity": 10,
            "status": "scheduled",
        },
        "bookings": {"status": "booked", "created_at": NOW},
        "trial_bookings": {"task_id": new_id(), "created_by": "lead-nurture", "status": "booked", "created_at": NOW},
        "subscriptions": {
            "plan": "Unlimited", "amount": 59, "currency": "EUR", "period": "month", "status": "active",
            "started_on": date(2026, 1, 1), "renews_on": None, "ended_on": None,
        },
        "payments": {
            "subscription_id": None, "amount": 59, "currency": "EUR", "kind": "membership", "method": "card",
            "status": "paid", "paid_at": NOW,
        },
    }  # fmt: skip
    return defaults[table]


def record_step(connection: Connection, task: Claimed, record: StepRecord) -> Step:
    """Write one step into the journal, as a worker does."""
    claims.record_steps(connection, task, [JournalLine(record, new_id())])
    return claims.as_step(task, record)
