"""What dispatch decides on, read from the database: lanes, counts and rules."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.billing.routing import provider_of
from domain.dispatch import queries
from domain.dispatch.schemas import Counts, Lane, OrganisationLimit, ProviderLimit, Rules

Row = Any
"""a row of the database, by column name"""


def read_counts(connection: Connection, crowding: Mapping[str, int] | None = None) -> Counts:
    """Tasks in flight. `crowding` says how many messages of no use each queue holds besides."""
    return _counts(queries.in_flight(connection), crowding or {})


def lane_of(row: Row) -> Lane:
    """The lane that a row describes."""
    return Lane(
        priority=row["priority"],
        org_id=row["org_id"],
        agent_id=row["agent_id"],
        agent=row["agent"],
        provider=row["own_provider"] or provider_of(row["model"]),
        model=row["model"],
        due=row["due"],
        waited=row["waited"],
        weight=row["weight"],
    )


def _counts(rows: Sequence[Row], crowding: Mapping[str, int]) -> Counts:
    organisations, agents_, unclaimed = Counter[UUID](), Counter[UUID](), Counter[UUID]()
    providers, unclaimed_providers = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    on_queue, promoted = Counter[Any](dict(crowding)), Counter[Any]()
    for row in rows:
        number = row["tasks"]
        organisations[row["org_id"]] += number
        agents_[row["agent_id"]] += number
        keys = ((row["provider"], ""), (row["provider"], row["model"]))
        for key in keys:
            providers[key] += number
        if row["is_unclaimed"]:
            unclaimed[row["org_id"]] += number
            on_queue[row["queue"]] += number
            for key in keys:
                unclaimed_providers[key] += number
        if row["is_promoted"]:
            promoted[row["queue"]] += number
    return Counts(organisations, agents_, providers, unclaimed, unclaimed_providers, on_queue, promoted)


def read_rules(connection: Connection, rows: Sequence[Row]) -> Rules:
    """Every limit and pause that the lanes of `rows` fall under."""
    rates = {row["org_id"]: row["starts_per_minute"] for row in rows if row["starts_per_minute"] is not None}
    started = queries.started_last_minute(connection, rates) if rates else {}
    return Rules(
        organisations={
            row["org_id"]: OrganisationLimit(
                row["org_max_in_flight"], row["starts_per_minute"], started.get(row["org_id"], 0)
            )
            for row in rows
        },
        agents={row["agent_id"]: row["max_in_flight"] for row in rows if row["max_in_flight"] is not None},
        providers={
            (row["provider"], row["model"]): ProviderLimit(
                row["max_in_flight"],
                row["starts_per_minute"],
                row["started"],
                row["held_for"],
                row["held_because"] or "",
            )
            for row in queries.provider_limits(connection)
        },
        pauses={(row["org_id"], row["kind"], row["name"]): row["reason"] or "" for row in queries.paused(connection)},
    )
