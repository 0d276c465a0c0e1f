"""`make bench` measures throughput; `make bench ARGS=levels` measures what is promised about waiting."""

import sys

from benchmarks import levels, throughput

_MEASUREMENTS = {"throughput": throughput.main, "levels": levels.main}


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "throughput"
    if name not in _MEASUREMENTS:
        sys.exit(f"There is no measurement called {name}; there are {', '.join(_MEASUREMENTS)}.")
    _MEASUREMENTS[name]()
