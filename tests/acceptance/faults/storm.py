"""The faults, and how long it took to recover from each."""

import contextlib
import random
import signal
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import redis

from core.errors import Unavailable
from core.failpoints import PLACES
from tests.acceptance.faults.cluster import Cluster, Slot
from tests.acceptance.faults.letters import Letters
from tests.acceptance.faults.load import Load
from tests.support.servers import wait_until

_DISPATCHERS_PLACES = {"after-mark", "after-publish"}
_SENDERS_PLACES = {"before-send", "after-send"}  # what is in hand there is taken back after minutes only
_AWAY = (psycopg.Error, redis.RedisError, Unavailable)

_MEASURED = {
    "worker killed", "leader killed", "leader frozen", "Redis killed", "Redis flushed", "Redis frozen", "Redis full",
    "Postgres stopped at once", "receivers dribble",
}  # fmt: skip
# The first of each of these, and this share of the others, are made when all is quiet, and nothing else until they are
# over.
_SHARE_MEASURED = 0.12
_STEP_TIMEOUT = 8.0  # seconds until a hanging call is given up
_SHORTEST_OUTAGE, _LONGEST_OUTAGE = 5.0, 90.0  # seconds
_LONG = 15.0  # seconds; a recovery that takes longer is looked into


class Recoveries:
    """Seconds from a fault to its recovery, by kind; those with another fault under way apart."""

    def __init__(self) -> None:
        self.alone: dict[str, list[float]] = defaultdict(list)
        self.disturbed: dict[str, list[float]] = defaultdict(list)

    def lines(self) -> Iterator[str]:
        """What to print."""
        for title, found in (("", self.alone), (" *", self.disturbed)):
            for kind, seconds in sorted(found.items()):
                middle, worst = statistics.median(seconds), max(seconds)
                yield f"{kind + title:52} median {middle:5.1f} s   worst {worst:5.1f} s   of {len(seconds)}"


