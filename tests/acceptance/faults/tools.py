"""Tools that reach outside, one of each kind: must not be repeated, takes a key, harmless."""

import asyncio
import os
from typing import Any

import httpx2

from agents.tools.registry import NotDone, OutwardContext, Parameters, outward_tool

# Long: on a busy machine an answer that is merely late must not look like one that was lost.
_client = httpx2.Client(timeout=30, trust_env=False, limits=httpx2.Limits(max_connections=100))

RAISED: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "ValueError": ValueError,
}
"""what the world has a tool raise, in place of what it would return"""


class Order(Parameters):
    """Which order."""

    order: str


def _send(name: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = _client.post(f"{os.environ['FAULTS_WORLD']}/effects/{name}", json=body)
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise NotDone(f"Nobody listens: {error}") from error
    found: dict[str, Any] = answer.raise_for_status().json()
    if "raise" in found:
        raise RAISED[found["raise"]]
    return found


@outward_tool(
    "charge_card",
    category="automation",
    parameters=Order,
    permission="payments:write",
    risk="low",
    sends_outside=False,
    moves_money=False,
    returns_untrusted=False,
)
def charge_card(context: OutwardContext, wanted: Order) -> dict[str, Any]:
    """Charge the card of an order. Charging twice takes the money twice."""
    return _send("charge_card", {"order": wanted.order})


@outward_tool(
    "text_customer",
    category="messaging",
    parameters=Order,
    permission="sms:send",
    takes_idempotency_key=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    returns_untrusted=False,
)
def text_customer(context: OutwardContext, wanted: Order) -> dict[str, Any]:
    """Send a text about an order. The other side knows a repeated request by its key."""
    return _send("text_customer", {"order": wanted.order, "key": context.idempotency_key})


@outward_tool(
    "set_display",
    category="automation",
    parameters=Order,
    permission="display:write",
    repeat_is_harmless=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    returns_untrusted=False,
)
def set_display(context: OutwardContext, wanted: Order) -> dict[str, Any]:
    """Show an order on the display. Showing it again changes nothing."""
    return _send("set_display", {"order": wanted.order})


TOOLS = [charge_card, text_customer, set_display]
