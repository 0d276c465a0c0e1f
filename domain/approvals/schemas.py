"""Policies and their rules, approvals, votes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.numbers import PlainDecimal
from core.text import Storable
from domain.agents.schemas import Mode

Level = Literal["automatic", "suggestion", "consultation", "approval"]
LEVELS: tuple[Level, ...] = ("automatic", "suggestion", "consultation", "approval")
Kind = Literal["approval", "advice", "suggestion"]
ApprovalStatus = Literal["open", "approved", "rejected", "denied", "expired", "withdrawn"]
Verdict = Literal["approve", "reject"]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000), Storable]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=120), Storable]
_Names = Annotated[list[_Name], Field(min_length=1, max_length=100)]


class Conditions(BaseModel):
    """The conditions of a rule. It applies to actions that meet every condition given."""

    model_config = ConfigDict(extra="forbid")

    tools: _Names | None = Field(default=None, description="names, or patterns such as send_*")
    categories: _Names | None = None
    agents: _Names | None = None
    modes: list[Mode] | None = Field(default=None, min_length=1)
    amount_over: PlainDecimal | None = Field(
        default=None,
        ge=0,
        description="more than this is at stake, counting what the task, or any task towards this contact within 24 "
        "hours, has moved without a person; an unknown amount counts as more",
    )
    amount_up_to: PlainDecimal | None = Field(
        default=None, ge=0, description="no more than this is at stake; an unknown amount is more"
    )
    confidence_below: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="the agent is less sure; one that says nothing counts as sure, one that says something else than a "
        "number from 0 to 1 as unsure",
    )
    sends_outside: bool | None = Field(default=None, description="it sends words to people outside")
    moves_money: bool | None = None
    read_untrusted: bool | None = Field(default=None, description="decided after reading what strangers wrote")
    to_contact: bool | None = Field(
        default=None, description="it goes to the contact that the task is about, and to no other"
    )


class Ask(BaseModel):
    """One stage of an approval: whom to ask, how many must approve, for how long, and what happens after that time."""

    model_config = ConfigDict(extra="forbid")

    roles: list[_Name] = Field(default=[], max_length=20, description="any user with one of these roles, there")
    users: list[_Name] = Field(default=[], max_length=50, description="these users, by e-mail")
    needed: int = Field(default=1, ge=1, le=20, description="people who must approve the same arguments")
    within: timedelta = Field(
        default=timedelta(hours=24), gt=timedelta(0), le=timedelta(days=90),
        description="seconds, or ISO 8601 such as PT24H",
    )  # fmt: skip
    four_eyes: bool = Field(
        default=False, description="the person whom the task is for does not decide: their own yes does not count"
    )
    then: Literal["escalate", "deny", "expire"] = Field(
        default="deny", description="escalate: the next stage is asked. deny, expire: the action is not done"
    )

    @model_validator(mode="after")
    def _asks_somebody(self) -> Self:
        if not self.roles and not self.users:
            raise ValueError("names no one to ask: give roles, users or both")
        return self


Asks = Annotated[list[Ask], Field(min_length=1, max_length=10)]


def _ends(asks: list[Ask]) -> list[Ask]:
    if asks[-1].then == "escalate":
        raise ValueError("the last stage has no next stage to escalate to: let it deny or expire")
    return asks


_Times = Annotated[int | None, Field(ge=0, le=1_000_000)]
_Amount = Annotated[PlainDecimal | None, Field(ge=0)]


class Caps(BaseModel):
    """How much may be done without a person in total: by one task and everything it started, towards one contact, and
    by the whole organisation. The last two count within 24 hours. Null means no cap.
    """

    model_config = ConfigDict(extra="forbid")

    per_task: _Times = Field(default=None, description="actions")
    per_contact: _Times = Field(default=None, description="actions, in 24 hours")
    per_day: _Times = Field(default=None, description="actions, in 24 hours")
    amount_per_task: _Amount = Field(default=None, description="money, in the organisation's currency")
    amount_per_contact: _Amount = Field(default=None, description="money, in 24 hours")
    amount_per_day: _Amount = Field(default=None, description="money, in 24 hours")


_DAYS_WORTH = 10
CONTACT_CAPS = Caps(per_task=3, per_contact=3, per_day=100)
"""the caps of an `allow_contact` rule that gives none"""


class Rule(BaseModel):
    """A rule for the level of an action.

    `set` gives the level: the first such rule that applies decides. Afterwards every `at_least` and `raise` rule that
    applies lifts it. `allow_contact` lets messages to the task's own contact keep their level after untrusted content
    was read; a `set` rule with `even_after_untrusted` does so for the actions that it applies to.
    """

    model_config = ConfigDict(extra="forbid")

    name: _Name
    when: Conditions = Conditions()
    then: Literal["set", "at_least", "raise", "allow_contact"]
    level: Level | None = Field(default=None, description="for set and at_least")
    even_after_untrusted: bool = Field(
        default=False,
        description="for set: it holds although the agent has read what strangers wrote. It must name tools, an amount "
        "or the contact, and caps for a task, a contact and a day",
    )
    caps: Caps | None = Field(
        default=None,
        description="for set and allow_contact: once it let so much pass, it holds no more. Without it a rule with "
        "amount_up_to lets that amount pass for each task and contact, and ten times as much a day",
    )
    ask: Asks | None = Field(default=None, description="who is asked where this rule decided; default: the policy's")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.then in {"set", "at_least"}) != (self.level is not None):
            raise ValueError("set and at_least need a level; raise and allow_contact have none")
        if self.caps and self.then not in {"set", "allow_contact"}:
            raise ValueError("only set and allow_contact have caps: the others let nothing pass")
        if self.even_after_untrusted:
            self._ensure_narrow()
        if self.ask:
            _ends(self.ask)
        return self

    def _ensure_narrow(self) -> None:
        if self.then != "set":
            raise ValueError("even_after_untrusted goes with set")
        named = [tool for tool in self.when.tools or [] if set(tool) - {"*", "?"}]
        if not (named or self.when.to_contact or self.when.amount_up_to is not None):
            raise ValueError(
                "even_after_untrusted needs tools (not just *), to_contact: true or amount_up_to in `when`"
            )
        caps = self.caps or Caps()
        if None in {caps.per_task, caps.per_contact, caps.per_day}:
            raise ValueError("even_after_untrusted needs caps: per_task, per_contact and per_day")

    @property
    def limits(self) -> Caps:
        """The caps in force: those given, and for the rest those that follow from the rule."""
        given = self.caps or (CONTACT_CAPS if self.then == "allow_contact" else Caps())
        amount = self.when.amount_up_to
        if amount is None or self.then != "set":
            return given
        implied = {"amount_per_task": amount, "amount_per_contact": amount, "amount_per_day": _DAYS_WORTH * amount}
        return Caps(**implied | given.model_dump(exclude_none=True))


class Policy(BaseModel):
    """The rules of an organisation, in order, and whom to ask if a rule does not say."""

    model_config = ConfigDict(extra="forbid")

    rules: list[Rule] = Field(max_length=200)
    asks: Asks
    caps: Caps = Field(
        default=Caps(per_task=50, per_contact=10),
        description="how much words to others and payments may be done without a person, whatever rule lets them pass",
    )

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Self:
        _ends(self.asks)
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("two rules have the same name; a decision could not say which decided")
        return self


DEFAULT_POLICY = Policy(
    rules=[
        Rule(name="the agent is unsure", when=Conditions(confidence_below=0.5), then="raise"),
        Rule(name="much is at stake", when=Conditions(amount_over=Decimal(200)), then="at_least", level="approval"),
        Rule(
            name="our own people may be told",
            when=Conditions(tools=["escalate_issue", "notify_coordinators"]),
            then="set",
            level="automatic",
            even_after_untrusted=True,
            caps=Caps(per_task=3, per_contact=5, per_day=500),
        ),
    ],
    asks=[
        Ask(roles=["coordinator", "manager", "owner"], within=timedelta(hours=24), then="escalate"),
        Ask(roles=["manager", "owner"], within=timedelta(hours=24), then="deny"),
    ],
)


@dataclass(frozen=True)
class Count:
    """Actions done without a person, and the money they moved."""

    times: int = 0
    amount: Decimal = Decimal(0)


@dataclass(frozen=True)
class CountedStep:
    """The step of a task in which an action is proposed, and the contacts that the action concerns."""

    task_id: UUID
    seq: int
    root_id: UUID
    contacts: tuple[str, ...] = ()
    """ids and addresses, in lower case"""


@dataclass(frozen=True)
class Done:
    """What was done without a person: by all tasks under the same root, and within 24 hours towards the contacts of the
    call and in the whole organisation.
    """

    task: Count = Count()
    contact: Count = Count()
    day: Count = Count()


@dataclass(frozen=True)
class Tally:
    """What was done without a person, in total and by the rule that let it pass."""

    in_all: Done = Done()
    by_rule: Mapping[str, Done] = field(default_factory=dict)

    def of(self, rule: Rule) -> Done:
        """Return what this rule let pass."""
        return self.by_rule.get(rule.name, Done())


class Performance(BaseModel):
    """What became of an agent's calls of a tool in the last 30 days."""

    done: int
    refused: int = Field(description="by the tool or for want of permission")
    approved: int
    rejected: int = Field(description="by people, or for want of their decision")


