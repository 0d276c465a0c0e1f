"""Decide: one call of the model, which answers or asks for actions. What it proposed, and why, is kept."""

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from agents.interrupt import Stopped
from agents.llm.base import AssistantMessage, Message, Reply, Request, TextDelta, ToolCall, ToolMessage, UserMessage
from agents.llm.context import fit
from agents.llm.errors import ModelError
from agents.perceive import Perception
from agents.tools import ALL
from agents.work import Work, make_record
from core.clock import Stopwatch
from core.db import transaction
from core.errors import Misconfigured
from core.failpoints import failpoint
from domain.billing import pricing
from domain.billing.routing import ProviderName, provider_of
from domain.billing.schemas import Price, Tokens
from domain.replies import service as replies
from domain.replies.schemas import KeptReply
from domain.tasks.schemas import Bill, Step

_ELSEWHERE = {"model_unavailable", "overloaded", "server_error"}
_HARDER_TRIM = 0.6
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

    @property
    def answers(self) -> bool:
        """Whether this is the last word."""
        return not self.message.tool_calls and not self.is_pause


def decide(work: Work, perception: Perception, seq: int) -> Decision:
    """Step `seq`: ask the model what to do next, or read back what it said.

    Raises:
        ModelError: there was no usable answer; failed tries are in the journal, billed where the provider charged.
    """
    done = work.finished(seq)
    if done is not None:
        return Decision.model_validate(done.output | {"seq": seq})
    work.check()
    request = _request(work, perception)
    try:
        return _ask(work, perception.model, request, seq)
    except ModelError as error:
        work.check()
        if error.kind == "too_long":
            return _ask(work, perception.model, request, seq, share=_HARDER_TRIM)
        if error.kind == "truncated":
            longer = request.model_copy(update={"max_output_tokens": 2 * request.max_output_tokens})
            return _ask(work, perception.model, longer, seq)
        if error.kind in _ELSEWHERE and perception.fallback_model:
            return _ask(work, perception.fallback_model, request, seq)
        raise


