"""Named places between two writes at which a test can kill this process, as a power cut would.

`ROTA_FAILPOINTS` names places and the probability that each kills: `after-claim=0.01,before-end=0.02`. Without it,
failpoints are no-ops. The idea is that of PostgreSQL's injection points and TiKV's fail-rs.
"""

import functools
import os
import random
import signal
from typing import Literal, get_args

Place = Literal[
    "after-mark",  # the dispatcher has marked tasks as dispatched and published none
    "after-publish",  # the dispatcher has published the tasks
    "before-claim",  # a worker has received a message
    "after-claim",  # the worker has claimed the task
    "before-step",  # a model was called, and the step is not recorded
    "after-step",  # a step is recorded
    "before-intent",  # an effect that must not happen twice is about to be announced
    "before-effect",  # the effect is announced and has not happened
    "after-effect",  # the effect has happened and is not recorded
    "before-end",  # the task's work is done and its end is not recorded
    "after-end",  # the task's end is recorded, and the message is not acknowledged
    "before-send",  # a message of the outbox is marked as being sent
    "after-send",  # the message is sent and not marked as sent
]
PLACES: tuple[Place, ...] = get_args(Place)


def failpoint(place: Place) -> None:
    """Kill this process with the probability that `ROTA_FAILPOINTS` gives for `place`."""
    odds = _odds()
    if odds and random.random() < odds.get(place, 0):  # noqa: S311  for tests, no secret
        os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _odds() -> dict[str, float]:
    named = os.environ.get("ROTA_FAILPOINTS", "")
    pairs = (entry.partition("=") for entry in named.split(",") if entry)
    odds = {place.strip(): float(share or 1) for place, _, share in pairs}
    if unknown := odds.keys() - set(PLACES):
        raise ValueError(f"ROTA_FAILPOINTS names {', '.join(sorted(unknown))}; the places are {', '.join(PLACES)}")
    return odds
