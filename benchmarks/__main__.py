"""`make bench` measures throughput; `make bench ARGS=levels` what is promised about waiting;
`make bench ARGS=ledger` how balance, bill and debit do with a million entries; `make bench ARGS=schedules` how fast
schedules start, and what looking for them costs; `make bench ARGS=bandit` the regret of Thompson sampling.
"""

import sys

from benchmarks import bandit, ledger, levels, overhead, schedules, throughput

_MEASUREMENTS = {
    "throughput": throughput.main,
    "levels": levels.main,
    "ledger": ledger.main,
    "schedules": schedules.main,
    "bandit": bandit.main,
    "overhead": overhead.main,
}


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "throughput"
    if name not in _MEASUREMENTS:
        sys.exit(f"There is no measurement called {name}; there are {', '.join(_MEASUREMENTS)}.")
    _MEASUREMENTS[name]()
