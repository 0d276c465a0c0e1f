"""Read the input of dispatch from the database: lanes, counts and rules."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from domain.billing.routing import provider_of
from domain.dispatch import queries
from domain.dispatch.schemas import (
    Counts,
    InFlight,
    Lane,
    OrganisationLimit,
    ProviderLimit,
    Rules,
    StoredLane,
    StoredProviderLimit,
)
from domain.pacing.rules import room
from domain.providers import service as providers
from domain.tasks.schemas import Priority


def read_counts(connection: Connection, crowding: Mapping[str, int] | None = None) -> Counts:
    """Count the tasks in flight. `crowding` is the number of messages on each queue without an unclaimed task."""
    return _counts(queries.in_flight(connection), crowding or {})


def lane_of(stored: StoredLane, usable: Collection[str]) -> Lane:
    """Build a lane as the planner needs it. `usable` lists the providers that can be called."""
    return Lane(
        priority=stored.priority,
        org_id=stored.org_id,
        agent_id=stored.agent_id,
        agent=stored.agent,
        provider=_provider(stored),
        model=stored.model,
        due=stored.due,
        waited=stored.waited,
        has_fallback=stored.fallback_model is not None and _can_be_called(stored.fallback_model, usable),
        weight=stored.weight,
        is_off=stored.is_off,
    )


def _can_be_called(model: str, usable: Collection[str]) -> bool:
    return providers.of_installation(model) is not None or provider_of(model) in usable


def _provider(lane: StoredLane) -> str:
    """Return the provider name under which limits and paces count a lane's model."""
    if lane.own_endpoint:
        return lane.own_endpoint
    shared = providers.of_installation(lane.model)
    return shared.name if shared else lane.own_provider or provider_of(lane.model)


def _counts(groups: Iterable[InFlight], crowding: Mapping[str, int]) -> Counts:
    organisations, agents_, unclaimed = Counter[UUID](), Counter[UUID](), Counter[UUID]()
    providers, unclaimed_providers = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    on_queue, promoted, priorities = Counter[Any](dict(crowding)), Counter[Any](), Counter[Any]()
    for group in groups:
        number = group.tasks
        organisations[group.org_id] += number
        agents_[group.agent_id] += number
        priorities[group.priority] += number
        keys = ((group.provider, ""), (group.provider, group.model))
        for key in keys:
            providers[key] += number
        if group.is_unclaimed:
            unclaimed[group.org_id] += number
            on_queue[group.queue] += number
            for key in keys:
                unclaimed_providers[key] += number
        if group.is_promoted:
            promoted[group.queue] += number
    return Counts(organisations, agents_, providers, unclaimed, unclaimed_providers, on_queue, promoted, priorities)


def read_rules(connection: Connection, lanes: Sequence[StoredLane], most: Mapping[Priority, int]) -> Rules:
    """Read every limit and pause that applies to the lanes. `most` limits the tasks in flight by priority."""
    rates = {lane.org_id: lane.starts_per_minute for lane in lanes if lane.starts_per_minute is not None}
    started = queries.started_last_minute(connection, rates) if rates else {}
    return Rules(
        organisations={
            lane.org_id: OrganisationLimit(lane.org_max_in_flight, lane.starts_per_minute, started.get(lane.org_id, 0))
            for lane in lanes
        },
        agents={lane.agent_id: lane.max_in_flight for lane in lanes if lane.max_in_flight is not None},
        providers={(one.provider, one.model): provider_limit(one) for one in queries.provider_limits(connection)},
        priorities=most,
        pauses=queries.paused(connection),
    )


def provider_limit(stored: StoredProviderLimit) -> ProviderLimit:
    """Build the limits and the pace of a provider or model as dispatch applies them."""
    return ProviderLimit(
        stored.max_in_flight,
        stored.starts_per_minute,
        stored.started,
        held_for=stored.held_for,
        cause=stored.cause,
        rate=stored.rate or 0.0,
        room=None if stored.rate is None or stored.ahead is None else room(stored.rate, stored.ahead),
    )
