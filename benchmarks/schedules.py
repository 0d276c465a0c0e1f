"""Measure the service levels of schedules: 2,000 of 10,000 come due in the same second, and a sweep runs beside many
that are not due. Takes about three minutes.
"""

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from benchmarks.installation import Installation, Organisation, installation, organisation, write_results
from core.db import system_transaction, transaction
from domain.schedules import queries, sweep

_MODEL = "claude-haiku-4-5;slow=0.1"
_ACTIVE, _DUE = 10_000, 2_000
_COUNTS = (1_000, 10_000, 100_000)
_FEW = 10
_TIMES = 50
_COPY = """
    INSERT INTO schedules (id, org_id, slug, name, times, task, starts_at, ends_at, jitter, overlap, catch_up,
                           next_at, due_at, user_id, scopes)
    SELECT gen_random_uuid(), org_id, %s || n, name, times || jsonb_build_object('anchor', due), task, starts_at,
           ends_at, jitter, overlap, catch_up, due, due, user_id, scopes
      FROM schedules, generate_series(1, %s) n, CAST(%s AS timestamptz) AS due
     WHERE org_id = %s AND slug = 'pattern'
"""


def main() -> None:
    """Measure, print, write."""
    found: dict[str, Any] = {}
    with installation("--no-demonstration", "--concurrency", "100") as rota:
        rota.adopt()
        gym = organisation(rota, "crowd", _MODEL)
        every_day = {"name": "Pattern", "times": {"kind": "interval", "every": "P1D"}, "overlap": "skip"}
        work = {"agent": "brief", "input": {"message": "hello"}}
        gym.http.put("/v1/schedules/pattern", json=every_day | {"task": work}).raise_for_status()
        found["at once"] = _together(rota, gym)
        found["sweep"] = [_cost(rota, gym, count) for count in _COUNTS]
    print(f"\n{'active schedules':>18}{'nothing due':>16}{f'{_FEW} due':>16}   (median of {_TIMES}, ms)")
    for row in found["sweep"]:
        print(f"{row['active']:>18,}{row['nothing due, ms']:>16}{row['few due, ms']:>16}")
    for row in found["sweep"]:
        print(f"\nthe plan with {row['active']:,}:\n  " + "\n  ".join(row["plan"]))
    write_results("schedules", found)


def _together(rota: Installation, gym: Organisation) -> dict[str, Any]:
    """Let 2,000 of 10,000 come due in one second; measure when the last one has its task, and when that starts."""
    due = (datetime.now(UTC) + timedelta(seconds=20)).replace(microsecond=0)
    _add(rota, gym.id, "later-", due + timedelta(days=2), _ACTIVE - _DUE - 1)
    _add(rota, gym.id, "due-", due, _DUE)
    accepted = _seconds_until(rota, due, "SELECT count(*) FROM schedule_runs WHERE org_id = %s", gym.id)
    begun = _seconds_until(rota, due, "SELECT count(*) FROM tasks WHERE org_id = %s AND started_at IS NOT NULL", gym.id)
    rota.wait("SELECT 1 FROM schedule_runs WHERE org_id = %s AND status = 'running' LIMIT 1", gym.id, seconds=300)
    runs = rota.query(
        "SELECT count(*), count(DISTINCT schedule_id), count(DISTINCT task_id) FROM schedule_runs "
        "WHERE org_id = %s AND status = 'succeeded' AND scheduled_for = %s", gym.id, due,
    )[0]  # fmt: skip
    found = {
        "due in the same second": f"{_DUE:,} of {_ACTIVE:,}",
        "runs / schedules / tasks": " / ".join(map(str, runs)),
        "last run started, seconds after due": round(accepted, 2),
        "last task at work, seconds after due": round(begun, 2),
    }
    for name, value in found.items():
        print(f"{name:40} {value}", flush=True)
    return found


def _seconds_until(rota: Installation, due: datetime, count: str, org: UUID) -> float:
    ends = due + timedelta(seconds=120)
    while rota.query(count, org)[0][0] < _DUE:
        if datetime.now(UTC) > ends:
            raise RuntimeError("not all of them were started")
        time.sleep(0.02)
    return (datetime.now(UTC) - due).total_seconds()


def _cost(rota: Installation, gym: Organisation, count: int) -> dict[str, Any]:
    """Measure one sweep beside `count` schedules that are not due: with nothing due, and with a few due."""
    rota.execute("DELETE FROM schedules WHERE org_id = %s AND slug <> 'pattern'", gym.id)
    tomorrow = datetime.now(UTC) + timedelta(hours=23, minutes=59)
    _add(rota, gym.id, "later-", tomorrow, count - 1)
    rota.execute("VACUUM (ANALYZE) schedules", role="OWNER")
    idle, busy = [], []
    for _ in range(_TIMES):
        began = time.perf_counter()
        with system_transaction() as connection:
            queries.organisations_in_need(connection)
        sweep.sweep(gym.id)
        idle.append(time.perf_counter() - began)
        busy.append(_with_a_few(gym.id))
    with transaction(gym.id) as connection:
        explaining = _Explaining(connection)
        queries.lock_due(explaining, sweep.PORTION)  # type: ignore[arg-type]  # as much as is used
    return {
        "active": count,
        "nothing due, ms": f"{statistics.median(idle) * 1000:.1f}",
        "few due, ms": f"{statistics.median(busy) * 1000:.1f}",
        "plan": explaining.plan,
    }


def _with_a_few(org: UUID) -> float:
    """Return the seconds that a sweep with a few due schedules takes; roll back, so that every sweep finds the same."""
    with transaction(org) as connection:
        made_due = text(
            "UPDATE schedules SET next_at = next_at - interval '1 day', due_at = rota_now() WHERE id IN "
            "(SELECT id FROM schedules WHERE slug LIKE 'later-%' ORDER BY slug LIMIT :few)"
        )
        connection.execute(made_due, {"few": _FEW})
        began = time.perf_counter()
        checked = sweep.attend(connection, org)
        taken = time.perf_counter() - began
        if checked.started != _FEW:
            raise RuntimeError(f"{checked.started} were started, not {_FEW}")
        connection.rollback()
    return taken


class _Explaining:
    """A connection that keeps the plan of its latest statement: it runs EXPLAIN ANALYZE of it first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plan: list[str] = []

    def execute(self, statement: Any, values: dict[str, Any]) -> Any:
        explained = text(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {statement.text}")
        self.plan = list(self._connection.execute(explained, values).scalars())
        return self._connection.execute(statement, values)


def _add(rota: Installation, org: UUID, prefix: str, due: datetime, count: int) -> None:
    rota.execute(_COPY, prefix, count, due, org)
