"""The long run: `python -m tests.acceptance.faults --seconds 600 --seed 7`. Exits with 1 when anything did not hold."""

import argparse
import os
import random
import sys
import time

from tests.acceptance.faults.run import run


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--tasks", type=int, default=None, help="default: nine a second")
    parser.add_argument("--talks", type=int, default=10, help="conversations with twenty messages at once")
    parser.add_argument("--lease", type=float, default=10, help="seconds until a silent worker loses its tasks")
    parser.add_argument("--threads", type=int, default=16, help="of each of the three workers")
    parser.add_argument("--pause", type=float, default=0.6, help="seconds between faults at most")
    parser.add_argument("--only", default="", help="only faults whose names hold this word")
    options = parser.parse_args()
    for name in list(os.environ):
        if name.startswith(("ROTA_", "OPENAI_", "ANTHROPIC_")) or name in {"DATABASE_URL", "REDIS_URL"}:
            del os.environ[name]
    os.environ["ROTA_CONFIG"] = os.devnull
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    total = options.tasks or int(9 * options.seconds)
    print(f"seed {seed}: {total} tasks in {options.seconds:g} s", flush=True)
    began = time.monotonic()
    report = run(
        seconds=options.seconds,
        seed=seed,
        total=total,
        talks=options.talks,
        lease=options.lease,
        threads=options.threads,
        pause=(options.pause / 5, options.pause),
        only=options.only,
        say=lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True),
    )
    print("\n".join(report.lines()))
    return 0 if report.held else 1


if __name__ == "__main__":
    sys.exit(main())
