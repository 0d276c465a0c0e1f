"""Tools of the tests' own, one of each kind, with an outside that tests arrange. Loaded by ROTA_TOOLS."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from agents.tools.registry import OutwardContext, Parameters, ToolContext, outward_tool, reading_tool, tool


class Outside:
    """What happened out there, and what happens when somebody reaches out."""

    def __init__(self) -> None:
        self.happened: list[tuple[str, str]] = []
        self.then: Callable[[str], None] = lambda _: None
        self.answer: Any = {"done": True}

    def reached_by(self, tool: str, context: OutwardContext) -> dict[str, Any]:
        """An effect takes place; then, perhaps, something goes wrong."""
        self.happened.append((tool, context.idempotency_key))
        self.then(tool)
        returned: dict[str, Any] = self.answer  # what foreign code returns need not be what it promises
        return returned


outside = Outside()


class Nothing(Parameters):
    """No parameters."""


@outward_tool(
    "ring_bell",
    category="automation",
    parameters=Nothing,
    permission="bell:ring",
    risk="low",
    sends_outside=False,
    moves_money=False,
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
    sends_outside=False,
    moves_money=False,
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
    sends_outside=False,
    moves_money=False,
)
def light_lamp(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Light the lamp. It can be lit again without harm."""
    return outside.reached_by("light_lamp", context)


@outward_tool("bare_reach", category="automation", parameters=Nothing, permission="bell:ring")
def bare_reach(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Reach out. It declares nothing of what it does."""
    return outside.reached_by("bare_reach", context)


@outward_tool(
    "fetch_page",
    category="automation",
    parameters=Nothing,
    permission="bell:ring",
    changes_world=False,
    moves_money=False,
    sends_outside=True,
    risk="low",
)
def fetch_page(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Fetch a page. It changes nothing, but its address can carry data out."""
    return outside.reached_by("fetch_page", context)


class Sum(Parameters):
    """How much."""

    n: Annotated[float, Field(description="The amount")]


@outward_tool("pay_out", category="automation", parameters=Sum, permission="bell:ring", sends_outside=False)
def pay_out(context: OutwardContext, _: Sum) -> dict[str, Any]:
    """Pay a sum out to nobody in particular. Paying twice pays twice."""
    return outside.reached_by("pay_out", context)


@outward_tool(
    "send_pigeon",
    category="messaging",
    parameters=Nothing,
    permission="pigeon:send",
    repeat_is_harmless=True,
    risk="low",
    sends_outside=True,
    moves_money=False,
)
def send_pigeon(context: OutwardContext, _: Nothing) -> dict[str, Any]:
    """Send a pigeon to somebody, with some words tied to its leg."""
    return outside.reached_by("send_pigeon", context)


TOOLS = [ring_bell, post_letter, light_lamp, bare_reach, fetch_page, pay_out, send_pigeon]


@reading_tool("look_around", category="automation", parameters=Nothing, permission="bell:ring")
def look_around(_context: ToolContext, _: Nothing) -> dict[str, Any]:
    """Look around. It works on our own records, and changes nothing."""
    outside.then("look_around")
    return {"seen": True}


@tool(
    "tidy_up",
    category="automation",
    parameters=Nothing,
    permission="bell:ring",
    risk="low",
    sends_outside=False,
    moves_money=False,
)
def tidy_up(_context: ToolContext, _: Nothing) -> dict[str, Any]:
    """Tidy up. It works on our own records, and changes them."""
    outside.then("tidy_up")
    return {"tidy": True}


OWN_TOOLS = [look_around, tidy_up]
