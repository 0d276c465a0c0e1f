"""What the limits leave: pure counting, which blocks a lane or lets it go on, and says why."""

from collections import Counter

from domain.dispatch.schemas import Block, Counts, Lane, PauseKind, ProviderLimit, Rules, Unclaimed


class Allowance:
    """What the limits leave. All limits of a task are taken together, or none."""

    def __init__(self, rules: Rules, counts: Counts) -> None:
        self._rules = rules
        self._organisations = Counter(counts.organisations)
        self._agents = Counter(counts.agents)
        self._providers = Counter(counts.providers)
        # What is published will start: it is counted as if it had, so that a burst of workers breaks no rate.
        self._starting = Counter(counts.unclaimed)
        self._provider_starting = Counter(counts.unclaimed_providers)

    def block(self, lane: Lane) -> Block | None:
        """What keeps the next task of `lane` from going on; None when nothing does."""
        return self._pause(lane) or self._organisation(lane) or self._agent(lane) or self._provider(lane)

    def take(self, lane: Lane) -> None:
        """Count one task of `lane` against every limit it falls under."""
        self._count(lane, 1)

    def give_back(self, task: Unclaimed) -> None:
        """Count a published task no more."""
        self._count(task, -1)

    def keep(self, task: Unclaimed) -> None:
        """Count it again after all."""
        self._count(task, 1)

    def _count(self, what: Lane | Unclaimed, change: int) -> None:
        self._organisations[what.org_id] += change
        self._starting[what.org_id] += change
        self._agents[what.agent_id] += change
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

    def _provider(self, lane: Lane) -> Block | None:
        for key in _provider_keys(lane):
            if (limit := self._rules.providers.get(key)) and (block := self._provider_block(key, limit)):
                return block
        return None

    def _provider_block(self, key: tuple[str, str], limit: ProviderLimit) -> Block | None:
        name = " ".join(filter(None, key))
        if limit.held_for > 0:
            said = f" ({limit.held_because})" if limit.held_because else ""
            return Block("held", f"{name} asked to be left alone for another {limit.held_for:.0f} s{said}.")
        in_flight = self._providers[key]
        if limit.max_in_flight is not None and in_flight >= limit.max_in_flight:
            return Block("provider", f"{in_flight} tasks are in flight at {name}, its limit.", key[1])
        rate = limit.starts_per_minute
        if rate is not None and limit.started + self._provider_starting[key] >= rate:
            return Block("provider_rate", f"{rate} tasks have started at {name} within a minute, its limit.", key[1])
        return None


def _provider_keys(lane: Lane | Unclaimed) -> tuple[tuple[str, str], tuple[str, str]]:
    return (lane.provider, ""), (lane.provider, lane.model)
