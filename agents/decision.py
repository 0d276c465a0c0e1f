"""What a model decided: read from its reply. Pure."""

from typing import Any

from pydantic import BaseModel

from agents.llm.base import AssistantMessage, Reply, ToolCall

_RATIONALE_WORDS = ("_intent", "_why", "_alternatives")
_LONGEST_RATIONALE = 1_000  # characters, of each part


class ProposedAction(BaseModel):
    """An action the model proposes, with its own rationale."""

    tool: str
    arguments: dict[str, Any]
    intent: str | None = None
    why: str | None = None
    confidence: float | None = None
    alternatives: list[str] = []


class Decision(BaseModel):
    """What the model made of it: actions to take, or, where there are none, the answer."""

    seq: int
    message: AssistantMessage
    intent: str
    actions: list[ProposedAction]
    confidence: float | None
    reasoning: str
    is_truncated: bool = False
    is_pause: bool = False
    is_rehearsal: bool = False

    @property
    def answers(self) -> bool:
        """Whether this is the last word."""
        return not self.message.tool_calls and not self.is_pause


def read(reply: Reply, seq: int) -> Decision:
    """The decision in a reply: its tool calls are the actions, and without any its text is the answer."""
    actions = [_action(call) for call in reply.message.tool_calls]
    sure = [action.confidence for action in actions if action.confidence is not None]
    whys = list(dict.fromkeys(action.why for action in actions if action.why))
    intents = list(dict.fromkeys(action.intent for action in actions if action.intent))
    return Decision(
        seq=seq,
        message=reply.message,
        intent="; ".join(intents) or ("answer" if not actions else ", ".join(action.tool for action in actions)),
        actions=actions,
        confidence=min(sure) if sure else None,
        reasoning=reply.message.text if actions and reply.message.text else " ".join(whys),
        is_truncated=reply.stop_reason in {"max_tokens", "window"},
        is_pause=reply.stop_reason == "pause",
        is_rehearsal=reply.is_rehearsal,
    )


def _action(call: ToolCall) -> ProposedAction:
    said = call.arguments
    intent, why, alternatives = (str(said.get(name) or "")[:_LONGEST_RATIONALE] for name in _RATIONALE_WORDS)
    return ProposedAction(
        tool=call.name,
        arguments={name: value for name, value in said.items() if not name.startswith("_")},
        intent=intent or None,
        why=why or None,
        confidence=confidence_of(said.get("_confidence")),
        alternatives=[part.strip() for part in alternatives.split(";") if part.strip()],
    )


def confidence_of(said: Any) -> float | None:
    """How sure a model says it is, from 0 to 1; None where it says nothing. Whatever else it says counts as unsure."""
    if said is None:
        return None
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    return float(said) if is_number and 0 <= said <= 1 else 0.0
