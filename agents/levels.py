"""Which level an action has, and what that means in an agent's mode. Pure: a proposal and rules in, a ruling out."""

import itertools
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

from agents.tools.registry import Risk
from domain.agents.schemas import Mode
from domain.approvals.schemas import (
    LEVELS,
    Ask,
    Caps,
    Conditions,
    Count,
    Done,
    Level,
    Policy,
    Rule,
    Tally,
)

Effect = Literal["run", "run_and_tell", "suggest", "ask_advice", "ask_approval"]

BY_RISK: dict[Risk, Level] = {
    "low": "automatic", "moderate": "suggestion", "high": "consultation", "critical": "approval",
}  # fmt: skip

EFFECTS: dict[Level, dict[Mode, Effect]] = {
    "automatic": {"manual": "ask_approval", "semi-auto": "run", "auto": "run"},
    "suggestion": {"manual": "suggest", "semi-auto": "suggest", "auto": "run"},
    "consultation": {"manual": "ask_approval", "semi-auto": "ask_advice", "auto": "run_and_tell"},
    "approval": {"manual": "ask_approval", "semi-auto": "ask_approval", "auto": "ask_approval"},
}

READING = "reading is always automatic"
UNTRUSTED = "decided after reading what strangers wrote"
REQUESTED = "the request itself asked for it"
CAPPED = "as much as may be done without a person"
ASKS = "asking a person is all it does"


NOTHING_DONE = Tally()


@dataclass(frozen=True)
class ProposedCall:
    """What the level of an action depends on."""

    tool: str
    category: str
    risk: Risk
    changes_world: bool
    agent: str
    mode: Mode
    confidence: float | None = None
    amount: Decimal | None = Decimal(0)
    """None if the amount is unknown"""
    sends_outside: bool = False
    moves_money: bool = False
    always_asks: bool = False
    read_untrusted: bool = False
    is_requested: bool = False
    """whether the trusted request asked for this effect, these people and this amount (`agents/provenance.py`)"""
    to_contact: bool = False

    @property
    def acts(self) -> bool:
        """Whether it does more than read."""
        return self.changes_world or self.sends_outside or self.moves_money

    @property
    def reaches_out(self) -> bool:
        """Whether it sends words to others or moves money, which is always counted."""
        return self.sends_outside or self.moves_money or self.amount != 0

    @property
    def is_tainted(self) -> bool:
        """Whether it may be a stranger's decision."""
        return self.read_untrusted and not self.is_requested


@dataclass(frozen=True)
class Ruling:
    """The level of an action, what is to be done with it, and how that came to be."""

    level: Level
    effect: Effect
    rule: str
    because: tuple[str, ...]
    asks: tuple[Ask, ...]
    is_counted: bool = False
    """whether it counts towards caps when it runs"""

    @property
    def runs(self) -> bool:
        """Whether it is done without asking a person."""
        return self.effect in {"run", "run_and_tell"}


@dataclass
class _Finding:
    """A ruling in the making: the level so far, which rule gave it, and whom that rule asks."""

    level: Level
    rule: str
    asks: list[Ask]
    because: list[str]

    def lift(self, level: Level, rule: str, asks: list[Ask] | None = None) -> None:
        """Raise the level to another."""
        self.level, self.rule, self.asks = level, rule, asks or self.asks
        self.because.append(f"{rule}: raised to {level}")


def rule_on(call: ProposedCall, policy: Policy, tally: Tally = NOTHING_DONE) -> Ruling:
    """The ruling on a proposed call.

    The first `set` rule that holds gives the level, else the tool's risk. Then every `raise` and `at_least` that holds
    lifts it. An action decided after reading untrusted content needs approval, unless the trusted request asked for it,
    or a rule says that it holds even then. A rule whose caps are used up does not hold. No rule makes reading anything
    but automatic, and none lowers what another has lifted.
    """
    if not call.acts:
        return Ruling("automatic", "run", READING, (READING,), tuple(policy.asks))
    passed_over: list[str] = []
    setting = (rule for rule in policy.rules if _sets(rule, call, tally, passed_over))
    first = next(setting, None)
    deciding = next((rule for rule in itertools.chain(filter(None, [first]), setting) if _may_decide(rule, call)), None)
    found = _begin(call, policy, deciding, passed_over)
    if first and first.level and LEVELS.index(first.level) > LEVELS.index(found.level):
        # The rule that would decide without strangers' words: their words must not make an action easier.
        found.lift(first.level, first.name, first.ask)
    _apply_lifting_rules(found, call, policy, tally)
    passing = deciding
    if call.read_untrusted:
        spared, why = _spared(call, policy, tally, deciding)
        passing = spared or deciding
        if why:
            found.because.append(f"{why}: not raised, though it was {UNTRUSTED}")
        elif found.level != "approval":
            found.lift("approval", UNTRUSTED)
    if found.level != "approval" and (reason := _needs_a_person(call, policy, tally)):
        found.lift("approval", reason)
    effect = EFFECTS[found.level][call.mode]
    found.because.append(f"{found.level} in mode {call.mode}: {effect.replace('_', ' ')}")
    is_counted = call.reaches_out or (passing is not None and passing.limits != Caps())
    return Ruling(found.level, effect, found.rule, tuple(found.because), tuple(found.asks), is_counted=is_counted)


def _begin(call: ProposedCall, policy: Policy, deciding: Rule | None, passed_over: list[str]) -> _Finding:
    level: Level = deciding.level if deciding and deciding.level else BY_RISK[call.risk]
    name = deciding.name if deciding else f"{call.risk} risk"
    asks = deciding.ask if deciding and deciding.ask else policy.asks
    return _Finding(level, name, asks, [*passed_over, f"{name}: {level}"])


