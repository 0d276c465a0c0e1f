"""Count tasks against limits, and block lanes that have reached one, with the reason. Pure."""

from collections import Counter

from domain.dispatch.schemas import Block, Counts, Lane, PauseKind, ProviderLimit, Rules, Unclaimed


class Allowance:
    """What the limits still allow. A task counts against all of its limits or against none."""

    def __init__(self, rules: Rules, counts: Counts) -> None:
        self._rules = rules
        self._organisations = Counter(counts.organisations)
        self._agents = Counter(counts.agents)
        self._priorities = Counter(counts.priorities)
        self._providers = Counter(counts.providers)
        # Published tasks are counted as started: they will start, perhaps all at once, and must not exceed a rate.
        self._starting = Counter(counts.unclaimed)
        self._provider_starting = Counter(counts.unclaimed_providers)

    def block(self, lane: Lane) -> Block | None:
        """Return what keeps the next task of `lane` from being dispatched; None when nothing does."""
        limits = (switched_off, self._pause, self._organisation, self._agent, self._provider, self._share)
        return next((block for limit in limits if (block := limit(lane))), None)

    def take(self, lane: Lane) -> None:
        """Count one task of `lane` against every limit that applies to it."""
        self._count(lane, 1)

    def give_back(self, task: Unclaimed) -> None:
        """Stop counting a published task."""
        self._count(task, -1)

    def keep(self, task: Unclaimed) -> None:
        """Count a published task again, after `give_back`."""
        self._count(task, 1)

    def _count(self, what: Lane | Unclaimed, change: int) -> None:
        self._organisations[what.org_id] += change
        self._starting[what.org_id] += change
        self._agents[what.agent_id] += change
        if isinstance(what, Lane):  # a task is given back for a more urgent lane, which has no limit by priority
            self._priorities[what.priority] += change
        for key in _provider_keys(what):
            self._providers[key] += change
            self._provider_starting[key] += change

    def _pause(self, lane: Lane) -> Block | None:
        names: tuple[tuple[PauseKind, str], ...] = (
            ("organisation", ""),
            ("queue", lane.priority),
            ("agent", lane.agent),
        )
        for kind, name in names:
            reason = self._rules.pauses.get((lane.org_id, kind, name))
            if reason is not None:
                because = f" ({reason})" if reason else ""
                return Block("paused", f"The {kind} {name} is paused{because}.".replace("  ", " "))
        return None

    def _organisation(self, lane: Lane) -> Block | None:
        limit = self._rules.organisations.get(lane.org_id)
        if limit is None:
            return None
        in_flight = self._organisations[lane.org_id]
        if limit.max_in_flight is not None and in_flight >= limit.max_in_flight:
            return Block("organisation", f"The organisation has {in_flight} tasks in flight, its limit.")
        rate = limit.starts_per_minute
        if rate is not None and limit.started + self._starting[lane.org_id] >= rate:
            return Block(
                "rate", f"The organisation has started, or is about to start, its {rate} tasks of this minute."
            )
        return None

    def _agent(self, lane: Lane) -> Block | None:
        limit = self._rules.agents.get(lane.agent_id)
        in_flight = self._agents[lane.agent_id]
        if limit is not None and in_flight >= limit:
            return Block("agent", f"The agent {lane.agent} has {in_flight} tasks in flight, its limit.")
        return None

    def _share(self, lane: Lane) -> Block | None:
        most = self._rules.priorities.get(lane.priority)
        in_flight = self._priorities[lane.priority]
        if most is None or in_flight < most:
            return None
        return Block(
            "share",
            f"{in_flight} tasks of priority {lane.priority} are in flight; the workers' other slots are kept for more "
            "urgent ones.",
        )

    def _provider(self, lane: Lane) -> Block | None:
        for key in _provider_keys(lane):
            limit = self._rules.providers.get(key)
            if limit and (block := self._pace(key, limit, lane) or self._provider_block(key, limit)):
                return block
        return None

    def _pace(self, key: tuple[str, str], limit: ProviderLimit, lane: Lane) -> Block | None:
        """Return the block by the provider's pace, if any. In an outage, lanes with a fallback pass: they use it."""
        if limit.cause is None or (limit.cause == "outage" and lane.has_fallback):
            return None
        name = " ".join(filter(None, key))
        why = "limits how often it is called" if limit.cause == "limit" else "is down"
        if limit.held_for > 0:
            return Block("held", f"{name} {why}: the next call is made in {limit.held_for:.1f} s.", key[1])
        if limit.room is not None and self._provider_starting[key] >= limit.room:
            pace = f"{60 * limit.rate:.0f} calls a minute are made for now"
            return Block("held", f"{name} {why}: {pace}, and those before it come first.", key[1])
        return None

    def _provider_block(self, key: tuple[str, str], limit: ProviderLimit) -> Block | None:
        name = " ".join(filter(None, key))
        in_flight = self._providers[key]
        if limit.max_in_flight is not None and in_flight >= limit.max_in_flight:
            return Block("provider", f"{in_flight} tasks are in flight at {name}, its limit.", key[1])
        rate = limit.starts_per_minute
        if rate is not None and limit.started + self._provider_starting[key] >= rate:
            return Block("provider_rate", f"{rate} tasks have started at {name} within a minute, its limit.", key[1])
        return None


def switched_off(lane: Lane) -> Block | None:
    """Return the block of a lane whose agent is switched off; None when the agent is on."""
    if not lane.is_off:
        return None
    return Block("agent_off", f"The agent {lane.agent} is switched off; its tasks start again when it is switched on.")


def _provider_keys(lane: Lane | Unclaimed) -> tuple[tuple[str, str], tuple[str, str]]:
    return (lane.provider, ""), (lane.provider, lane.model)
