"""Tools that reach outside, one of each kind, with an outside that tests arrange. Loaded by ROTA_TOOLS."""

from collections.abc import Callable
from typing import Any

from agents.tools.registry import OutwardContext, Parameters, outward_tool


class Outside:
    """What happened out there, and what happens when somebody reaches out."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, str]] = []
        self.then: Callable[[str], None] = lambda _: None

    def reached_by(self, tool: str, context: OutwardContext) -> dict[str, Any]:
        """An effect takes place; then, perhaps, something goes wrong."""
        self.happened.append((tool, context.idempotency_key))
        self.then(tool)
        return {"done": True}


outside = Outside()


class Nothing(Parameters):
    """No parameters."""


@outward_tool(
    "ring_bell",
    category="automation",
    parameters=Nothing,
    permission="bell:ring",
    risk="low",
)
def ring_bell(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Ring the bell. Ringing twice wakes everybody twice."""
    return outside.reached_by("ring_bell", context)


@outward_tool(
    "post_letter",
    category="messaging",
    parameters=Nothing,
    permission="post:send",
    takes_idempotency_key=True,
    risk="low",
)
def post_letter(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Post a letter. The post office knows a repeated request by its key."""
    return outside.reached_by("post_letter", context)


@outward_tool(
    "light_lamp",
    category="automation",
    parameters=Nothing,
    permission="lamp:light",
    repeat_is_harmless=True,
    risk="low",
)
def light_lamp(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Light the lamp. It can be lit again without harm."""
    return outside.reached_by("light_lamp", context)


TOOLS = [ring_bell, post_letter, light_lamp]