def _apply_lifting_rules(found: _Finding, call: ProposedCall, policy: Policy, tally: Tally) -> None:
    for rule in policy.rules:
        if rule.then not in {"raise", "at_least"} or not holds(rule.when, call, tally):
            continue
        lifted = _lift(found.level, rule)
        if lifted != found.level:
            found.lift(lifted, rule.name, rule.ask)
        elif rule.ask and rule.level == found.level:  # the level does not change, but this rule sets the approvers
            found.rule, found.asks = rule.name, rule.ask
            found.because.append(f"{rule.name}: {found.level}, by whom it names")


def may_be_counted(call: ProposedCall, policy: Policy) -> bool:
    """Whether the ruling on a call depends on what was done before: others need not be counted."""
    if not call.acts:
        return False
    return call.reaches_out or any(rule.limits != Caps() and holds(rule.when, call) for rule in policy.rules)


def _sets(rule: Rule, call: ProposedCall, tally: Tally, passed_over: list[str]) -> bool:
    """Whether a rule sets the level of the call. One whose caps are used up does not."""
    if rule.then != "set" or not holds(rule.when, call, tally):
        return False
    if cap := used_up(rule.limits, tally.of(rule), call):
        passed_over.append(f"{rule.name}: {cap} is used up")
        return False
    return True


def _may_decide(rule: Rule, call: ProposedCall) -> bool:
    """Whether a rule may decide although the call may be a stranger's decision: one that trusts the agent's may not."""
    return not call.is_tainted or rule.even_after_untrusted or rule.level == "approval"


def _spared(call: ProposedCall, policy: Policy, tally: Tally, deciding: Rule | None) -> tuple[Rule | None, str | None]:
    """What lets a call keep its level after untrusted content was read: a rule, or the request; and its name."""
    if call.is_requested:
        return None, REQUESTED
    if deciding is not None and deciding.even_after_untrusted:
        return deciding, deciding.name
    rule = _rule_for_contacts(call, policy, tally)
    return (rule, rule.name) if rule else (None, None)


def _needs_a_person(call: ProposedCall, policy: Policy, tally: Tally) -> str | None:
    """Why no rule lets a call pass without a person."""
    if call.always_asks:
        return ASKS
    return CAPPED if call.reaches_out and used_up(policy.caps, tally.in_all, call) else None


def used_up(caps: Caps, done: Done, call: ProposedCall) -> str | None:
    """The cap that one more call like this would pass; None where all have room."""
    return next(
        (
            f"the cap of {cap} {what}"
            for what, count, times, amount in (
                ("a task", done.task, caps.per_task, caps.amount_per_task),
                ("a contact", done.contact, caps.per_contact, caps.amount_per_contact),
                ("a day", done.day, caps.per_day, caps.amount_per_day),
            )
            for cap in (_passed(count, times, amount, call),)
            if cap
        ),
        None,
    )


def _passed(count: Count, times: int | None, amount: Decimal | None, call: ProposedCall) -> str | None:
    if times is not None and count.times >= times:
        return f"{times} actions"
    if amount is not None and (call.amount is None or count.amount + call.amount > amount):
        return f"{amount:f}"
    return None


_BY_STRICTNESS: tuple[Effect, ...] = ("run", "run_and_tell", "suggest", "ask_advice", "ask_approval")


def strictness(ruling: Ruling) -> tuple[int, int]:
    """For comparing rulings on one call: whether and how people are asked, then the level."""
    return _BY_STRICTNESS.index(ruling.effect), LEVELS.index(ruling.level)


def raised(level: Level) -> Level:
    """The next higher level; the highest stays."""
    return LEVELS[min(LEVELS.index(level) + 1, len(LEVELS) - 1)]


def _lift(level: Level, rule: Rule) -> Level:
    if rule.then == "raise":
        return raised(level)
    return max(level, rule.level or level, key=LEVELS.index)


def _rule_for_contacts(call: ProposedCall, policy: Policy, tally: Tally) -> Rule | None:
    if not call.to_contact:
        return None
    return next(
        (
            rule
            for rule in policy.rules
            if rule.then == "allow_contact"
            and holds(rule.when, call, tally)
            and not used_up(rule.limits, tally.of(rule), call)
        ),
        None,
    )


def holds(when: Conditions, call: ProposedCall, tally: Tally = NOTHING_DONE) -> bool:
    """Whether all that the conditions name is so."""
    tests = (
        when.tools is None or any(fnmatchcase(call.tool, pattern) for pattern in when.tools),
        when.categories is None or call.category in when.categories,
        when.agents is None or call.agent in when.agents,
        when.modes is None or call.mode in when.modes,
        when.amount_over is None or _is_over(when.amount_over, call, tally),
        when.amount_up_to is None or (call.amount is not None and call.amount <= when.amount_up_to),
        when.confidence_below is None or (call.confidence is not None and call.confidence < when.confidence_below),
        when.sends_outside is None or call.sends_outside == when.sends_outside,
        when.moves_money is None or call.moves_money == when.moves_money,
        when.read_untrusted is None or call.read_untrusted == when.read_untrusted,
        when.to_contact is None or call.to_contact == when.to_contact,
    )
    return all(tests)


def _is_over(limit: Decimal, call: ProposedCall, tally: Tally) -> bool:
    """Whether an amount, with what was moved before without a person, is more than the limit: cut into small parts, it
    is the same amount. A call that moves nothing is not over any limit.
    """
    if call.amount is None:
        return True
    before = max(tally.in_all.task.amount, tally.in_all.contact.amount)
    return call.amount > 0 and before + call.amount > limit
