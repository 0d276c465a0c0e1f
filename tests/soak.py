"""The long loops: `python -m tests.soak --minutes 60`. Faults with a new seed each round, then every property test with
fifty times the examples. Stops at the first round that did not hold, and exits with 1.
"""

import argparse
import random
import subprocess
import sys
import time

_ROUND = 300  # seconds
_SHARE_OF_FAULTS = 0.8


def main() -> int:
    """Run rounds of faults for most of the time, then the properties."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; each further round adds one")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    until = time.monotonic() + 60 * options.minutes * _SHARE_OF_FAULTS
    rounds = 0
    while rounds == 0 or time.monotonic() < until:
        seconds = max(30.0, min(_ROUND, until - time.monotonic()))
        command = ["-m", "tests.acceptance.faults", "--seconds", f"{seconds:.0f}", "--seed", str(seed + rounds)]
        if _run(command) != 0:
            print(f"Seed {seed + rounds} did not hold, after {rounds} rounds that did.", flush=True)
            return 1
        rounds += 1
    print(f"{rounds} rounds of faults held, from seed {seed}.", flush=True)
    return _run(["-m", "pytest", "-q", "-p", "no:xdist", "--hypothesis-profile=soak", "-m", "hypothesis", "tests/unit"])


def _run(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
