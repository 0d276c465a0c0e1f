"""Decide: one call of the model, which answers or asks for actions. What it proposed, and why, is kept."""

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from agents.interrupt import Stopped
from agents.journal import make_record
from agents.llm.answers import Remedy, problem_of, remedy_for
from agents.llm.base import AssistantMessage, Message, Reply, Request, TextDelta, ToolCall, ToolMessage, UserMessage
from agents.llm.context import fit
from agents.llm.errors import OUTAGE, ModelError
from agents.llm.gates import HeldBack
from agents.perceive import Perception
from agents.served import Served, serving
from agents.tools import TOOLS
from agents.work import Work
from core.clock import Stopwatch
from core.db import transaction
from core.errors import InvalidInput, Misconfigured, RotaError
from core.failpoints import failpoint
from domain.billing.schemas import Tokens
from domain.billing.service import BudgetExhausted
from domain.claims.schemas import Bill
from domain.pacing.schemas import Route
from domain.replies import service as replies
from domain.replies.schemas import KeptReply
from domain.tasks.schemas import Step
from domain.wallet.schemas import InsufficientFunds

_HARDER_TRIM = 0.6
_MOST_TIMES: dict[Remedy, int] = {"less": 2, "more_room": 1, "once_more": 1}
_AGAIN = UserMessage(text="[Your last answer was empty, or did not arrive whole. Give it again, whole.]")
_SAYS: dict[str, type[AssistantMessage | ToolMessage]] = {"decide": AssistantMessage, "act": ToolMessage}


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


def decide(work: Work, perception: Perception, seq: int) -> Decision:
    """Step `seq`: ask the model what to do next, or read back what it said.

    Raises:
        ModelError: there was no usable answer; failed tries are in the journal, billed where the provider charged.
        HeldBack: the model may not be called soon, nor a fallback.
    """
    done = work.journal.finished(seq)
    if done is not None:
        return Decision.model_validate(done.output | {"seq": seq})
    work.check()
    request = _request(work, perception)
    try:
        return _ask_well(work, perception.model, request, seq)
    except (ModelError, HeldBack) as error:
        work.check()
        fallback = _fallback(work, perception, error)
        if fallback is None:
            raise
        return _ask_fallback(work, fallback, request, seq, error)


def _ask_well(work: Work, model: str, request: Request, seq: int) -> Decision:
    """Ask one model; where its answer cannot be used for a reason that has a remedy, ask again by that remedy."""
    share, used, error = 1.0, list[Remedy](), None
    while True:
        try:
            return _ask(work, model, request, seq, share=share)
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


def _fallback(work: Work, perception: Perception, error: ModelError | HeldBack) -> str | None:
    """The model to ask after `error` of the first one; None where there is none, or its provider is not configured."""
    model = perception.fallback_model
    if model is None or model == perception.model or not _goes_elsewhere(work, error):
        return None
    return model if work.workplace.models.is_usable(serving(work, model).place) else None


def _goes_elsewhere(work: Work, error: ModelError | HeldBack) -> bool:
    if isinstance(error, HeldBack):
        return error.cause == "outage"
    return error.kind in OUTAGE | {"model_unavailable"} | work.fallback_kinds


def _ask_fallback(work: Work, model: str, request: Request, seq: int, first: ModelError | HeldBack) -> Decision:
    """Ask the fallback after the `first` error. Where it cannot answer either, the first error is raised; or the
    fallback's, where only that one may pass.
    """
    try:
        return _ask_well(work, model, request, seq)
    except (ModelError, HeldBack, Misconfigured, InvalidInput, InsufficientFunds, BudgetExhausted) as second:
        if _may_pass(second) and not _may_pass(first):
            raise
        raise first from second


def _may_pass(error: RotaError) -> bool:
    """Whether the task can go on later, as nobody has to change anything first but the provider or the wallet."""
    if isinstance(error, ModelError):
        return error.kind in OUTAGE | {"rate_limited"}
    return isinstance(error, HeldBack | InsufficientFunds | BudgetExhausted)


def _request(work: Work, perception: Perception) -> Request:
    limits = work.agent.limits
    return Request(
        model=perception.model,
        system=perception.system,
        messages=conversation(perception, work.journal.steps(), work.messages),
        tools=[tool.spec for name in perception.tools if (tool := TOOLS.get(name))],
        max_output_tokens=limits.max_output_tokens,
        timeout=work.time_for_a_call(),
    )


def conversation(perception: Perception, journal: list[Step], known: dict[int, Message]) -> list[Message]:
    """The conversation with the model, rebuilt from the journal, where each message stands once. In `known` are those
    that were read before, by step; what is done does not change.
    """
    for step in journal:
        if step.seq not in known and step.stage in _SAYS:
            known[step.seq] = _SAYS[step.stage].model_validate(step.output["message"])
    said = [known[step.seq] for step in journal if step.seq in known]
    return [UserMessage(text=perception.message), *said]


