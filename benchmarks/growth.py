"""Measure whether throughput falls with growth: with 10,000 queued tasks that may not run, with a hundred thousand and
with two million finished tasks, and with 1,000 organisations that submit instead of one.

Two installations run side by side, one as set up and one that grows, and take turns at the same load: the rounds of a
pair differ by what has grown and not by the time of day. The share is the median over pairs, with its 90 % confidence
interval by the percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
Organisations are compared within one installation.

`make bench ONLY=growth`; HISTORY=100000 for less history, PAIRS=4 for fewer rounds, CASES=organisations for some cases.
"""

import os
import random
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from benchmarks.installation import Bar, Installation, installation, put_bench_agent, submit_bench, write_results
from benchmarks.model_server import model_server
from core.ids import new_id
from embedded.organisation import set_up_organisation

_PAIRS, _TASKS, _WARM_UP = int(os.environ.get("PAIRS", "8")), 400, 400
_CASES = os.environ.get("CASES", "queued,history,organisations").split(",")
_HISTORY = [int(number) for number in os.environ.get("HISTORY", "100000,2000000").split(",")]
_QUEUED, _ORGANISATIONS = 10_000, 1_000
_DRAWS, _TAILS = 10_000, (0.05, 0.95)

_FINISHED = """
    INSERT INTO tasks (id, org_id, agent_id, agent, priority, input, status, claim, attempts, max_attempts, created_at,
                       run_after, started_at, finished_at, result, model_calls, billed_cost, user_id)
    SELECT gen_random_uuid(), t.org_id, t.agent_id, t.agent, 'normal', t.input, 'succeeded', 1, 1, 3, at, at, at, at,
           t.result, 2, 0.001, t.user_id
      FROM (SELECT * FROM tasks WHERE agent = 'bench' AND status = 'succeeded' LIMIT 1) t,
           LATERAL (SELECT now() - n * interval '30 milliseconds' AS at FROM generate_series(1, %s) n) AS moments
"""
_JOURNALS = """
    INSERT INTO attempts (task_id, claim, org_id, worker, started_at, ended_at, outcome, counted)
    SELECT t.id, 1, t.org_id, 'w', t.started_at, t.finished_at, 'succeeded', true FROM tasks t
     WHERE t.status = 'succeeded' AND NOT EXISTS (SELECT FROM attempts a WHERE a.task_id = t.id)
"""
_USAGE = """
    INSERT INTO usage (id, step_id, org_id, task_id, seq, agent_id, agent, provider, model, input_tokens, cached_tokens,
                       cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price, is_rehearsal,
                       is_totalled, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), t.org_id, t.id, 1, t.agent_id, t.agent, 'openai', 'bench-model', 400,
           0, 0, 20, 0.0005, 0, 0.0006, '{}', true, true, t.finished_at
      FROM tasks t WHERE t.status = 'succeeded' AND NOT EXISTS (SELECT FROM usage u WHERE u.task_id = t.id)
"""
# Copies of the first organisation's bench agent and of the price of its model.
_SAME_AGENT = """
    INSERT INTO agents (id, org_id, slug, name, role, description, system_prompt, model, tools)
    SELECT gen_random_uuid(), o.id, a.slug, a.name, a.role, a.description, a.system_prompt, a.model, a.tools
      FROM agents a, organisations o WHERE a.slug = 'bench' AND o.slug LIKE 'org-%%'
"""
_SAME_PRICE = """
    INSERT INTO prices (org_id, model, provider, input_per_million, output_per_million)
    SELECT o.id, p.model, p.provider, p.input_per_million, p.output_per_million
      FROM prices p, organisations o WHERE p.model = 'bench-model' AND o.slug LIKE 'org-%%'
"""

Round = Callable[[], float]


