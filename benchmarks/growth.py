"""Whether throughput falls as history grows: with 0, 100 thousand and 2 million finished tasks; and with 1,000
organisations beside one. Rounds are paired: one before, one after, in one installation.

`make bench ONLY=growth`; HISTORY=100000 for less.
"""

import os
import statistics
from typing import Any
from uuid import UUID

from benchmarks.installation import Installation, installation, put_bench_agent, submit_bench, write_results
from benchmarks.model_server import model_server
from core.ids import new_id

_ROUNDS, _TASKS = 4, 200
_HISTORY = [int(number) for number in os.environ.get("HISTORY", "100000,2000000").split(",")]
_ORGANISATIONS = 1_000

_FINISHED = """
    INSERT INTO tasks (id, org_id, agent_id, agent, priority, input, status, claim, attempts, max_attempts, created_at,
                       run_after, started_at, finished_at, result, model_calls, billed_cost, user_id)
    SELECT gen_random_uuid(), t.org_id, t.agent_id, t.agent, 'normal', t.input, 'succeeded', 1, 1, 3, at, at, at, at,
           t.result, 2, 0.001, t.user_id
      FROM (SELECT * FROM tasks WHERE finished_at IS NOT NULL LIMIT 1) t,
           LATERAL (SELECT now() - n * interval '30 milliseconds' AS at FROM generate_series(1, %s) n) AS moments
"""
_JOURNALS = """
    INSERT INTO attempts (task_id, claim, org_id, worker, started_at, ended_at, outcome, counted)
    SELECT t.id, 1, t.org_id, 'w', t.started_at, t.finished_at, 'succeeded', true FROM tasks t
     WHERE NOT EXISTS (SELECT FROM attempts a WHERE a.task_id = t.id)
"""
_USAGE = """
    INSERT INTO usage (id, step_id, org_id, task_id, seq, agent_id, agent, provider, model, input_tokens, cached_tokens,
                       cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price, is_rehearsal,
                       is_totalled, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), t.org_id, t.id, 1, t.agent_id, t.agent, 'openai', 'bench-model', 400,
           0, 0, 20, 0.0005, 0, 0.0006, '{}', true, true, t.finished_at
      FROM tasks t WHERE NOT EXISTS (SELECT FROM usage u WHERE u.task_id = t.id)
"""
_MANY = """
    INSERT INTO organisations (id, slug, name, time_zone)
    SELECT gen_random_uuid(), 'filler-' || n, 'Filler', 'UTC' FROM generate_series(1, %s) n
"""


def main() -> None:
    """Measure, print, write."""
    found: list[dict[str, Any]] = []
    with model_server() as model:
        environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
        with installation(environment=environment | {"ROTA_KEEP_SUCCEEDED": "P30D"}) as rota:
            put_bench_agent(rota)
            _round(rota)
            empty = [_round(rota) for _ in range(_ROUNDS)]
            found.append(_row("nothing before", empty, empty))
            there = 0
            for history in _HISTORY:
                _fill(rota, history - there)
                there = history
                found.append(_row(f"{history:,} finished tasks", empty, [_round(rota) for _ in range(_ROUNDS)]))
            rota.execute(_MANY.replace("%s", str(_ORGANISATIONS)), role="OWNER")
            rota.execute("ANALYZE", role="OWNER")
            before = found[-1]["rounds"]
            rounds = [_round(rota) for _ in range(_ROUNDS)]
            found.append(_row(f"and {_ORGANISATIONS:,} organisations", before, rounds))
            sizes = rota.query(
                "SELECT relname, pg_relation_size(c.oid) / 1e6, pg_indexes_size(c.oid) / 1e6 FROM pg_class c "
                "WHERE relname IN ('tasks', 'attempts', 'steps', 'usage', 'wallet_entries') ORDER BY relname"
            )
    print(f"{'':28} {'tasks/s':>8} {'from':>7} {'to':>7} {'share':>7}")
    for row in found:
        rates = row["rounds"]
        print(
            f"{row['case']:28} {statistics.median(rates):8.1f} {min(rates):7.1f} {max(rates):7.1f} {row['share']:7.2f}"
        )
    for name, table, indexes in sizes:
        print(f"{name:16} {float(table):8.0f} MB   indexes {float(indexes):8.0f} MB")
    write_results("growth", found)


def _row(case: str, before: list[float], after: list[float]) -> dict[str, Any]:
    return {"case": case, "rounds": after, "share": statistics.median(after) / statistics.median(before)}


def _fill(rota: Installation, count: int) -> None:
    rota.execute(_FINISHED.replace("%s", str(count)), role="OWNER")
    for statement in (_JOURNALS, _USAGE, "VACUUM ANALYZE tasks", "VACUUM ANALYZE attempts", "VACUUM ANALYZE usage"):
        rota.execute(statement, role="OWNER")


def _round(rota: Installation) -> float:
    """Tasks a second. Who is waited for is found by ids, which begin with the time: no look at history."""
    first = new_id()
    span = (first, UUID(int=first.int + (1 << 100)))
    submit_bench(rota, _TASKS)
    rota.wait("SELECT 1 FROM tasks WHERE id BETWEEN %s AND %s AND finished_at IS NULL LIMIT 1", *span)
    ((seconds,),) = rota.query(
        "SELECT extract(epoch FROM max(finished_at) - min(created_at))::float FROM tasks WHERE id BETWEEN %s AND %s",
        *span,
    )
    return _TASKS / float(seconds)
