"""Which level an action has, and what that means in an agent's mode. Pure: a proposal and rules in, a ruling out."""

from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

from agents.tools.registry import Risk
from domain.agents.schemas import Mode
from domain.approvals.schemas import LEVELS, Ask, Conditions, Level, Policy, Rule

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
    amount: Decimal = Decimal(0)
    sends_outside: bool = False
    moves_money: bool = False
    read_untrusted: bool = False
    to_contact: bool = False


@dataclass(frozen=True)
class Ruling:
    """The level of an action, what is to be done with it, and how that came to be."""

    level: Level
    effect: Effect
    rule: str
    because: tuple[str, ...]
    asks: tuple[Ask, ...]


def rule_on(call: ProposedCall, policy: Policy) -> Ruling:
    """The ruling on a proposed call.

    The first `set` rule that holds gives the level, else the tool's risk. Then every `raise` and `at_least` that holds
    lifts it. What moves money or leaves the house, proposed after reading untrusted words, is lifted once more, unless
    it goes to the task's own contact and a rule allows that. No rule makes reading anything but automatic, and none
    lowers what another has lifted.
    """
    if not call.changes_world:
        return Ruling("automatic", "run", READING, (READING,), tuple(policy.asks))
    deciding = next((rule for rule in policy.rules if rule.then == "set" and holds(rule.when, call)), None)
    level: Level = deciding.level if deciding and deciding.level else BY_RISK[call.risk]
    name = deciding.name if deciding else f"{call.risk} risk"
    because = [f"{name}: {level}"]
    asks = deciding.ask if deciding and deciding.ask else policy.asks
    for rule in policy.rules:
        if rule.then not in {"raise", "at_least"} or not holds(rule.when, call):
            continue
        lifted = _lift(level, rule)
        if lifted != level:
            level, name, asks = lifted, rule.name, rule.ask or asks
            because.append(f"{rule.name}: raised to {level}")
        elif rule.ask and rule.level == level:
            name, asks = rule.name, rule.ask  # as high already: but it says whom to ask
            because.append(f"{rule.name}: {level}, by whom it names")
    if call.read_untrusted and (call.sends_outside or call.moves_money):
        spared = _rule_for_contacts(call, policy)
        if spared:
            because.append(f"{spared.name}: not raised, though it was {UNTRUSTED}")
        elif level != "approval":
            level, name = raised(level), UNTRUSTED
            because.append(f"{UNTRUSTED}: raised to {level}")
    effect = EFFECTS[level][call.mode]
    because.append(f"{level} in mode {call.mode}: {effect.replace('_', ' ')}")
    return Ruling(level, effect, name, tuple(because), tuple(asks))


def raised(level: Level) -> Level:
    """The next higher level; the highest stays."""
    return LEVELS[min(LEVELS.index(level) + 1, len(LEVELS) - 1)]


def _lift(level: Level, rule: Rule) -> Level:
    if rule.then == "raise":
        return raised(level)
    return max(level, rule.level or level, key=LEVELS.index)


def _rule_for_contacts(call: ProposedCall, policy: Policy) -> Rule | None:
    if not call.to_contact:
        return None
    return next((rule for rule in policy.rules if rule.then == "allow_contact" and holds(rule.when, call)), None)


def holds(when: Conditions, call: ProposedCall) -> bool:
    """Whether everything that the conditions name is so."""
    tests = (
        when.tools is None or any(fnmatchcase(call.tool, pattern) for pattern in when.tools),
        when.categories is None or call.category in when.categories,
        when.agents is None or call.agent in when.agents,
        when.modes is None or call.mode in when.modes,
        when.amount_over is None or call.amount > when.amount_over,
        when.amount_up_to is None or call.amount <= when.amount_up_to,
        when.confidence_below is None or (call.confidence is not None and call.confidence < when.confidence_below),
        when.sends_outside is None or call.sends_outside == when.sends_outside,
        when.moves_money is None or call.moves_money == when.moves_money,
        when.read_untrusted is None or call.read_untrusted == when.read_untrusted,
        when.to_contact is None or call.to_contact == when.to_contact,
    )
    return all(tests)
