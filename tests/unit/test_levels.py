"""Levels: every mode and level, the rules, and what holds whatever the rules say."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.levels import BY_RISK, EFFECTS, READING, UNTRUSTED, ProposedCall, raised, rule_on
from domain.approvals.schemas import DEFAULT_POLICY, LEVELS, Ask, Conditions, Policy, Rule

ASKS = [Ask(roles=["owner"])]
PLAIN = Policy(rules=[], asks=ASKS)


def call(**facts: Any) -> ProposedCall:
    given: dict[str, Any] = {
        "tool": "send_email", "category": "messaging", "risk": "high", "changes_world": True, "agent": "a",
        "mode": "semi-auto",
    }  # fmt: skip
    return ProposedCall(**given | facts)


def policy(*rules: Rule) -> Policy:
    return Policy(rules=list(rules), asks=ASKS)


@pytest.mark.parametrize(
    ("level", "manual", "semi_auto", "auto"),
    [
        ("automatic", "ask_approval", "run", "run"),
        ("suggestion", "suggest", "suggest", "run"),
        ("consultation", "ask_approval", "ask_advice", "run_and_tell"),
        ("approval", "ask_approval", "ask_approval", "ask_approval"),
    ],
)
def test_what_a_level_means_in_each_mode(level: Any, manual: str, semi_auto: str, auto: str) -> None:
    found = [
        rule_on(call(mode=mode), policy(Rule(name="x", then="set", level=level))).effect
        for mode in ("manual", "semi-auto", "auto")
    ]
    assert found == [manual, semi_auto, auto]


@pytest.mark.parametrize(("risk", "level"), list(BY_RISK.items()))
def test_without_rules_the_tools_risk_decides(risk: Any, level: str) -> None:
    ruling = rule_on(call(risk=risk), PLAIN)
    assert (ruling.level, ruling.rule) == (level, f"{risk} risk")


R = Rule
C = Conditions
TABLE: list[tuple[str, list[Rule], dict[str, Any], str, str]] = [
    (
        "the first that holds sets",
        [R(name="a", then="set", level="automatic"), R(name="b", then="set", level="approval")],
        {},
        "automatic",
        "a",
    ),
    (
        "one for another tool does not",
        [R(name="a", when=C(tools=["book_*"]), then="set", level="automatic")],
        {},
        "consultation",
        "high risk",
    ),
    ("a pattern fits", [R(name="a", when=C(tools=["send_*"]), then="set", level="automatic")], {}, "automatic", "a"),
    (
        "agents and modes",
        [R(name="a", when=C(agents=["a"], modes=["auto"]), then="set", level="automatic")],
        {},
        "consultation",
        "high risk",
    ),
    ("at least lifts", [R(name="a", then="at_least", level="approval")], {}, "approval", "a"),
    ("at least never lowers", [R(name="a", then="at_least", level="automatic")], {}, "consultation", "high risk"),
    ("raise lifts by one", [R(name="a", then="raise")], {"risk": "low"}, "suggestion", "a"),
    ("unsure", DEFAULT_POLICY.rules, {"risk": "low", "confidence": 0.4}, "suggestion", "the agent is unsure"),
    ("sure", DEFAULT_POLICY.rules, {"risk": "low", "confidence": 0.5}, "automatic", "low risk"),
    (
        "much at stake",
        DEFAULT_POLICY.rules,
        {"risk": "low", "amount": Decimal("200.01")},
        "approval",
        "much is at stake",
    ),
    ("not so much", DEFAULT_POLICY.rules, {"risk": "low", "amount": Decimal(200)}, "automatic", "low risk"),
    (
        "small amounts",
        [R(name="a", when=C(amount_up_to=Decimal(20)), then="set", level="automatic")],
        {"risk": "critical", "amount": Decimal(20)},
        "automatic",
        "a",
    ),
    ("read strangers' words", [], {"sends_outside": True, "read_untrusted": True}, "approval", UNTRUSTED),
    ("read them, but stays inside", [], {"read_untrusted": True}, "consultation", "high risk"),
    (
        "to the contact, no rule",
        [],
        {"sends_outside": True, "read_untrusted": True, "to_contact": True},
        "approval",
        UNTRUSTED,
    ),
    (
        "to the contact, with one",
        [R(name="a", then="allow_contact")],
        {"sends_outside": True, "read_untrusted": True, "to_contact": True},
        "consultation",
        "high risk",
    ),
    (
        "a rule for the contact, to others",
        [R(name="a", then="allow_contact")],
        {"sends_outside": True, "read_untrusted": True},
        "approval",
        UNTRUSTED,
    ),
    (
        "money by a stranger's words",
        [R(name="a", then="set", level="automatic")],
        {"moves_money": True, "read_untrusted": True},
        "suggestion",
        UNTRUSTED,
    ),
    ("reading", [R(name="a", then="set", level="approval")], {"changes_world": False}, "automatic", READING),
]


@pytest.mark.parametrize(("rules", "facts", "level", "rule"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_rules(rules: list[Rule], facts: dict[str, Any], level: str, rule: str) -> None:
    ruling = rule_on(call(**facts), policy(*rules))
    assert (ruling.level, ruling.rule) == (level, rule)
    assert rule in " ".join(ruling.because)


def test_who_is_asked_is_said_by_the_rule_that_decided() -> None:
    own = [Ask(users=["boss@example.com"], needed=1)]
    ruling = rule_on(call(), policy(Rule(name="a", then="at_least", level="approval", ask=own)))
    assert list(ruling.asks) == own
    assert list(rule_on(call(), PLAIN).asks) == ASKS


def test_a_rule_says_whom_to_ask_also_where_the_level_was_as_high_before() -> None:
    two = [Ask(roles=["manager"], needed=2)]
    rule = Rule(name="two of us", when=Conditions(amount_over=Decimal(500)), then="at_least", level="approval", ask=two)
    dear, cheap = (rule_on(call(risk="critical", amount=Decimal(amount)), policy(rule)) for amount in (501, 500))
    assert (dear.level, dear.rule, list(dear.asks)) == ("approval", "two of us", two)
    assert (cheap.level, cheap.rule, list(cheap.asks)) == ("approval", "critical risk", ASKS)


conditions = st.builds(
    Conditions,
    tools=st.none() | st.just(["send_*"]) | st.just(["book_class"]),
    modes=st.none() | st.just(["auto"]),
    amount_over=st.none() | st.integers(0, 300).map(Decimal),
    confidence_below=st.none() | st.floats(0, 1),
    sends_outside=st.none() | st.booleans(),
    read_untrusted=st.none() | st.booleans(),
    to_contact=st.none() | st.booleans(),
)
then = st.sampled_from(["set", "at_least", "raise", "allow_contact"])
rules = st.lists(st.tuples(then, st.sampled_from(LEVELS), conditions), max_size=6).map(
    lambda rows: [
        Rule(name=str(number), then=verb, when=when, level=level if verb in {"set", "at_least"} else None)
        for number, (verb, level, when) in enumerate(rows)
    ]
)
calls = st.builds(
    call,
    risk=st.sampled_from(["low", "moderate", "high", "critical"]),
    mode=st.sampled_from(["manual", "semi-auto", "auto"]),
    confidence=st.none() | st.floats(0, 1),
    amount=st.integers(0, 400).map(Decimal),
    sends_outside=st.booleans(),
    moves_money=st.booleans(),
    to_contact=st.booleans(),
)


@given(rules, calls)
def test_whatever_the_rules_strangers_words_never_make_an_action_easier(
    rules: list[Rule], proposed: ProposedCall
) -> None:
    blind = [rule for rule in rules if rule.when.read_untrusted is None]
    clean = rule_on(proposed, policy(*blind))
    tainted = rule_on(ProposedCall(**vars(proposed) | {"read_untrusted": True}), policy(*blind))
    assert LEVELS.index(tainted.level) >= LEVELS.index(clean.level)
    spared = proposed.to_contact and any(rule.then == "allow_contact" for rule in blind)
    if (proposed.sends_outside or proposed.moves_money) and not spared:
        assert tainted.level == raised(clean.level)


@given(rules, calls)
def test_a_ruling_says_what_decided_and_fits_the_table(rules: list[Rule], proposed: ProposedCall) -> None:
    ruling = rule_on(proposed, policy(*rules))
    assert ruling.effect == EFFECTS[ruling.level][proposed.mode]
    assert any(line.startswith(ruling.rule) for line in ruling.because)
    reading = rule_on(ProposedCall(**vars(proposed) | {"changes_world": False}), policy(*rules))
    assert (reading.level, reading.effect) == ("automatic", "run")


@given(rules, calls)
def test_lifting_rules_never_lower(rules: list[Rule], proposed: ProposedCall) -> None:
    without = rule_on(proposed, policy(*[rule for rule in rules if rule.then == "set"]))
    assert LEVELS.index(rule_on(proposed, policy(*rules)).level) >= LEVELS.index(without.level) or any(
        rule.then == "allow_contact" for rule in rules
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "x", "then": "set"}, "need a level"),
        ({"name": "x", "then": "raise", "level": "approval"}, "need a level"),
        ({"name": "x", "then": "set", "level": "approval", "ask": [{"roles": ["a"], "then": "escalate"}]}, "nobody"),
        ({"name": "x", "then": "set", "level": "approval", "ask": [{}]}, "nobody to ask"),
    ],
)
def test_rules_that_could_not_work_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule.model_validate(fields)
