"""Accepted: a task that carries out one action that a person accepted. No model is asked."""

from agents.act import act
from agents.decision import Decision, ProposedAction
from agents.journal import make_record
from agents.learn import Result, learn
from agents.llm.base import AssistantMessage, ToolCall
from agents.perceive import Perception
from agents.work import Work
from core.clock import Stopwatch
from domain.tasks.schemas import Action

_BY = "a person"


def carry_out_accepted(work: Work, perception: Perception, action: Action) -> Result:
    """Step 1 is the person's decision, then comes the action, then words that say what came of it.

    Raises:
        as `run_pipeline` does, but for what models get wrong.
    """
    decision = _decided(work, 1, _accept(action))
    seq = act(work, perception, decision)
    journal = {step.seq: step for step in work.journal.steps()}
    is_done = all(journal[number].output["ok"] for number in range(2, seq))
    words = f"{action.tool}: {'done' if is_done else 'refused'}, as it was accepted."
    final = Decision(
        seq=seq, message=AssistantMessage(text=words), intent="answer", actions=[], confidence=None, reasoning=""
    )
    return learn(work, _decided(work, seq, final), seq + 1)


def _accept(action: Action) -> Decision:
    call = ToolCall(id="accepted", name=action.tool, arguments=action.arguments)
    return Decision(
        seq=1,
        message=AssistantMessage(tool_calls=[call]),
        intent=action.tool,
        actions=[ProposedAction(tool=action.tool, arguments=action.arguments)],
        confidence=None,
        reasoning="A person accepted this suggestion.",
    )


def _decided(work: Work, seq: int, decision: Decision) -> Decision:
    done = work.journal.finished(seq)
    if done is not None:
        return Decision.model_validate(done.output | {"seq": seq})
    work.check()
    work.journal.record(make_record(seq, "decide", _BY, Stopwatch(), output=decision.model_dump(exclude={"seq"})))
    return decision