class Rationale(BaseModel):
    """Why an action was proposed and why people are asked: what an approver needs to decide."""

    level: Level
    rule: str = Field(description="the rule that decided")
    because: list[str] = Field(description="how the level came to be, step by step")
    intent: str | None
    why: str | None = Field(description="the agent's own reason")
    reasoning: str
    confidence: float | None
    alternatives: list[str]
    context: dict[str, Any]
    performance: Performance


class Proposal(BaseModel):
    """An action that needs a decision by people."""

    task_id: UUID
    seq: int
    kind: Kind
    agent: str
    user_id: UUID
    location_id: UUID | None
    tool: str
    arguments: dict[str, Any]
    decision: Rationale
    asks: list[Ask]


class Vote(BaseModel):
    """One user's vote."""

    user: str
    verdict: Verdict
    words: str | None
    voted_at: datetime
    counts: bool = Field(description="false: said of arguments that were edited, or before others were asked")


class Edit(BaseModel):
    """An earlier version of an action's arguments, and the user who replaced it by an edit."""

    digest: str
    arguments: dict[str, Any]
    edited_by: str
    edited_at: datetime


class Approval(BaseModel):
    """An action that people decide on: exactly this tool with exactly these arguments, once."""

    id: UUID
    task_id: UUID
    seq: int
    kind: Kind
    status: ApprovalStatus
    agent: str
    user_id: UUID = Field(description="for whom the agent works")
    location_id: UUID | None
    tool: str
    arguments: dict[str, Any]
    proposed: dict[str, Any] = Field(description="the arguments before anybody edited them")
    digest: str = Field(description="SHA-256 of tool and arguments: what an approval is bound to")
    decision: Rationale
    asks: list[Ask]
    stage: int
    needed: int
    expires_at: datetime
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None = Field(description="e-mail of who decided")
    reason: str | None
    used_at: datetime | None = Field(description="when the action was carried out, or begun")
    used_by_task: UUID | None
    used_by_seq: int | None
    is_overdue: bool = Field(description="its time has passed, and the duty that ends it has not run yet")
    edits: list[Edit] = Field(description="the versions before the present one")
    linked_task: UUID | None = Field(description="the task that carries out an accepted suggestion")
    votes: list[Vote]


@dataclass(frozen=True, slots=True)
class WithdrawnApproval:
    """An approval that was withdrawn because its task has ended."""

    id: UUID
    org_id: UUID
    task_id: UUID
    seq: int
    kind: Kind
    agent: str
    tool: str


class ApprovalPage(BaseModel):
    """Approvals, newest first, and where the next page begins."""

    approvals: list[Approval]
    next_before: UUID | None


Digest = Annotated[
    str | None,
    Field(
        max_length=128,
        description="the `digest` of the action as you saw it, here or as If-Match: a vote counts for what was seen",
    ),
]


class Yes(BaseModel):
    """A vote to approve, optionally with edited arguments."""

    model_config = ConfigDict(extra="forbid")

    digest: Digest = None
    arguments: Annotated[dict[str, Any], Storable] | None = Field(
        default=None, description="all of the action's arguments, edited; checked as if the agent had proposed them"
    )
    words: Words | None = Field(default=None, description="advice that the agent hears")


class No(BaseModel):
    """A vote to reject. The agent is told the reason."""

    model_config = ConfigDict(extra="forbid")

    digest: Digest = None
    reason: Words
