"""One call of one model: prepare the request, get a reply, judge it, and record it before it counts."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from agents.attached import loaded, parts_of, readable
from agents.decision import Decision, read
from agents.interrupt import Stopped
from agents.journal import make_record
from agents.llm.answers import problem_of
from agents.llm.base import Reply, Request, TextDelta
from agents.llm.context import fit
from agents.llm.counting import media_tokens
from agents.llm.errors import ModelError
from agents.served import Served, serving
from agents.sink import Speech
from agents.tools import TOOLS
from agents.work import Work
from core.clock import Stopwatch
from core.db import transaction
from core.errors import Misconfigured
from core.failpoints import failpoint
from core.text import storable
from domain.billing.schemas import Tokens
from domain.claims.schemas import Charge, StepRecord
from domain.pacing.schemas import Route
from domain.replies import service as replies
from domain.replies.schemas import KeptReply


def ask(work: Work, model: str, request: Request, seq: int, *, share: float = 1.0) -> Decision:
    """Ask a model for the decision of step `seq`. `share` is how much of its window the request may fill.

    Raises:
        ModelError: there was no usable reply. The try is in the journal, billed where the provider charged.
        CoolingDown: the provider may not be called soon.
    """
    call = _prepare(work, model, request, seq, share)
    cache = _ReplyCache(call)
    reply, is_cached = cache.answer(lambda: _reply(call))
    charge = None if is_cached else call.charge(reply.tokens)
    if problem := problem_of(reply, call.request.max_output_tokens):
        call.record_failure(problem.kind, problem.message, charge, reply.message.text)
        raise problem
    decision = read(reply, seq)
    output = decision.model_dump(exclude={"seq"}) | ({"from_cache": True} if is_cached else {})
    _record(work, decision, call.record(output, charge), at_once=cache.is_used and not is_cached)
    if not is_cached:
        cache.keep(reply)
    return decision


def ask_for_text(
    work: Work, model: str, request: Request, seq: int, name: str, keep: Callable[[Connection, str], None]
) -> str:
    """Ask a model for a text that is no decision: step `seq`, `name`, of perceiving. `keep` is called in the
    transaction that records it.

    Raises:
        ModelError: there was no usable reply. The try is in the journal, billed where the provider charged.
        CoolingDown: the provider may not be called soon.
    """
    call = _prepare(work, model, request, seq, share=1.0)
    call.name = name
    reply = _reply(call)
    charge, text = call.charge(reply.tokens), reply.message.text
    if problem := problem_of(reply, call.request.max_output_tokens) or _cut_off(reply):
        call.record_failure(problem.kind, problem.message, charge, text)
        raise problem
    work.journal.record(call.record({"text": text}, charge), also=lambda connection: keep(connection, text))
    return text


def _cut_off(reply: Reply) -> ModelError | None:
    """Return the error for a text that is not whole: it is kept for good, so half of it is none."""
    is_whole = reply.stop_reason not in {"max_tokens", "window"}
    return None if is_whole else ModelError("truncated", "The text was cut at the limit of output tokens.")


@dataclass
class _ModelCall:
    """A call under way, and what the journal is told of it."""

    work: Work
    served: Served
    request: Request
    seq: int
    model: str
    """as the agent names it"""
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    name: str | None = None
    """of the step, if it is no decision: its words are not passed on"""
    attempt: int | None = None
    """which of the step's calls this is, if its words were passed on while they were said"""
    said: list[str] = field(default_factory=list)
    """what was passed on so far"""

    def charge(self, tokens: Tokens) -> Charge:
        """The charge for these tokens."""
        return Charge(
            provider=self.served.name,
            model=self.served.model,
            tokens=tokens,
            cost=self.served.cost(tokens),
            is_rehearsal=self.work.workplace.models.is_rehearsed(self.served.place),
        )

    def record(self, output: dict[str, Any], charge: Charge | None, **more: Any) -> StepRecord:
        """The step's record."""
        given = {"model": self.model, "provider": self.served.name, "messages": len(self.request.messages)}
        marks = {"is_estimated": charge.tokens.is_estimated, "is_unpriced": charge.cost.is_unpriced} if charge else {}
        given |= {name: True for name, is_so in marks.items() if is_so}
        if parts := parts_of(self.request):
            given["attachments"] = [{"id": str(part.id), "sha256": part.sha256} for part in parts]
        if self.attempt is not None:
            given["attempt"] = self.attempt
        stage, name = ("perceive", self.name) if self.name else ("decide", self.model)
        return make_record(self.seq, stage, name, self.stopwatch, output=output, given=given, charge=charge, **more)

    def record_failure(self, kind: str, message: str, charge: Charge | None, text: str = "") -> None:
        """Write a failed try into the journal, with what was said of the answer."""
        text = text or "".join(self.said)
        output = {"error": {"kind": kind, "message": message}} | ({"text": text} if text else {})
        self.work.journal.record(self.record(output, charge, status="failed"))


