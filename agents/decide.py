"""Decide: the model answers or asks for actions. What it proposed, and why, is kept."""

from collections.abc import Iterable

from agents.call import client_specs
from agents.decision import Decision
from agents.llm.answers import Remedy, remedy_for
from agents.llm.base import AssistantMessage, Message, Request, ToolMessage, UserMessage
from agents.llm.errors import OUTAGE, ModelError
from agents.llm.gates import CoolingDown
from agents.model_call import ask
from agents.perceive import Perception
from agents.served import serving
from agents.tools import TOOLS
from agents.work import Work
from core.errors import InvalidInput, Misconfigured, RotaError
from domain.billing.service import BudgetExhausted
from domain.tasks.schemas import Step
from domain.wallet.schemas import InsufficientFunds

_HARDER_TRIM = 0.6
_MOST_TIMES: dict[Remedy, int] = {"less": 2, "more_room": 1, "once_more": 1}
_AGAIN = UserMessage(text="[Your last answer was empty, or did not arrive whole. Give it again, whole.]")
_SAYS: dict[str, type[AssistantMessage | ToolMessage]] = {"decide": AssistantMessage, "act": ToolMessage}


def decide(work: Work, perception: Perception, seq: int) -> Decision:
    """Step `seq`: ask the model what to do next, or read back what it said.

    Raises:
        ModelError: there was no usable answer; failed tries are in the journal, billed where the provider charged.
        CoolingDown: the model may not be called soon, nor a fallback.
    """
    done = work.journal.finished(seq)
    if done is not None:
        return Decision.model_validate(done.output | {"seq": seq})
    work.check()
    request = _request(work, perception)
    try:
        return _ask_well(work, perception.model, request, seq)
    except (ModelError, CoolingDown) as error:
        work.check()
        fallback = _fallback(work, perception, error)
        if fallback is None:
            raise
        return _ask_fallback(work, fallback, request, seq, error)


def _ask_well(work: Work, model: str, request: Request, seq: int) -> Decision:
    """Ask one model. If its reply cannot be used and the reason has a remedy, apply the remedy and ask again."""
    share, used, error = 1.0, list[Remedy](), None
    while True:
        try:
            return ask(work, model, request, seq, share=share)
        except ModelError as found:
            if error and found.kind == "bad_request":
                raise error from found  # the remedy was refused: more room than the model has, say
            remedy, error = remedy_for(found.kind), found
            if remedy is None or used.count(remedy) >= _MOST_TIMES[remedy]:
                raise
        work.check()
        used.append(remedy)
        match remedy:
            case "less":
                share *= _HARDER_TRIM
            case "more_room":
                request = request.model_copy(update={"max_output_tokens": 2 * request.max_output_tokens})
            case "once_more":
                request = request.model_copy(update={"messages": [*request.messages, _AGAIN]})


def _fallback(work: Work, perception: Perception, error: ModelError | CoolingDown) -> str | None:
    """The model to ask after `error` of the first one; None where there is none, or its provider is not configured."""
    model = perception.fallback_model
    if model is None or model == perception.model or not _goes_elsewhere(work, error):
        return None
    return model if work.workplace.models.is_usable(serving(work, model).place) else None


def _goes_elsewhere(work: Work, error: ModelError | CoolingDown) -> bool:
    if isinstance(error, CoolingDown):
        return error.cause == "outage"
    return error.kind in OUTAGE | {"model_unavailable"} | work.fallback_kinds


def _ask_fallback(work: Work, model: str, request: Request, seq: int, first: ModelError | CoolingDown) -> Decision:
    """Ask the fallback after the `first` error. Where it cannot answer either, the first error is raised; or the
    fallback's, where only that one may pass.
    """
    try:
        return _ask_well(work, model, request, seq)
    except (ModelError, CoolingDown, Misconfigured, InvalidInput, InsufficientFunds, BudgetExhausted) as second:
        if _may_pass(second) and not _may_pass(first):
            raise
        raise first from second


def _may_pass(error: RotaError) -> bool:
    """Whether the task can go on later without a change to the agent or the configuration."""
    if isinstance(error, ModelError):
        return error.kind in OUTAGE | {"rate_limited"}
    return isinstance(error, CoolingDown | InsufficientFunds | BudgetExhausted)


def _request(work: Work, perception: Perception) -> Request:
    limits = work.agent.limits
    tools = [tool.spec for name in perception.tools if (tool := TOOLS.get(name))] + client_specs(work)
    # Providers refuse calls of tools where none is offered.
    history = work.history if tools else without_calls(work.history)
    return Request(
        model=perception.model,
        system=perception.system,
        messages=[*history, *conversation(perception, work.journal.steps(), work.messages, work.asked)],
        earlier=len(history),
        tools=tools,
        max_output_tokens=limits.max_output_tokens,
        timeout=work.time_for_a_call(),
    )


def without_calls(history: Iterable[Message]) -> list[Message]:
    """Return what was said, without the calls of tools and their results."""
    return [
        AssistantMessage(text=message.text) if isinstance(message, AssistantMessage) else message
        for message in history
        if not isinstance(message, ToolMessage) and message.text
    ]


def conversation(
    perception: Perception, journal: list[Step], known: dict[int, Message], asked: UserMessage | None = None
) -> list[Message]:
    """Rebuild the conversation from the journal, which stores each message once. `known` has the messages that were
    read before, by step: a finished step does not change. `asked` is the first message, if it has attachments.
    """
    for step in journal:
        if step.seq not in known and step.stage in _SAYS:
            known[step.seq] = _SAYS[step.stage].model_validate(step.output["message"])
    said = [known[step.seq] for step in journal if step.seq in known]
    return [asked or UserMessage(text=perception.message), *said]