def _request(work: Work, perception: Perception) -> Request:
    limits = work.agent.limits
    return Request(
        model=perception.model,
        system=perception.system,
        messages=conversation(perception, work.journal(), work.messages),
        tools=[tool.spec for name in perception.tools if (tool := ALL.get(name))],
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
    own = work.workplace.books.own_price(work.task.org_id, model)
    with work.asking() as ask:
        provider = provider_of(model, own)
        pricing.ensure_priced(provider=provider, model=model, own=own)  # before it costs anything
        window = own.context_window if own else pricing.context_window(provider, model)
        prepared = fit(request.model_copy(update={"model": model}), window, share=share)
        work.ensure_paid(ask, "internal_llm_call", dollars=lambda: _at_most(work, prepared, own))
    given = {"model": model, "provider": provider, "messages": len(prepared.messages)}
    ttl = work.agent.limits.reply_cache
    try:
        cached = _from_cache(work, prepared, ttl)
        reply = cached or _call(work, provider, prepared, seq)
    except ModelError as error:
        work.interrupt.check()  # the call may have ended because somebody ended it
        error.at = (provider, model)
        failure: dict[str, Any] = {"error": {"kind": error.kind, "message": error.message}}
        work.record(make_record(seq, "decide", model, stopwatch, output=failure, given=given, status="failed"))
        raise
    bill = None if cached else _bill(work, reply, own)
    if problem := _problem(reply):
        failure = {"error": {"kind": problem.kind, "message": problem.message}, "text": reply.message.text}
        work.record(
            make_record(seq, "decide", model, stopwatch, output=failure, given=given, bill=bill, status="failed")
        )
        raise problem
    decision = _read(reply, seq)
    output = decision.model_dump(exclude={"seq"}) | ({"from_cache": True} if cached else {})
    record = make_record(seq, "decide", model, stopwatch, output=output, given=given, bill=bill)
    is_kept = ttl > timedelta(0) and not cached
    if (decision.answers or _only_looks_up(decision)) and not is_kept:
        failpoint("before-step")
        work.defer(record)  # what comes next comes at once, and this is written with it
    else:
        work.record(record)
    if is_kept:
        with transaction(work.task.org_id) as connection:
            kept = KeptReply(digest=_digest(prepared), reply=reply.model_dump(mode="json"), ttl=ttl)
            replies.keep(connection, work.task.org_id, kept)
    return decision


def _only_looks_up(decision: Decision) -> bool:
    """Whether all it leads to is one look at our own records."""
    calls = decision.message.tool_calls
    tool = ALL.get(calls[0].name) if len(calls) == 1 else None
    return tool is not None and tool.only_reads


def _at_most(work: Work, request: Request, own: Price | None) -> Decimal:
    """What a call can be billed at most, in dollars: no token is shorter than a byte, no answer longer than asked
    for.
    """
    size = len(request.model_dump_json(exclude={"timeout"}).encode())
    tokens = Tokens(input=size, output=request.max_output_tokens)
    provider = provider_of(request.model, own)
    return pricing.cost_of(
        tokens, provider=provider, model=request.model, own=own, markup=work.organisation.markup
    ).billed


def _call(work: Work, provider: ProviderName, request: Request, seq: int) -> Reply:
    models = work.workplace.models
    try:
        with work.interrupt.attached(request.timeout), work.doing(request.model, request.timeout):
            if not work.sink.wants_words():
                return models.complete(provider, request)
            for part in models.stream(provider, request):
                work.interrupt.check()
                if isinstance(part, TextDelta):
                    work.sink.word(seq, part.text)
                else:
                    return part
    except Misconfigured as error:
        raise ModelError("model_unavailable", error.message) from error
    except Stopped:
        raise
    raise ModelError("incomplete", f"{provider}'s answer broke off before its end")


def _from_cache(work: Work, request: Request, ttl: timedelta) -> Reply | None:
    if ttl <= timedelta(0):
        return None
    with transaction(work.task.org_id) as connection:
        kept = replies.find(connection, _digest(request))
    return Reply.model_validate(kept) if kept else None


def _digest(request: Request) -> bytes:
    return hashlib.sha256(request.model_dump_json(exclude={"timeout"}).encode()).digest()


def _bill(work: Work, reply: Reply, own: Price | None) -> Bill:
    tokens: Tokens = reply.tokens
    cost = pricing.cost_of(tokens, provider=reply.provider, model=reply.model, own=own, markup=work.organisation.markup)
    return Bill(
        provider=reply.provider,
        model=reply.model,
        tokens=tokens,
        cost=cost,
        is_rehearsal=work.workplace.models.is_rehearsal,
    )


def _problem(reply: Reply) -> ModelError | None:
    """Why an answer that came whole is none."""
    if reply.stop_reason == "refusal":
        return ModelError("refused", f"The model declined to answer: {reply.message.text or 'no reason given'}")
    if reply.truncated_call:
        return ModelError("truncated", "The model's tool call was cut at the limit of output tokens; raise it.")
    return None


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
        is_truncated=reply.stop_reason == "max_tokens",
        is_pause=reply.stop_reason == "pause",
    )


def _action(call: ToolCall) -> ProposedAction:
    said = call.arguments
    confidence = said.get("_confidence")
    is_share = isinstance(confidence, int | float) and 0 <= confidence <= 1
    return ProposedAction(
        tool=call.name,
        arguments={name: value for name, value in said.items() if not name.startswith("_")},
        intent=str(said["_intent"]) if said.get("_intent") else None,
        why=str(said["_why"]) if said.get("_why") else None,
        confidence=float(confidence) if is_share and confidence is not None else None,
        alternatives=[part.strip() for part in str(said.get("_alternatives") or "").split(";") if part.strip()],
    )