def _prepare(work: Work, model: str, request: Request, seq: int, share: float) -> _ModelCall:
    """Fit the request into the model's window and reserve what the call may cost."""
    stopwatch = Stopwatch()
    served = serving(work, model)
    with work.journal.lazy_transaction() as connect:
        served.ensure_priced()  # before it costs anything
        asked = request.model_copy(update={"model": served.name_there, "timeout": work.time_for_a_call()})
        prepared = fit(readable(asked, served.media()), served.window(), share=share)
        work.ensure_paid(connect, "internal_llm_call", dollars=lambda: _at_most(served, prepared))
    return _ModelCall(work, served, prepared, seq, model, stopwatch)


def _at_most(served: Served, request: Request) -> Decimal:
    """The most a call can be billed, in dollars: a token is at least one byte, a reply at most as long as asked, and
    images and PDF as many tokens as they may count.
    """
    size = len(request.model_dump_json(exclude={"timeout"}).encode()) + sum(map(media_tokens, request.messages))
    return served.cost(Tokens(input=size, output=request.max_output_tokens)).billed


def _reply(call: _ModelCall) -> Reply:
    """The model's reply. A failure is recorded."""
    work = call.work
    try:
        return _when_it_may(call)
    except Stopped:
        if call.said:
            call.record_failure("stopped", "It was stopped while the model spoke.", None)
        raise
    except ModelError as error:
        if error.tokens is None and not call.said:  # otherwise it is billed first, or what was said is kept
            work.interrupt.check()  # a stop may be what ended the call
        call.record_failure(error.kind, error.message, call.charge(error.tokens) if error.tokens else None)
        work.interrupt.check()
        raise


def _when_it_may(call: _ModelCall) -> Reply:
    """Wait for the provider's turn, and call it.

    Raises:
        ModelError: there is no reply.
        CoolingDown: the provider may not be called soon.
    """
    work, served, request = call.work, call.served, call.request
    route = Route(served.label, served.model, work.workplace.models.account_key(served.place))
    with work.workplace.gates.passing(route, work.interrupt, request.timeout) as passage:
        reply = _converse(call)
        passage.tokens = reply.tokens.input + reply.tokens.output
    return reply


def _converse(call: _ModelCall) -> Reply:
    work, served = call.work, call.served
    models, request = work.workplace.models, loaded(work.task.org_id, call.request)
    try:
        with work.interrupt.attached(request.timeout), work.doing(served.model, request.timeout):
            speech = None if call.name else work.sink.begin(work.task, call.seq, work.journal.last_decision())
            if speech is None:
                return models.complete(served.place, request)
            call.attempt = speech.attempt
            return _listen(call, speech, request)
    except Misconfigured as error:
        raise ModelError("model_unavailable", error.message) from error


def _listen(call: _ModelCall, speech: Speech, request: Request) -> Reply:
    """Call the model, and pass its words on while it says them."""
    try:
        for part in call.work.workplace.models.stream(call.served.place, request):
            call.work.interrupt.check()
            if not isinstance(part, TextDelta):
                return part
            call.said.append(storable(part.text))
            speech.say(call.said[-1])
    finally:
        speech.end()
    raise ModelError("incomplete", f"{call.served.name}'s answer broke off before its end.")


def _record(work: Work, decision: Decision, record: StepRecord, *, at_once: bool) -> None:
    """Write the decision, or defer it where the step that follows comes at once: an answer, or one look at our own
    records.
    """
    if not at_once and (decision.answers or _only_looks_up(decision)):
        failpoint("before-step")
        work.journal.defer(record)
    else:
        work.journal.record(record)


def _only_looks_up(decision: Decision) -> bool:
    """Whether its only action is one look at our own records."""
    calls = decision.message.tool_calls
    tool = TOOLS.get(calls[0].name) if len(calls) == 1 else None
    return tool is not None and tool.only_reads


class _ReplyCache:
    """The cache of replies, for agents that ask for one: a request that was answered before is not sent again."""

    def __init__(self, call: _ModelCall) -> None:
        self._org = call.work.task.org_id
        self._ttl = call.work.agent.limits.reply_cache
        asked = call.served.name + call.request.model_dump_json(exclude={"timeout"})
        self._digest = hashlib.sha256(asked.encode()).digest() if self.is_used else b""

    @property
    def is_used(self) -> bool:
        """Whether the agent has its replies cached."""
        return self._ttl > timedelta(0)

    def answer(self, ask_model: Callable[[], Reply]) -> tuple[Reply, bool]:
        """A reply, and whether it came from the cache."""
        if self.is_used:
            with transaction(self._org) as connection:
                kept = replies.find(connection, self._digest)
            if kept:
                return Reply.model_validate(kept), True
        return ask_model(), False

    def keep(self, reply: Reply) -> None:
        """Keep a reply, if the agent has its replies cached."""
        if self.is_used:
            with transaction(self._org) as connection:
                kept = KeptReply(digest=self._digest, reply=reply.model_dump(mode="json"), ttl=self._ttl)
                replies.keep(connection, self._org, kept)
