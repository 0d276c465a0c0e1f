"""Learn: the last step sums up what was done and what came of it, for people now and for better decisions later."""

import json
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from agents.decide import Decision
from agents.work import Work, make_record
from core.clock import Stopwatch


class ActionTaken(BaseModel):
    """An action and whether it did what was asked."""

    tool: str
    ok: bool
    error: str | None = None


class Result(BaseModel):
    """What a task came to."""

    answer: str
    is_truncated: bool = False
    is_rehearsal: bool = False
    actions: list[ActionTaken]
    decisions: int
    tokens: int
    billed_cost: Decimal


def learn(work: Work, decision: Decision, seq: int) -> Result:
    """Step `seq`, the last: the answer, and how the actions on the way to it went. With it the task has ended."""
    done = work.finished(seq)
    if done is not None:
        result = Result.model_validate(done.output)
        work.finish(done.output)
        return result
    work.check_stopped()
    stopwatch = Stopwatch()
    journal = work.journal()
    result = Result(
        answer=decision.message.text,
        is_truncated=decision.is_truncated,
        is_rehearsal=work.workplace.models.is_rehearsal,
        actions=[_action(step.name, step.output) for step in journal if step.stage == "act"],
        decisions=sum(step.stage == "decide" for step in journal),
        tokens=work.tokens_used(),
        billed_cost=work.cost(),
    )
    output = result.model_dump(mode="json")
    work.defer(make_record(seq, "learn", "learn", stopwatch, output=output))
    work.finish(output)
    return result


def _action(tool: str, output: dict[str, Any]) -> ActionTaken:
    if output["ok"]:
        return ActionTaken(tool=tool, ok=True)
    return ActionTaken(tool=tool, ok=False, error=json.loads(output["message"]["content"])["error"])