def _ask(work: Work, model: str, request: Request, seq: int, *, share: float = 1.0) -> Decision:
    """One try with one model. Whatever comes of it is written down before it counts."""
    stopwatch = Stopwatch()
    served = serving(work, model)
    with work.journal.lazy_transaction() as ask:
        served.ensure_priced()  # before it costs anything
        asked = request.model_copy(update={"model": served.name_there, "timeout": work.time_for_a_call()})
        prepared = fit(asked, served.window(), share=share)
        work.ensure_paid(ask, "internal_llm_call", dollars=lambda: _at_most(served, prepared))
    given: dict[str, Any] = {"model": model, "provider": served.name, "messages": len(prepared.messages)}
    ttl = work.agent.limits.reply_cache
    try:
        cached = _from_cache(work, served, prepared, ttl)
        reply = cached or _call(work, served, prepared, seq)
    except ModelError as error:
        if error.tokens is None:  # else it is billed first
            work.interrupt.check()  # the call may have ended because somebody ended it
        failure: dict[str, Any] = {"error": {"kind": error.kind, "message": error.message}}
        bill = _bill(work, served, error.tokens) if error.tokens else None
        given |= _marks(bill)
        work.journal.record(
            make_record(seq, "decide", model, stopwatch, output=failure, given=given, bill=bill, status="failed")
        )
        work.interrupt.check()
        raise
    bill = None if cached else _bill(work, served, reply.tokens)
    given |= _marks(bill)
    if problem := problem_of(reply, prepared.max_output_tokens):
        failure = {"error": {"kind": problem.kind, "message": problem.message}, "text": reply.message.text}
        work.journal.record(
            make_record(seq, "decide", model, stopwatch, output=failure, given=given, bill=bill, status="failed")
        )
        raise problem
    decision = _read(reply, seq)
    output = decision.model_dump(exclude={"seq"}) | ({"from_cache": True} if cached else {})
    record = make_record(seq, "decide", model, stopwatch, output=output, given=given, bill=bill)
    is_kept = ttl > timedelta(0) and not cached
    if (decision.answers or _only_looks_up(decision)) and not is_kept:
        failpoint("before-step")
        work.journal.defer(record)  # what comes next comes at once, and this is written with it
    else:
        work.journal.record(record)
    if is_kept:
        with transaction(work.task.org_id) as connection:
            kept = KeptReply(digest=_digest(served, prepared), reply=reply.model_dump(mode="json"), ttl=ttl)
            replies.keep(connection, work.task.org_id, kept)
    return decision


def _only_looks_up(decision: Decision) -> bool:
    """Whether all it leads to is one look at our own records."""
    calls = decision.message.tool_calls
    tool = TOOLS.get(calls[0].name) if len(calls) == 1 else None
    return tool is not None and tool.only_reads


def _at_most(served: Served, request: Request) -> Decimal:
    """What a call can be billed at most, in dollars: no token is shorter than a byte, no answer longer than asked
    for.
    """
    size = len(request.model_dump_json(exclude={"timeout"}).encode())
    return served.cost(Tokens(input=size, output=request.max_output_tokens)).billed


def _call(work: Work, served: Served, request: Request, seq: int) -> Reply:
    """The model's reply, once its provider may be called.

    Raises:
        ModelError: there is none.
        HeldBack: the provider may not be called soon.
    """
    route = Route(served.label, served.model, work.workplace.models.account_key(served.place))
    with work.workplace.gates.passing(route, work.interrupt, request.timeout) as passage:
        reply = _converse(work, served, request, seq)
        passage.tokens = reply.tokens.input + reply.tokens.output
    return reply


def _converse(work: Work, served: Served, request: Request, seq: int) -> Reply:
    models = work.workplace.models
    try:
        with work.interrupt.attached(request.timeout), work.doing(served.model, request.timeout):
            if not work.sink.wants_words():
                return models.complete(served.place, request)
            for part in models.stream(served.place, request):
                work.interrupt.check()
                if isinstance(part, TextDelta):
                    work.sink.word(seq, part.text)
                else:
                    return part
    except Misconfigured as error:
        raise ModelError("model_unavailable", error.message) from error
    except Stopped:
        raise
    raise ModelError("incomplete", f"{served.name}'s answer broke off before its end.")


def _from_cache(work: Work, served: Served, request: Request, ttl: timedelta) -> Reply | None:
    if ttl <= timedelta(0):
        return None
    with transaction(work.task.org_id) as connection:
        kept = replies.find(connection, _digest(served, request))
    return Reply.model_validate(kept) if kept else None


def _digest(served: Served, request: Request) -> bytes:
    asked = served.name + request.model_dump_json(exclude={"timeout"})
    return hashlib.sha256(asked.encode()).digest()


def _bill(work: Work, served: Served, tokens: Tokens) -> Bill:
    return Bill(
        provider=served.name,
        model=served.model,
        tokens=tokens,
        cost=served.cost(tokens),
        is_rehearsal=work.workplace.models.is_rehearsed(served.place),
    )


def _marks(bill: Bill | None) -> dict[str, bool]:
    """What a reader of the journal should know of a bill's amount."""
    marks = {"is_estimated": bill.tokens.is_estimated, "is_unpriced": bill.cost.is_unpriced} if bill else {}
    return {name: True for name, is_so in marks.items() if is_so}


def _read(reply: Reply, seq: int) -> Decision:
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


_RATIONALE_WORDS = ("_intent", "_why", "_alternatives")
_LONGEST_RATIONALE = 1_000  # characters, of each part


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