class Storm:
    """Makes trouble until its time is over. The same seed makes the same trouble in the same order."""

    def __init__(self, cluster: Cluster, load: Load, letters: Letters, *, dice: random.Random) -> None:
        self.cluster = cluster
        self.load = load
        self.letters = letters
        self.dice = dice
        self.counts: Counter[str] = Counter()
        self.details: Counter[str] = Counter()
        self.recoveries = Recoveries()
        self.problems: list[str] = []
        self.outage = 0.0
        """seconds for which the provider is out"""
        self._probes = 0
        self._trouble_ends = 0.0
        self._is_alone = False
        self._old_messages: dict[str, list[bytes]] = {}
        self._places: list[str] = []
        self._watchers: list[threading.Thread] = []
        self._busy: set[str] = set()

    def rage(self, seconds: float, pause: tuple[float, float], only: str = "") -> None:
        """Fault upon fault for `seconds`, with a pause between; `only` those whose names hold that word."""
        kinds = {name: kind for name, kind in self._kinds().items() if only in name}
        order: list[str] = []
        ends = time.monotonic() + seconds
        self.outage = min(_LONGEST_OUTAGE, max(_SHORTEST_OUTAGE, seconds / 8))
        while time.monotonic() < ends:
            if not order:  # every kind has its turn before any has a second
                order = [name for name, (_, share) in kinds.items() for _ in range(share)]
                self.dice.shuffle(order)
            name = order.pop()
            try:
                self._is_alone = name in _MEASURED and self._is_to_be_measured(name) and self._await_quiet()
                kinds[name][0]()
                if self._is_alone:
                    self._await_watchers()
            except (*_AWAY, AssertionError) as error:
                self.problems.append(f"{name}: {type(error).__name__}: {error}"[:300])
            self.counts[name] += 1
            time.sleep(self.dice.uniform(*pause))
        self._await_watchers()

    def _is_to_be_measured(self, name: str) -> bool:
        is_first = self.counts[name] == 0
        return self.dice.random() < _SHARE_MEASURED or is_first

    def _await_watchers(self) -> None:
        for watcher in self._watchers:
            watcher.join(60)

    def _await_quiet(self) -> bool:
        """Wait until everybody is at work and the provider well, so that a recovery can be measured by itself."""

        def is_quiet() -> bool:
            pids = self.cluster.living_workers()
            is_well = time.monotonic() > self._trouble_ends
            return is_well and not self._busy and all(slot.pid in pids for slot in self.cluster.workers())

        wait_until(patient(is_quiet), seconds=40, what="everybody is at work")
        return True

    def _kinds(self) -> dict[str, tuple[Callable[[], None], int]]:
        """Each fault, and how many times it comes in a round."""
        return {
            "worker killed": (self.kill_worker, 4),
            "crash point": (self.crash_point, 8),
            "worker frozen past its lease": (self.freeze_worker, 1),
            "workers stopped one after the other": (self.rolling_stop, 1),
            "leader killed": (self.kill_leader, 3),
            "leader frozen": (self.freeze_leader, 1),
            "Redis killed": (self.kill_redis, 2),
            "Redis flushed": (self.flush_redis, 3),
            "Redis frozen": (self.freeze_redis, 1),
            "Redis full": (self.fill_redis, 1),
            "old messages again": (self.replay_messages, 3),
            "Postgres stopped at once": (self.stop_postgres, 2),
            "no connection left": (self.exhaust_connections, 1),
            "API killed": (self.kill_api, 2),
            "beat killed": (self.kill_beat, 1),
            "provider in trouble": (self.trouble_provider, 6),
            "provider out for minutes": (self.provider_out, 1),
            "foreign exceptions in tools": (self.foreign_exceptions, 4),
            "receivers dribble": (self.dribble, 2),
        }

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def kill_worker(self) -> None:
        if slot := self._free_worker():
            self._kill(slot)

    def _free_worker(self) -> Slot | None:
        """A worker that no slow fault is under way with."""
        free = [slot for slot in self.cluster.workers() if slot.name not in self._busy]
        return self.dice.choice(free) if free else None

    def _slowly(self, slot: Slot, what: Callable[[], None]) -> None:
        """Do something to a slot that takes its time, while the storm goes on elsewhere."""
        self._busy.add(slot.name)

        def act() -> None:
            try:
                what()
            except (*_AWAY, AssertionError) as error:
                self.problems.append(f"{slot.name}: {type(error).__name__}: {error}"[:300])
            finally:
                self._busy.discard(slot.name)

        self._in_background(act)

    def _in_background(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        self._watchers.append(thread)

    def _kill(self, slot: Slot) -> None:
        """Kill -9, and watch until the last of its tasks runs again elsewhere."""
        worker = self.cluster.living_workers().get(slot.pid)
        slot.send(signal.SIGKILL)
        if worker is None:
            return
        # Not those that a limit may keep waiting: how soon they run again is not up to recovery.
        held = self.cluster.query(
            "SELECT t.id, t.claim FROM tasks t JOIN organisations o ON o.id = t.org_id "
            "WHERE t.worker = %s AND t.status = 'running' AND o.starts_per_minute IS NULL "
            "AND o.max_in_flight IS NULL AND t.agent = 'clerk'", worker,
        )  # fmt: skip
        if held:
            self._watch(
                "worker killed → its tasks run again",
                lambda: self._all_moved_on(held),
                lambda: self._standing(held),
            )

    def _all_moved_on(self, held: list[tuple[Any, ...]]) -> bool:
        rows = self.cluster.query("SELECT id, claim, status FROM tasks WHERE id = ANY(%s)", [task for task, _ in held])
        before = dict(held)
        return all(claim > before[task] or status not in {"running", "queued"} for task, claim, status in rows)

    def _standing(self, held: list[tuple[Any, ...]]) -> str:
        """How those stand that do not run again yet."""
        rows = self.cluster.query(
            "SELECT t.status::text, t.agent, o.slug, t.parked, t.dispatched_at IS NOT NULL, t.run_after > rota_now(), "
            "w.last_seen_at > rota_now() - interval '10 s', l.last_seen_at > rota_now() - interval '2 s', "
            "(SELECT count(*) FROM tasks r WHERE r.org_id = o.id AND r.status = 'running') "
            "FROM tasks t JOIN unnest(%s::uuid[], %s::int[]) AS h (id, claim) USING (id, claim) "
            "JOIN organisations o ON o.id = t.org_id LEFT JOIN workers w ON w.id = t.worker, leaders l LIMIT 3",
            [task for task, _ in held],
            [claim for _, claim in held],
        )
        names = ("status", "agent", "org", "parked", "published", "later", "worker lives", "leader lives", "org runs")
        return "; ".join(str(dict(zip(names, row, strict=True))) for row in rows)

    def crash_point(self) -> None:
        """Have the next process of a slot die at a named place, the places in turn."""
        if not self._places:
            self._places = [place for place in PLACES if place not in _SENDERS_PLACES]
            self.dice.shuffle(self._places)
        place = self._places.pop()
        if place in _DISPATCHERS_PLACES:
            self._crash_dispatcher(place)
        elif slot := self._free_worker():
            self._slowly(slot, partial(self._crash, slot, place))

    def _crash(self, slot: Slot, place: str) -> None:
        deaths = len(slot.deaths)
        slot.next_environment = {"ROTA_FAILPOINTS": f"{place}=1"}
        slot.send(signal.SIGTERM)
        # First the old process's end, then the death at the place.
        wait_until(lambda: len(slot.deaths) >= deaths + 2, seconds=40, what=f"a death {place}")
        self.details[f"crash {place}"] += 1

    def _crash_dispatcher(self, place: str) -> None:
        """The others must not lead meanwhile, or the place is never reached."""
        slot = self.cluster.leader()
        if slot is None:
            return
        others = [s for n, s in self.cluster.slots.items() if n.startswith("dispatcher") and s is not slot]
        with contextlib.ExitStack() as stack:
            for other in others:
                stack.enter_context(_frozen(other))
            self._crash(slot, place)

    def freeze_worker(self) -> None:
        if slot := self._free_worker():
            self._slowly(slot, partial(self._freeze, slot))

    def _freeze(self, slot: Slot) -> None:
        with _frozen(slot):
            time.sleep(self.cluster.lease + 2)

    def rolling_stop(self) -> None:
        for slot in self.cluster.workers():
            if slot.name in self._busy:
                continue
            before = slot.pid
            slot.send(signal.SIGTERM)
            slot.restarted(before)
            wait_until(partial(self._lives, slot), seconds=40, what="the next one lives")

    def _lives(self, slot: Slot) -> bool:
        return slot.pid in self.cluster.living_workers()

    # ── dispatchers, beats, API ──────────────────────────────────────────────────────────────────────────────────────

    def kill_leader(self) -> None:
        slot = self.cluster.leader()
        if slot is not None:
            slot.send(signal.SIGKILL)
            self._probe("leader killed → a task starts")

    def freeze_leader(self) -> None:
        slot = self.cluster.leader()
        if slot is not None:
            with _frozen(slot):
                self._probe("leader frozen → a task starts")

    def kill_beat(self) -> None:
        self.cluster.slots[f"beat-{self.dice.choice((1, 2))}"].send(signal.SIGKILL)

    def kill_api(self) -> None:
        self.cluster.slots["api"].send(signal.SIGKILL)

    # ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def kill_redis(self) -> None:
        self.cluster.kill_redis()
        time.sleep(self.dice.uniform(0, 2))
        self.cluster.start_redis()
        self._probe("Redis restarted → all work moves", and_published=True)

    def flush_redis(self) -> None:
        self.cluster.redis().flushall()
        self._probe("Redis flushed → all work moves", and_published=True)

    def freeze_redis(self) -> None:
        self.cluster.redis_process.send_signal(signal.SIGSTOP)
        time.sleep(self.dice.uniform(3, 8))
        self.cluster.redis_process.send_signal(signal.SIGCONT)
        self._probe("Redis frozen → all work moves", and_published=True)

    def fill_redis(self) -> None:
        """No memory left: it refuses every write until there is some again."""
        client = self.cluster.redis()
        client.config_set("maxmemory", "1mb")
        time.sleep(self.dice.uniform(1, 3))
        client.config_set("maxmemory", "512mb")
        self._probe("Redis full → all work moves", and_published=True)

    def replay_messages(self) -> None:
        """Deliver messages of long ago again, and those of now twice."""
        client = self.cluster.redis()
        for queue in ("critical", "high", "normal", "low"):
            now: Any = client.lrange(queue, 0, -1)
            old = self._old_messages.setdefault(queue, [])
            for message in [*now, *self.dice.sample(old, min(len(old), 20))]:
                client.lpush(queue, message)
            old.extend(now)

    # ── Postgres ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def stop_postgres(self) -> None:
        self.cluster.stop_postgres()
        time.sleep(self.dice.uniform(0, 2))
        self.cluster.start_postgres()
        self._probe("Postgres restarted → all work moves", and_published=True)

    def exhaust_connections(self) -> None:
        """Take every connection there is, for a moment."""
        url = self.cluster.postgres.url("rota_app")
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    stack.enter_context(psycopg.connect(url, connect_timeout=3))
            time.sleep(2)
        self._probe("connections exhausted → a task starts")

    # ── providers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def trouble_provider(self) -> None:
        mode = self.dice.choice(("429", "500", "529", "hang", "cut", "slow"))
        self.details[f"provider {mode}"] += 1
        seconds = self.dice.uniform(1, 3)
        self.cluster.set_mode(mode, seconds)
        self._trouble_ends = time.monotonic() + seconds + _STEP_TIMEOUT

    def provider_out(self) -> None:
        """The provider answers nobody for as long as would take minutes in a run of an hour. Processes die meanwhile;
        nothing that is not called can be measured. Then it is back, and calls must be answered again soon.
        """
        over = time.monotonic() + self.outage
        self.cluster.set_outage(self.outage)
        self._trouble_ends = over
        while time.monotonic() < over:
            victims = [slot for slot in (self._free_worker(), self.cluster.leader()) if slot is not None]
            self.dice.choice(victims).send(signal.SIGKILL)
            time.sleep(min(max(0, over - time.monotonic()), self.dice.uniform(2, 6)))
        answered = self.cluster.report()["answered"]
        self._watch(
            "provider back → calls are answered",
            lambda: self.cluster.report()["answered"] > answered,
            lambda: str(self.cluster.query("SELECT model, cause, rate, held_until - rota_now() FROM provider_paces")),
        )
        self._await_watchers()

    # ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def foreign_exceptions(self) -> None:
        self.cluster.have_tools_raise(self.dice.uniform(1, 3))

    # ── receivers of messages ────────────────────────────────────────────────────────────────────────────────────────

    def dribble(self) -> None:
        """Receivers of many organisations take a post and answer a byte at a time; messages of others must leave."""
        self.letters.dribble()
        wait_until(patient(self.letters.are_in_hand), seconds=40, what="receivers that dribble have something in hand")
        started = time.monotonic()
        written = self.letters.write(is_alone=self._is_alone)
        self._watch(
            "receivers dribble → others' messages leave",
            lambda: self.letters.have_left(written, started),
            lambda: f"not left: {[letter for letter in written if letter.seconds is None]}",
        )

    # ── recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _probe(self, kind: str, *, and_published: bool = False) -> None:
        """Submit a task of the highest priority and measure until it has started, and what was published as well."""
        started = time.monotonic()
        published = self._published() if and_published else []
        self._probes += 1
        probe = self.load.submit(f"probe{self._probes}", "gamma", priority="critical")
        self.load.sent.tasks[f"probe{self._probes}"] = probe

        def moves() -> bool:
            if not self.cluster.query("SELECT 1 FROM tasks WHERE id = %s AND started_at IS NOT NULL", probe):
                return False
            return not published or not self.cluster.query(
                "SELECT 1 FROM tasks t JOIN unnest(%s::uuid[], %s::int[]) AS p (id, claim) USING (id) "
                "WHERE t.claim = p.claim AND t.status = 'queued'",
                [task for task, _ in published], [claim for _, claim in published],
            )  # fmt: skip

        wait_until(patient(moves), seconds=60, what=kind)
        (self.recoveries.alone if self._is_alone else self.recoveries.disturbed)[kind].append(
            time.monotonic() - started
        )

    def _published(self) -> list[tuple[Any, ...]]:
        return self.cluster.query("SELECT id, claim FROM tasks WHERE status = 'queued' AND dispatched_at IS NOT NULL")

    def _watch(self, kind: str, is_over: Callable[[], bool], tell: Callable[[], str]) -> None:
        """Measure in the background, so that other faults may come meanwhile. What takes long is told."""
        started, is_alone = time.monotonic(), self._is_alone
        told: list[str] = []

        def look() -> bool:
            if time.monotonic() - started > _LONG and not told:
                told.append(tell())
            return is_over()

        def watch() -> None:
            try:
                wait_until(patient(look), seconds=120, what=kind)
            except AssertionError as error:
                self.problems.append(f"{kind}: {error}")
            seconds = time.monotonic() - started
            if told and is_alone:
                self.problems.append(f"{kind} took {seconds:.1f} s; after {_LONG:g} s: {told[0]}")
            found = self.recoveries.alone if is_alone else self.recoveries.disturbed
            found[kind].append(seconds)

        self._in_background(watch)


def patient(condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, false as long as a server does not answer."""

    def ask() -> bool:
        try:
            return condition()
        except _AWAY:
            return False

    return ask


@contextlib.contextmanager
def _frozen(slot: Slot) -> Iterator[None]:
    pid = slot.pid
    slot.send(signal.SIGSTOP)
    try:
        yield
    finally:
        if slot.pid == pid:
            slot.send(signal.SIGCONT)
