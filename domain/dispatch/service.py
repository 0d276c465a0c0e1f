"""Operations of the dispatcher, and pauses and limits that users set."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID

from sqlalchemy import Connection

from core.errors import InvalidInput
from core.model_providers import PROVIDERS
from domain.agents import service as agents
from domain.dispatch import queries
from domain.dispatch.allowance import Allowance
from domain.dispatch.facts import lane_of, read_counts, read_rules
from domain.dispatch.planner import Planner, effective_queue, make_way, room_for_aged
from domain.dispatch.schemas import (
    Counts,
    Crew,
    Lane,
    LimitsView,
    Pause,
    PauseKind,
    Pick,
    ProviderLimitView,
    PublishedTask,
)
from domain.providers import service as providers
from domain.tasks.schemas import PRIORITIES, Due, Priority
from domain.tenants import service as tenants

# ── the dispatcher ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Taken:
    """The result of one dispatch pass."""

    due: list[Due]
    """the tasks marked as dispatched, in the order in which to publish them"""
    next_due: float | None
    """seconds until the next lane with nothing due has a due task; None when no lane has tasks scheduled for later"""
    made_room: bool = False
    """whether tasks were unpublished for more urgent ones, so that another pass is worthwhile at once"""


def take_due(
    connection: Connection,
    planner: Planner,
    bounds: Mapping[Priority, int],
    crowding: Mapping[str, int] | None = None,
    usable: Collection[str] = (),
    most: Mapping[Priority, int] | None = None,
) -> Taken:
    """Mark the next tasks as dispatched: by priority, in turns between organisations, within every limit.

    `bounds` is the number of unclaimed messages that each queue may hold, 0 for a queue that no worker serves.
    `crowding` is the number of messages on each queue that belong to no unclaimed task. `usable` lists the providers
    that can be called. `most` is the number of tasks of each priority that may be in flight. Only one dispatcher may
    call this: between counting and marking, tasks may end but none may be dispatched elsewhere.
    """
    queries.advance_keys(connection)
    if vain := queries.published_in_vain(connection, [queue for queue, bound in bounds.items() if bound > 0]):
        queries.unpublish_unclaimed(connection, vain)
    stored = queries.lanes(connection, max(1, *bounds.values()))
    next_due = min((-lane.waited for lane in stored if lane.waited < 0), default=None)
    lanes = [lane_of(lane, usable) for lane in stored if lane.due]
    if not lanes:
        return Taken([], next_due)
    # Unclaimed tasks are counted before started ones: a task that is claimed in between is counted twice rather than
    # not at all.
    counts = read_counts(connection, crowding)
    allowance = Allowance(read_rules(connection, stored, most or {}), counts)
    picks = planner.plan(lanes, allowance, counts, bounds)
    due = _mark(connection, picks) if picks else []
    return Taken(due, next_due, made_room=_make_way(connection, lanes, picks, allowance, counts, bounds))


def _make_way(
    connection: Connection,
    lanes: list[Lane],
    picks: list[Pick],
    allowance: Allowance,
    counts: Counts,
    bounds: Mapping[Priority, int],
) -> bool:
    """Unpublish unclaimed tasks that use up a limit which more urgent tasks need. Return whether any was."""
    if not any(allowance.block(lane) for lane in lanes) or not any(counts.on_queue.values()):
        return False
    published = queries.unclaimed(connection)
    picked = Counter(pick.queue for pick in picks)
    room = {queue: bounds[queue] - counts.on_queue.get(queue, 0) - picked[queue] for queue in PRIORITIES}
    found = make_way(lanes, picks, published, allowance, room)
    return bool(found) and queries.unpublish_unclaimed(connection, found) > 0


def crews(connection: Connection, lease: timedelta) -> list[Crew]:
    """Return the slots of the live workers, by the queues that they serve."""
    return queries.crews(connection, lease)


def unclaimed_by_queue(connection: Connection) -> dict[str, int]:
    """Return the number of published, unclaimed tasks by the queue they were published on."""
    return {str(queue): number for queue, number in read_counts(connection).on_queue.items()}


def promote_old(connection: Connection, planner: Planner, bounds: Mapping[Priority, int]) -> list[Due]:
    """Move aged, unclaimed tasks to the higher queue due to them, if it is their turn and the queue has room."""
    old = queries.old_and_published(connection, planner.ageing)
    moved: dict[UUID, str] = {}
    held = Counter(read_counts(connection).promoted) if old else Counter()
    served = [queue for queue in PRIORITIES if bounds[queue] > 0]
    for task in old:
        queue = effective_queue(task.priority, task.waited, planner.ageing, served)
        is_higher = PRIORITIES.index(queue) < PRIORITIES.index(task.queue)
        if is_higher and room_for_aged(bounds[queue], held[queue]) > 0 and planner.lift():
            held[queue] += 1
            moved[task.id] = queue
    return queries.move_published(connection, moved) if moved else []


def _mark(connection: Connection, picks: list[Pick]) -> list[Due]:
    """Mark the picked tasks as dispatched and return them in the order of the picks, so that the Celery queues keep the
    turns. Returns fewer tasks than were picked if one was just cancelled or is locked by another transaction.
    """
    numbers = {lane: number for number, lane in enumerate(dict.fromkeys(pick.lane for pick in picks), start=1)}
    taken = Counter[Lane]()
    places: list[tuple[int, int, str]] = []
    for pick in picks:
        taken[pick.lane] += 1
        places.append((numbers[pick.lane], taken[pick.lane], pick.queue))
    return queries.mark_as_dispatched(connection, taken, places)


def long_unclaimed(connection: Connection, patience: timedelta) -> list[PublishedTask]:
    """Return the tasks that were published longer than `patience` ago and are unclaimed."""
    return queries.long_unclaimed(connection, patience)


def unpublish(connection: Connection, lost: Collection[UUID]) -> int:
    """Make published tasks whose messages were lost due again. Returns how many."""
    return queries.unpublish_unclaimed(connection, list(lost)) if lost else 0


def unpublish_all(connection: Connection) -> int:
    """Make every published, unclaimed task due again, after the broker lost its messages. Returns how many."""
    return queries.unpublish_unclaimed(connection, None)


# ── pauses and limits ────────────────────────────────────────────────────────────────────────────────────────────────


def pause(connection: Connection, org: UUID, kind: PauseKind, name: str, reason: str | None) -> Pause:
    """Keep tasks of an organisation, queue or agent from starting until it is resumed. Running tasks continue.
    Idempotent.

    Raises:
        NotFound: there is no such agent.
        InvalidInput: there is no such queue.
    """
    return queries.insert_pause(connection, org, kind, _checked(connection, org, kind, name), reason)


def resume(connection: Connection, org: UUID, kind: PauseKind, name: str) -> bool:
    """Resume an organisation, queue or agent, also a deleted agent. Return False when it was not paused."""
    return queries.delete_pause(connection, kind, _named(connection, org, kind, name))


def _checked(connection: Connection, org: UUID, kind: PauseKind, name: str) -> str:
    if kind == "agent":
        return agents.get_agent(connection, name).slug
    if kind == "queue" and name not in get_args(Priority):
        raise InvalidInput(f"There is no queue {name!r}. The queues: {', '.join(get_args(Priority))}.")
    return _named(connection, org, kind, name)


def _named(connection: Connection, org: UUID, kind: PauseKind, name: str) -> str:
    return tenants.get_organisation(connection, org).slug if kind == "organisation" else name


def pauses(connection: Connection) -> list[Pause]:
    """Return the organisation's pauses."""
    return queries.pauses(connection)


