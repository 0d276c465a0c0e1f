"""Learn: the last step sums up what was done and what came of it."""

import json
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from agents.circumstances import has_read_untrusted
from agents.decision import Decision
from agents.journal import make_record
from agents.work import Work
from core.clock import Stopwatch


class ActionTaken(BaseModel):
    """An action and whether it did what was asked, or was only suggested to a person."""

    tool: str
    ok: bool
    suggested: bool = False
    error: str | None = None


class Result(BaseModel):
    """What a task came to."""

    answer: str
    is_truncated: bool = Field(default=False, description="the answer stops at the limit of output tokens")
    is_rehearsal: bool = False
    is_unpriced: bool = Field(
        default=False, description="a model took part for which no price is known: its calls were billed at 0"
    )
    has_read_untrusted: bool = Field(
        default=True, description="strangers may have written something that the agent read"
    )
    actions: list[ActionTaken]
    decisions: int
    tokens: int
    billed_cost: Decimal


def learn(work: Work, decision: Decision, seq: int) -> Result:
    """Step `seq`, the last: the answer, and how the actions on the way to it went."""
    done = work.journal.finished(seq)
    if done is not None:
        return Result.model_validate(done.output)
    work.check_stopped()
    stopwatch = Stopwatch()
    journal = work.journal.steps()
    decided = [step for step in journal if step.stage == "decide"]
    result = Result(
        answer=decision.message.text,
        is_truncated=decision.is_truncated,
        is_rehearsal=any(step.output.get("is_rehearsal") for step in decided),
        is_unpriced=any(step.input.get("is_unpriced") for step in journal),
        has_read_untrusted=has_read_untrusted(work),
        actions=[_action(step.name, step.output) for step in journal if step.stage == "act"],
        decisions=len(decided),
        tokens=work.journal.tokens,
        billed_cost=work.journal.cost,
    )
    work.journal.defer(make_record(seq, "learn", "learn", stopwatch, output=result.model_dump(mode="json")))
    return result


def _action(tool: str, output: dict[str, Any]) -> ActionTaken:
    if output["ok"]:
        return ActionTaken(tool=tool, ok=True)
    if output.get("suggested"):
        return ActionTaken(tool=tool, ok=False, suggested=True)
    return ActionTaken(tool=tool, ok=False, error=json.loads(output["message"]["content"])["error"])
