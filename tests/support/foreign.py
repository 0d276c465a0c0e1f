"""Tools as somebody else might write them: they raise what they like, and take their time. Loaded by ROTA_TOOLS."""

import asyncio
import builtins
import time
from typing import Any

from agents.tools.registry import OutwardContext, Parameters, outward_tool


class Trouble(Parameters):
    """What to raise: a built-in exception, or `CancelledError`."""

    kind: str


class Pause(Parameters):
    """How long to take."""

    seconds: float


@outward_tool(
    "blow_up",
    category="automation",
    parameters=Trouble,
    permission="bell:ring",
    risk="low",
    repeat_is_harmless=True,
    sends_outside=False,
    moves_money=False,
    returns_untrusted=False,
)
def blow_up(_context: OutwardContext, wanted: Trouble) -> dict[str, Any]:
    """Raise something."""
    raise getattr(builtins, wanted.kind, asyncio.CancelledError)


@outward_tool(
    "take_time",
    category="automation",
    parameters=Pause,
    permission="bell:ring",
    risk="low",
    changes_world=False,
    sends_outside=False,
    moves_money=False,
    returns_untrusted=False,
)
def take_time(_context: OutwardContext, wanted: Pause) -> dict[str, Any]:
    """Take some time."""
    time.sleep(wanted.seconds)
    return {"slept": wanted.seconds}


TOOLS = [blow_up, take_time]
