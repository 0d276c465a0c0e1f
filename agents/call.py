"""A tool call on its way from the decision to its record: resolved once, then carried through every step between."""

from dataclasses import dataclass, replace
from typing import Any

from agents.decision import Decision, ProposedAction
from agents.levels import Ruling
from agents.llm.base import ToolCall, ToolSpec
from agents.perceive import Perception
from agents.tools import TOOLS
from agents.tools.registry import Parameters, Tool
from agents.work import Work
from core.errors import InvalidInput, NotPermitted, RotaError
from domain.approvals import service as approvals
from domain.approvals.schemas import Approval


@dataclass(frozen=True)
class Call:
    """One call of a decision. Screening adds to it what people or rules said."""

    seq: int
    """the step that records it"""
    message: ToolCall
    """the call as the model made it, rationale and all"""
    action: ProposedAction
    """the model's rationale, parted from the arguments"""
    tool: Tool | None
    """the tool of that name, whether or not the agent has it; None if there is none, or if it is the client's"""
    refusal: RotaError | None
    """why it cannot be carried out, whatever its arguments"""
    arguments: dict[str, Any]
    """the arguments that stand: the model's, or those that people approved"""
    ruling: Ruling | None = None
    """if no person was asked: the ruling that lets it run"""
    is_requested: bool = False
    """whether the trusted request itself asked for it"""
    approval: Approval | None = None
    """if people were asked: the approval that it runs on"""
    is_client: bool = False
    """whether the client that submitted the task carries it out"""

    @property
    def name(self) -> str:
        """The name that the model called."""
        return self.message.name

    @property
    def own_arguments(self) -> dict[str, Any]:
        """The arguments without the model's rationale."""
        return without_rationale(self.arguments)

    @property
    def acts(self) -> bool:
        """Whether it does more than read, as far as its name tells."""
        return self.tool is not None and self.tool.acts

    def usable_tool(self) -> Tool:
        """Return its tool.

        Raises:
            InvalidInput: the call cannot be read.
            NotPermitted: the agent has no such tool, or it was taken from the agent since the task began.
        """
        if self.refusal is not None:
            raise self.refusal
        assert self.tool is not None  # noqa: S101  for the type checker: otherwise there is a refusal
        return self.tool

    def parameters(self) -> Parameters:
        """Return its validated parameters. They are parsed anew for each use, because a tool may change its own.

        Raises:
            InvalidInput, NotPermitted: as `usable_tool`, or the arguments do not fit.
        """
        return self.usable_tool().validate(self.arguments)

    def approved(self, approval: Approval) -> "Call":
        """Return the call with the approved arguments.

        Raises:
            NotPermitted: these are neither what it was proposed with nor an approver's edit of that.
        """
        proposed = approval.arguments if approval.kind == "suggestion" else approval.proposed
        is_same = approvals.digest(approval.tool, proposed) == approvals.digest(self.name, self.own_arguments)
        if not is_same or approvals.digest(approval.tool, approval.arguments).hex() != approval.digest:
            raise NotPermitted("What was approved is not what is about to be done.")
        return replace(self, arguments=approval.arguments, approval=approval)


def resolve(work: Work, perception: Perception, decision: Decision) -> list[Call]:
    """Return the calls of a decision, in the order in which the model made them; their steps follow the decision's."""
    yours = usable_tools(work, perception)
    theirs = {spec.name for spec in client_specs(work)}
    return [
        Call(
            seq=seq,
            message=message,
            action=action,
            tool=TOOLS.get(message.name),
            is_client=message.name in theirs and not message.problem,
            refusal=_refusal(message, yours),
            arguments=message.arguments,
        )
        for seq, (message, action) in enumerate(
            zip(decision.message.tool_calls, decision.actions, strict=True), start=decision.seq + 1
        )
    ]


def usable_tools(work: Work, perception: Perception) -> list[str]:
    """Return the names of the tools that the agent had when the task began and has now."""
    return [name for name in perception.tools if work.may_use(name)]


def client_specs(work: Work) -> list[ToolSpec]:
    """Return the tools that the client of the task brings. One with the name of a tool of ours is left out: ours are
    governed, and the names must not be confused.
    """
    brought = work.task.input.get("client_tools") or ()
    return [ToolSpec.model_validate(tool) for tool in brought if TOOLS.get(tool["name"]) is None]


def _refusal(message: ToolCall, yours: list[str]) -> RotaError | None:
    if message.problem:
        return InvalidInput(f"This call could not be read: {message.problem}. Call the tool again.")
    if message.name not in yours or TOOLS.get(message.name) is None:
        return NotPermitted(f"You have no tool called {message.name!r}. Yours are: {', '.join(yours) or 'none'}.")
    return None


def without_rationale(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a tool's own arguments: all but those that the model's rationale has."""
    return {name: value for name, value in arguments.items() if not name.startswith("_")}
