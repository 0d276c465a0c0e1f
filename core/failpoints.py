"""Named places between two writes at which a test can have this process killed, as by a power cut.

`ROTA_FAILPOINTS` names places and how often each kills: `after-claim=0.01,before-leave=0.02`. Without it, nothing
happens. The idea is that of PostgreSQL's injection points and TiKV's fail-rs.
"""

import functools
import os
import random
import signal
from typing import Literal, get_args

Place = Literal[
    "after-mark",  # the dispatcher has marked tasks as dispatched and published none
    "after-publish",  # it has published them
    "before-claim",  # a worker has a message in hand
    "after-claim",  # it has the task
    "before-step",  # a model was called, and the step is not recorded
    "after-step",  # a step is recorded
    "before-intent",  # an effect that must not happen twice is about to be announced
    "before-effect",  # it is announced and did not happen
    "after-effect",  # it happened and is not recorded
    "before-leave",  # the task's work is done and its end is not recorded
    "after-leave",  # it is recorded, and the message not acknowledged
    "before-send",  # a message of the outbox is marked as being sent
    "after-send",  # it is sent and not marked so
]
PLACES: tuple[Place, ...] = get_args(Place)


def failpoint(place: Place) -> None:
    """Kill this process here, if and as often as `ROTA_FAILPOINTS` says so."""
    odds = _odds()
    if odds and random.random() < odds.get(place, 0):  # noqa: S311  a test's dice
        os.kill(os.getpid(), signal.SIGKILL)


@functools.cache
def _odds() -> dict[str, float]:
    named = os.environ.get("ROTA_FAILPOINTS", "")
    pairs = (entry.partition("=") for entry in named.split(",") if entry)
    odds = {place.strip(): float(share or 1) for place, _, share in pairs}
    if unknown := odds.keys() - set(PLACES):
        raise ValueError(f"ROTA_FAILPOINTS names {', '.join(sorted(unknown))}; the places are {', '.join(PLACES)}")
    return odds
