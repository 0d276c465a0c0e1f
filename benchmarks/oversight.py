"""Measure the share of the demonstration's tasks that needs a person, by agent mode, as submitted by staff and as
written by a customer (`is_from_outside`).

Too many approvals cause fatigue: people who are asked about everything approve everything. Starts a whole Rota with the
demonstration gym and the rehearsal model, submits the demonstration messages to the front desk and to the retention
specialist in each mode, and counts the tasks that ask people anything. Takes about three minutes.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from benchmarks.installation import ROOT, Installation, installation, write_results

_AGENTS = ("support-assistant", "retention-specialist")
_MODES = ("semi-auto", "auto")
_SUBMITTERS, _PAGE = 8, 200
_UNDER_WAY = "SELECT 1 FROM tasks WHERE status IN ('queued', 'running') LIMIT 1"


def main() -> None:
    """Measure, print, write."""
    with installation() as rota:
        rota.adopt()
        found = list(_rows(rota))
    print(f"{'agent':<24}{'mode':<12}{'outside':<10}{'tasks':>6}{'asked':>7}{'share':>9}")
    for row in found:
        mark = "yes" if row["outside"] else "no"
        print(f"{row['agent']:<24}{row['mode']:<12}{mark:<10}{row['tasks']:>6}{row['asked']:>7}{row['share']:>9.1%}")
    write_results("oversight", found)


def _rows(rota: Installation) -> Iterator[dict[str, Any]]:
    lines = (ROOT / "examples" / "gym_messages.jsonl").read_text().splitlines()
    messages = [json.loads(line)["message"] for line in lines]
    with rota.client() as http:
        for agent in _AGENTS:
            for mode in _MODES:
                http.patch(f"/v1/agents/{agent}", json={"mode": mode}).raise_for_status()
                for outside in (False, True):
                    asked = _asked(rota, http, agent, messages, outside=outside)
                    yield {
                        "agent": agent, "mode": mode, "outside": outside, "tasks": len(messages), "asked": asked,
                        "share": asked / len(messages),
                    }  # fmt: skip


def _asked(rota: Installation, http: httpx2.Client, agent: str, messages: list[str], *, outside: bool) -> int:
    """Submit these messages; return how many of the tasks asked for an approval."""

    def submit(message: str) -> str:
        body = {"agent": agent, "input": {"message": message, "is_from_outside": outside}}
        return str(http.post("/v1/tasks", json=body).raise_for_status().json()["id"])

    with ThreadPoolExecutor(_SUBMITTERS) as pool:
        ids = set(pool.map(submit, messages))
    rota.wait(_UNDER_WAY)
    return len(ids & {str(row[0]) for row in rota.query("SELECT DISTINCT task_id FROM approvals")})


if __name__ == "__main__":
    main()
