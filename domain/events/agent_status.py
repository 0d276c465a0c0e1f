"""What an agent is doing, as an event of its task tells. Pure: derived from the event when it is read."""

from collections.abc import Mapping
from typing import Any, Literal

AgentStatus = Literal["idle", "monitoring", "waiting_for_approval", "intervening", "learning"]

_OF_KIND: Mapping[str, AgentStatus] = {
    "task.started": "monitoring",
    "approval.requested": "waiting_for_approval",
    "action.begun": "intervening",
    "action.executed": "monitoring",
    "action.failed": "monitoring",
    "task.ended": "idle",
}


def agent_status(kind: str, told: Mapping[str, Any]) -> AgentStatus | None:
    """Return what the agent is doing from this event on; None for an event that does not change it."""
    if kind == "task.waiting":
        return "waiting_for_approval" if told.get("waiting_for") == "approval" else "idle"
    if kind == "task.step":
        return "learning" if told.get("stage") == "learn" else None
    return _OF_KIND.get(kind)
