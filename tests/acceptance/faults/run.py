"""One run: a cluster, a load, a storm; then calm, a person who settles what is in doubt, and the checker."""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from core import db
from domain.tasks import service as tasks
from domain.tasks.schemas import Settlement
from tests.acceptance.faults.checker import WITNESS, Checker, latest_events, unsettled
from tests.acceptance.faults.cluster import Cluster
from tests.acceptance.faults.letters import Letters
from tests.acceptance.faults.listeners import Listeners
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.storm import Recoveries, Storm, patient
from tests.support.servers import wait_until

_REFUSED = ("departure was refused", "would have written was refused")


@dataclass
class Report:
    """What a run came to."""

    seed: int
    seconds: float
    faults: Counter[str]
    details: Counter[str]
    recoveries: Recoveries
    facts: dict[str, Any]
    wrong: list[str]
    problems: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether all held."""
        return not self.wrong

    def lines(self) -> list[str]:
        """What to print; the last line sums up."""
        lines = [f"seed {self.seed}, {self.seconds:.0f} s", "", "faults"]
        lines += [f"  {name:50} {number}" for name, number in sorted(self.faults.items())]
        lines += ["", "of these"] + [f"  {name:50} {number}" for name, number in sorted(self.details.items())]
        lines += ["", "recovery (* with other faults under way)"] + [f"  {line}" for line in self.recoveries.lines()]
        lines += ["", "facts"] + [f"  {name:50} {value}" for name, value in self.facts.items()]
        if self.problems:
            lines += ["", "could not be done or measured"] + [f"  {problem}" for problem in self.problems]
        if self.wrong:
            lines += ["", "WRONG"] + [f"  {one}" for one in self.wrong[:50]]
        verdict = "all held" if self.held else f"{len(self.wrong)} things are wrong"
        lines += [
            "",
            f"seed {self.seed}: {self.faults.total()} faults over {sum(self.facts['tasks'].values())} tasks: {verdict}",
        ]
        return lines


def run(
    *,
    seconds: float,
    seed: int,
    total: int,
    talks: int,
    lease: float,
    threads: int,
    pause: tuple[float, float],
    only: str,
    say: Callable[[str], None],
) -> Report:
    """A run of about `seconds` with `total` tasks, and `talks` conversations with twenty messages at once."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="rota-faults-") as folder:
        Path(folder).chmod(0o711)
        with (
            Cluster(Path(folder) / "cluster", lease=lease, threads=threads) as cluster,
            Letters(cluster) as letters,
            Listeners(cluster) as listeners,
        ):
            with psycopg.connect(cluster.postgres.url("postgres"), autocommit=True) as connection:
                connection.execute(WITNESS.encode())
            load = Load(cluster, total=total, seconds=seconds, talks=talks, dice=random.Random(dice.random()))
            load.on_accepted = lambda org, task: listeners.follow(task, load.keys[org])
            load.set_up()
            listeners.set_up(load.keys)
            letters.set_up(load.organisations)
            storm = Storm(cluster, load, letters, dice=random.Random(dice.random()))
            started = time.monotonic()
            load.start()
            say("the storm begins")
            storm.rage(seconds, pause, only)
            say("the storm is over")
            load.finish()
            settled = _calm(cluster, load)
            letters.finish()
            listeners.finish(latest_events(cluster, load))
            checker = Checker(cluster, load, letters, listeners)
            checker.check()
            checker.facts["settled by a person"] = settled
            checker.facts["refused late writes"] = _refused(cluster)
            checker.facts["requests sent again"] = load.sent.retried_requests
            return Report(
                seed=seed,
                seconds=time.monotonic() - started,
                faults=storm.counts,
                details=storm.details,
                recoveries=storm.recoveries,
                facts=checker.facts,
                wrong=checker.wrong,
                problems=storm.problems,
            )


def _calm(cluster: Cluster, load: Load) -> int:
    """Wait until everything has ended; meanwhile a person looks up what happened and says so."""
    owners = {str(org): org for org in load.organisations.values()}
    settled = 0

    def is_over() -> bool:
        nonlocal settled
        for task, seq, order in list(unsettled(cluster)):
            happened = cluster.report()["charges"].get(order, 0) > 0
            ((org,),) = cluster.query("SELECT org_id::text FROM tasks WHERE id = %s", task)
            with db.transaction(owners[org]) as connection:
                outcome: Any = "happened" if happened else "do_again"
                tasks.settle(connection, task, seq, Settlement(outcome=outcome))  # type: ignore[arg-type]
            settled += 1
        return not cluster.query("SELECT 1 FROM tasks WHERE status IN ('queued', 'running', 'waiting') LIMIT 1")

    try:
        wait_until(patient(is_over), seconds=120, what="every task has ended")
    except AssertionError:
        left = cluster.query(
            "SELECT id::text, agent, status, attempts, waiting_for, dispatched_at, run_after, worker, parked "
            "FROM tasks WHERE status IN ('queued', 'running', 'waiting') LIMIT 5"
        )
        raise AssertionError(f"not all ended: {left}") from None
    return settled


def _refused(cluster: Cluster) -> int:
    return sum(
        log.read_text(errors="replace").count(words) for log in cluster.logs.glob("worker*.log") for words in _REFUSED
    )