def main() -> None:
    """Measure, print, write."""
    found: list[dict[str, Any]] = []
    with model_server() as model:
        environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none", "ROTA_KEEP_SUCCEEDED": "P365D"}
        with installation(environment=environment) as young, installation(environment=environment) as grown:
            for rota in (young, grown):
                put_bench_agent(rota)
                _round(rota, _WARM_UP)
            if "queued" in _CASES:
                found.append(_pairs("nothing more", young, grown))
                _queue(grown)
                found.append(_pairs(f"{_QUEUED:,} queued", young, grown))
                grown.rota("cancel", "--agent", "idle", "--yes")
            there = 0
            for history in _HISTORY if "history" in _CASES else ():
                _fill(grown, history - there)
                there = history
                found.append(_pairs(f"{history:,} finished", young, grown))
            if "organisations" in _CASES:
                keys = _organisations(young)
                one, many = partial(_round, young, _ORGANISATIONS), partial(_round, young, _ORGANISATIONS, keys)
                many()
                found.append(_compared(f"{_ORGANISATIONS:,} organisations", one, many))
            sizes = grown.query(
                "SELECT relname, pg_relation_size(c.oid) / 1e6, pg_indexes_size(c.oid) / 1e6 FROM pg_class c "
                "WHERE relname IN ('tasks', 'attempts', 'steps', 'usage', 'wallet_entries') ORDER BY relname"
            )
    print(f"{'':22} {'before/s':>9} {'with it/s':>9} {'share':>6}   nine in ten   ({_PAIRS} pairs of rounds)")
    for row in found:
        low, high = row["interval"]
        print(
            f"{row['case']:22} {statistics.median(row['before']):9.1f} {statistics.median(row['after']):9.1f} "
            f"{row['share']:6.2f}   {low:.2f} to {high:.2f}"
        )
    for name, table, indexes in sizes:
        print(f"{name:16} {float(table):8.0f} MB   indexes {float(indexes):8.0f} MB")
    bars: list[Bar] = [(row["case"], row["share"], *row["interval"]) for row in found]
    write_results("growth", found, "share of the throughput without it", bars)


def _pairs(case: str, young: Installation, grown: Installation) -> dict[str, Any]:
    return _compared(case, lambda: _round(young, _TASKS), lambda: _round(grown, _TASKS))


def _compared(case: str, before: Round, after: Round) -> dict[str, Any]:
    """Run rounds in pairs; the sides alternate in going first."""
    pairs = []
    for number in range(_PAIRS):
        if number % 2:
            second = after()
            pairs.append((before(), second))
        else:
            pairs.append((before(), after()))
    shares = [mine / other for other, mine in pairs]
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(shares, k=len(shares))) for _ in range(_DRAWS))
    return {
        "case": case,
        "before": [one for one, _ in pairs],
        "after": [other for _, other in pairs],
        "share": statistics.median(shares),
        "interval": [medians[int(tail * (_DRAWS - 1))] for tail in _TAILS],
    }


def _queue(rota: Installation) -> None:
    """Submit tasks that are due but may not run, as their agent is paused: the dispatcher has to skip them."""
    with rota.client() as http:
        found = http.get("/v1/agents/bench").raise_for_status().json()
        fields = ("name", "role", "description", "system_prompt", "model", "tools")
        http.post("/v1/agents", json={"slug": "idle"} | {name: found[name] for name in fields}).raise_for_status()
    rota.rota("pause", "agent", "idle")
    submit_bench(rota, _QUEUED, agent="idle")


def _fill(rota: Installation, count: int) -> None:
    rota.execute(_FINISHED.replace("%s", str(count)), role="OWNER")
    for statement in (_JOURNALS, _USAGE):
        rota.execute(statement, role="OWNER")
    # Autovacuum would do this over time; the work of vacuum and checkpoints is not what is measured.
    for table in ("tasks", "attempts", "usage"):
        rota.execute(f"VACUUM (ANALYZE, FREEZE) {table}", role="OWNER")


def _organisations(rota: Installation) -> list[str]:
    """Create organisations, each with the bench agent, and return their API keys."""
    rota.adopt()
    keys = [
        set_up_organisation(
            slug=f"org-{number}", name="One of many", time_zone="UTC", with_demonstration=False, welcome_tokens=10_000
        )
        for number in range(_ORGANISATIONS)
    ]
    for statement in (_SAME_AGENT, _SAME_PRICE, "UPDATE organisations SET starts_per_minute = NULL", "ANALYZE"):
        rota.execute(statement, role="OWNER")
    return keys


def _round(rota: Installation, tasks: int, keys: list[str] | None = None) -> float:
    """Return tasks a second. The tasks to wait for are an id range, as ids begin with the time: history is not read."""
    first = new_id()
    span = (first, UUID(int=first.int + (1 << 100)))
    submit_bench(rota, tasks, keys=keys)
    rota.wait(
        "SELECT 1 FROM tasks WHERE id BETWEEN %s AND %s AND finished_at IS NULL AND agent = 'bench' LIMIT 1", *span
    )
    ((count, seconds),) = rota.query(
        "SELECT count(*), extract(epoch FROM max(finished_at) - min(created_at))::float FROM tasks "
        "WHERE id BETWEEN %s AND %s AND status = 'succeeded'", *span,
    )  # fmt: skip
    if count != tasks:
        raise RuntimeError(f"{count} of {tasks} tasks succeeded")
    return tasks / float(seconds)
