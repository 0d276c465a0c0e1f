"""The calls of client tools in a task's journal. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.tasks.schemas import Step

WAITING = "client_tools"
"""what a task waits for while its client has results to return"""


@dataclass(frozen=True, slots=True)
class ClientCall:
    """A call of a client tool in a task's journal."""

    task_id: UUID
    seq: int
    """the step that records its result"""
    decision: int
    """the step of the decision that asked for it"""
    tool: str
    arguments: dict[str, Any]
    text: str
    """the arguments as JSON, as the model wrote them"""
    is_done: bool

    @property
    def id(self) -> str:
        """The id by which the client names the call."""
        return f"call_{self.task_id.hex}_{self.seq}"


def task_of(call_id: str) -> UUID | None:
    """Return the task of a call by the call's id, or None if no task has such a call."""
    head, _, rest = call_id.partition("_")
    task, _, seq = rest.partition("_")
    try:
        return UUID(task) if head == "call" and seq.isascii() and seq.isdecimal() else None
    except ValueError:
        return None


def client_tools(task_input: dict[str, Any]) -> set[str]:
    """Return the names of a task's client tools."""
    return {tool["name"] for tool in task_input.get("client_tools") or ()}


def client_calls(task_id: UUID, task_input: dict[str, Any], steps: Sequence[Step]) -> list[ClientCall]:
    """Return the calls of client tools in a task's journal, in order."""
    names = client_tools(task_input)
    if not names:
        return []
    done = {step.seq for step in steps if step.status == "done"}
    return [
        ClientCall(task_id, seq, step.seq, call["name"], call["arguments"], call["text"], seq in done)
        for step in steps
        if step.stage == "decide" and step.status == "done"
        for seq, call in enumerate(step.output["message"]["tool_calls"], start=step.seq + 1)
        if call["name"] in names and not call.get("problem")
    ]
