"""Run the benchmarks: `make bench ONLY=name` runs one, `make bench` all of them, one after the other. Each is described
in its own file, prints a table, and writes `benchmarks/results/name.json`.
"""

import sys

from benchmarks import (
    against,
    bandit,
    events,
    growth,
    in_flight,
    latency,
    ledger,
    levels,
    listening,
    overhead,
    oversight,
    quota,
    recovery,
    schedules,
    steps,
    submit,
    throughput,
)

_MEASUREMENTS = {
    "throughput": throughput.main,
    "overhead": overhead.main,
    "in_flight": in_flight.main,
    "submit": submit.main,
    "latency": latency.main,
    "steps": steps.main,
    "growth": growth.main,
    "recovery": recovery.main,
    "quota": quota.main,
    "levels": levels.main,
    "listening": listening.main,
    "oversight": oversight.main,
    "ledger": ledger.main,
    "schedules": schedules.main,
    "bandit": bandit.main,
    "events": events.main,
    "against": against.main,
}


if __name__ == "__main__":
    names = sys.argv[1:] or [name for name in _MEASUREMENTS if name != "against"]  # which needs another checkout
    for name in names:
        if name not in _MEASUREMENTS:
            sys.exit(f"There is no measurement called {name}; there are {', '.join(_MEASUREMENTS)}.")
    for name in names:
        print(f"\n# {name}")
        _MEASUREMENTS[name]()