def limits(connection: Connection, org: UUID) -> LimitsView:
    """Return the organisation's limits and their current use."""
    stored = queries.organisation_limits(connection, org)
    started = queries.started_last_minute(connection, {org: stored.starts_per_minute or 1_000_000})
    return LimitsView(
        weight=stored.weight,
        max_in_flight=stored.max_in_flight,
        in_flight=read_counts(connection).organisations.get(org, 0),
        starts_per_minute=stored.starts_per_minute,
        started_last_minute=started.get(org, 0),
    )


DEFAULT_RATE = 100
"""tasks that an organisation may start in a minute; equal to the column's default in the table"""


def has_default_rate(connection: Connection, org: UUID) -> bool:
    """Whether the organisation still has the default rate."""
    return queries.organisation_limits(connection, org).starts_per_minute == DEFAULT_RATE


def set_organisation_limits(connection: Connection, org: UUID, changes: dict[str, int | None]) -> LimitsView:
    """Change those of `weight`, `max_in_flight` and `starts_per_minute` that are given; None removes a limit. Takes
    effect with the next dispatch.
    """
    stored = queries.lock_organisation_limits(connection, org)  # two changes of different limits must both stand
    queries.set_organisation_limits(connection, org, asdict(stored) | changes)
    return limits(connection, org)


def set_provider_limits(connection: Connection, provider: str, limits: dict[str, Any]) -> None:
    """Set `max_in_flight` and `starts_per_minute` of a provider, or of one `model` if named; None means no limit.

    Raises:
        InvalidInput: there is no such provider.
    """
    if provider not in PROVIDERS and not providers.is_known(connection, provider):
        raise InvalidInput(
            f"There is no provider {provider!r}. Name {', '.join(PROVIDERS)}, an endpoint of the installation, or an "
            f"organisation's as organisation/name."
        )
    queries.set_provider_limits(connection, {"provider": provider, **limits})


def provider_limits(connection: Connection) -> list[ProviderLimitView]:
    """Return the providers' limits and paces and their current use."""
    in_flight = read_counts(connection).providers
    return [
        ProviderLimitView(
            provider=one.provider,
            model=one.model,
            max_in_flight=one.max_in_flight,
            in_flight=in_flight.get((one.provider, one.model), 0),
            starts_per_minute=one.starts_per_minute,
            started_last_minute=one.started,
            held_until=one.held_until if one.held_for else None,
            held_because=one.cause,
            calls_per_minute=60 * one.rate if one.rate else None,
        )
        for one in queries.provider_limits(connection)
    ]
