"""Measure how the ledger scales: the time of balance, bill, statement and debit with few entries and with a million."""

import statistics
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from benchmarks.installation import Installation, installation
from core import db
from core.ids import new_id
from domain.wallet import service as wallet

_MILLION = 1_000_000
_TIMES = 300

_ENTRIES = """
    INSERT INTO wallet_entries (id, org_id, source, target, tokens, reason, item, task_id, seq)
    SELECT gen_random_uuid(), %s, 'available', 'spent', 1, 'spend', 'internal_llm_call', gen_random_uuid(), 1
      FROM generate_series(1, %s)
"""
_USAGE = """
    INSERT INTO usage (id, org_id, task_id, seq, step_id, agent_id, agent, provider, model, input_tokens, cached_tokens,
                       cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price, is_rehearsal,
                       conversation)
    SELECT id, %s, id, 1, id, id, 'agent-' || n %% 10, 'openai', 'model-' || n %% 5, 100, 0, 0, 20, 0.0001, 0.2,
           0.00012, '{}', false, 'conversation-' || n %% 20000
      FROM (SELECT gen_random_uuid() AS id, n FROM generate_series(1, %s) n) AS made
"""


def main() -> None:
    """Measure and print."""
    with installation("--no-demonstration") as rota:
        rota.adopt()
        org = rota.query("SELECT id FROM organisations")[0][0]
        before = _measure(rota, org)
        _fill(rota, org)
        after = _measure(rota, org)
        print(f"\n{'median / 99 % ms':<28}{'few entries':>18}{'a million':>18}")
        for name, values in before.items():
            print(f"{name:<28}{values:>18}{after[name]:>18}")


def _measure(rota: Installation, org: UUID) -> dict[str, str]:
    month = time.strftime("%Y-%m", time.gmtime())
    with rota.client() as http:
        return {
            "GET /v1/wallet": _times(lambda: http.get("/v1/wallet").raise_for_status()),
            f"GET /v1/bills/{month}": _times(lambda: http.get(f"/v1/bills/{month}").raise_for_status()),
            "GET /v1/wallet/statement": _times(lambda: http.get("/v1/wallet/statement").raise_for_status()),
            "debit (hold, spend, release)": _times(lambda: _debit(org)),
        }


def _debit(org: UUID) -> None:
    task = new_id()
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task, 1)
        wallet.spend_ensured(connection, task, 1, "email", 1)
        wallet.release(connection, task)


def _times(action: Callable[[], Any]) -> str:
    taken = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        action()
        taken.append((time.perf_counter() - began) * 1000)
    return f"{statistics.median(taken):.1f} / {sorted(taken)[int(_TIMES * 0.99)]:.1f}"


def _fill(rota: Installation, org: UUID) -> None:
    """Insert a million entries and usage rows, and wait until the installation's own duty has totalled them."""
    began = time.monotonic()
    for _ in range(10):
        rota.execute(_ENTRIES, org, _MILLION // 10)
        rota.execute(_USAGE, org, _MILLION // 10)
    print(f"wrote a million entries and usage rows in {time.monotonic() - began:.0f} s; totalling", flush=True)
    began = time.monotonic()
    rota.wait("SELECT 1 FROM usage WHERE NOT is_totalled LIMIT 1", seconds=600)
    rota.execute("ANALYZE", role="OWNER")
    print(f"totalled in {time.monotonic() - began:.0f} s", flush=True)
