"""Read the input of dispatch from the database: lanes, counts and rules."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.billing.routing import provider_of
from domain.dispatch import queries
from domain.dispatch.schemas import Counts, Lane, OrganisationLimit, ProviderLimit, Rules
from domain.pacing.rules import room
from domain.providers import service as providers
from domain.tasks.schemas import Priority

Row = Any
"""a row of the database, by column name"""


def read_counts(connection: Connection, crowding: Mapping[str, int] | None = None) -> Counts:
    """Count the tasks in flight. `crowding` is the number of messages on each queue without an unclaimed task."""
    return _counts(queries.in_flight(connection), crowding or {})


def lane_of(row: Row, usable: Collection[str]) -> Lane:
    """Build a lane from a row. `usable` lists the providers that can be called."""
    return Lane(
        priority=row["priority"],
        org_id=row["org_id"],
        agent_id=row["agent_id"],
        agent=row["agent"],
        provider=_provider(row),
        model=row["model"],
        due=row["due"],
        waited=row["waited"],
        has_fallback=row["fallback_model"] is not None and _can_be_called(row["fallback_model"], usable),
        weight=row["weight"],
        is_off=row["is_off"],
    )


def _can_be_called(model: str, usable: Collection[str]) -> bool:
    return providers.of_installation(model) is not None or provider_of(model) in usable


def _provider(row: Row) -> str:
    """Return the provider name under which limits and paces count a lane's model."""
    if row["own_endpoint"]:
        return str(row["own_endpoint"])
    shared = providers.of_installation(row["model"])
    return shared.name if shared else row["own_provider"] or provider_of(row["model"])


def _counts(rows: Sequence[Row], crowding: Mapping[str, int]) -> Counts:
    organisations, agents_, unclaimed = Counter[UUID](), Counter[UUID](), Counter[UUID]()
    providers, unclaimed_providers = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    on_queue, promoted, priorities = Counter[Any](dict(crowding)), Counter[Any](), Counter[Any]()
    for row in rows:
        number = row["tasks"]
        organisations[row["org_id"]] += number
        agents_[row["agent_id"]] += number
        priorities[row["priority"]] += number
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
    return Counts(organisations, agents_, providers, unclaimed, unclaimed_providers, on_queue, promoted, priorities)


def read_rules(connection: Connection, rows: Sequence[Row], most: Mapping[Priority, int]) -> Rules:
    """Read every limit and pause that applies to the lanes of `rows`. `most` limits the tasks in flight by priority."""
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
        providers={(row["provider"], row["model"]): provider_limit(row) for row in queries.provider_limits(connection)},
        priorities=most,
        pauses={(row["org_id"], row["kind"], row["name"]): row["reason"] or "" for row in queries.paused(connection)},
    )


def provider_limit(row: Row) -> ProviderLimit:
    """Build the limits and the pace of a provider or model from a row."""
    return ProviderLimit(
        row["max_in_flight"],
        row["starts_per_minute"],
        row["started"],
        held_for=row["held_for"],
        cause=row["cause"],
        rate=row["rate"] or 0.0,
        room=None if row["cause"] is None else room(row["rate"], row["ahead"]),
    )
