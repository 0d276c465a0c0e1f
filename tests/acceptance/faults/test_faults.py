"""A short storm over all of it. `make faults` rages longer."""

import os
import random
import subprocess
import sys

from core.settings import ROOT


def test_nothing_is_lost_doubled_or_let_past_a_limit_in_a_short_storm() -> None:
    seed = os.environ.get("SEED") or str(random.SystemRandom().randrange(10**6))
    command = [sys.executable, "-m", "tests.acceptance.faults", "--seconds", "12", "--tasks", "100"]
    done = subprocess.run(
        [*command, "--seed", seed, "--talks", "2", "--lease", "3", "--threads", "8", "--pause", "0.5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("all held")
