"""Levels: every mode and level, the rules, and what holds whatever the rules say."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.levels import ASKS as ASKS_ONLY
from agents.levels import BY_RISK, CAPPED, EFFECTS, READING, UNTRUSTED, ProposedCall, rule_on
from domain.approvals.schemas import DEFAULT_POLICY, LEVELS, Ask, Caps, Conditions, Count, Done, Policy, Rule, Tally

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
    ("read them, and stays inside", [], {"risk": "low", "read_untrusted": True}, "approval", UNTRUSTED),
    ("asked for by the request", [], {"read_untrusted": True, "is_requested": True}, "consultation", "high risk"),
    (
        "a rule that trusts the agent, after strangers' words",
        [R(name="a", when=C(amount_up_to=Decimal(20)), then="set", level="automatic")],
        {"risk": "critical", "amount": Decimal(20), "read_untrusted": True},
        "approval",
        "critical risk",
    ),
    (
        "a rule that holds even then",
        [
            R(
                name="a",
                when=C(tools=["send_*"]),
                then="set",
                level="automatic",
                even_after_untrusted=True,
                caps=Caps(per_task=1, per_contact=1, per_day=9),
            ),
        ],
        {"read_untrusted": True},
        "automatic",
        "a",
    ),
    (
        "an amount that nobody knows",
        DEFAULT_POLICY.rules,
        {"risk": "low", "amount": None},
        "approval",
        "much is at stake",
    ),
    (
        "asking is all it does",
        [R(name="a", then="set", level="automatic")],
        {"always_asks": True},
        "approval",
        ASKS_ONLY,
    ),
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
        {"risk": "high", "moves_money": True, "read_untrusted": True},
        "approval",
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
    tainted = rule_on(ProposedCall(**vars(proposed) | {"read_untrusted": True}), policy(*rules))
    spared = proposed.to_contact and any(rule.then == "allow_contact" for rule in rules)
    if not spared:
        assert (tainted.level, tainted.effect) == ("approval", "ask_approval")
    else:
        blind = [rule for rule in rules if rule.when.read_untrusted is None]
        clean = rule_on(proposed, policy(*blind))
        tainted = rule_on(ProposedCall(**vars(proposed) | {"read_untrusted": True}), policy(*blind))
        assert LEVELS.index(tainted.level) >= LEVELS.index(clean.level)


@given(rules, calls)
def test_a_ruling_says_what_decided_and_fits_the_table(rules: list[Rule], proposed: ProposedCall) -> None:
    ruling = rule_on(proposed, policy(*rules))
    assert ruling.effect == EFFECTS[ruling.level][proposed.mode]
    assert any(line.startswith(ruling.rule) for line in ruling.because)
    harmless = {"changes_world": False, "sends_outside": False, "moves_money": False}
    reading = rule_on(ProposedCall(**vars(proposed) | harmless), policy(*rules))
    assert (reading.level, reading.effect) == ("automatic", "run")


CHARGE = {"tool": "charge_client", "risk": "critical", "moves_money": True, "mode": "auto"}
SMALL = Rule(name="small", when=Conditions(amount_up_to=Decimal(20)), then="set", level="automatic")
EVEN_THEN = Rule(
    name="even then",
    when=Conditions(tools=["charge_client"], amount_up_to=Decimal(20)),
    then="set",
    level="automatic",
    even_after_untrusted=True,
    caps=Caps(per_task=2, per_contact=3, per_day=5),
)


@dataclass
class Ledger:
    """What ran without a person: by rule, task and contact."""

    rows: list[tuple[str, int, int, Decimal]] = field(default_factory=list)

    def tally(self, task: int, contact: int) -> Tally:
        """As the database counts it, were all of it one day."""

        def done(rows: list[tuple[str, int, int, Decimal]]) -> Done:
            spans = ([r for r in rows if r[1] == task], [r for r in rows if r[2] == contact], rows)
            return Done(*(Count(len(span), sum((r[3] for r in span), start=Decimal(0))) for span in spans))

        names = {row[0] for row in self.rows}
        return Tally(done(self.rows), {name: done([r for r in self.rows if r[0] == name]) for name in names})


charges = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 40)), max_size=60)


@given(charges, st.booleans())
def test_small_amounts_do_not_add_up_to_a_large_one(made: list[tuple[int, int, int]], read: bool) -> None:
    """Whatever charges come in whatever order, what runs without a person stays under the caps."""
    ledger, rule = Ledger(), EVEN_THEN if read else SMALL
    for task, contact, amount in made:
        proposed = call(**CHARGE, amount=Decimal(amount), read_untrusted=read)
        ruling = rule_on(proposed, policy(rule), ledger.tally(task, contact))
        if ruling.runs:
            assert ruling.is_counted
            ledger.rows.append((ruling.rule, task, contact, Decimal(amount)))
    for span in (1, 2):
        for one in {row[span] for row in ledger.rows}:
            assert sum(row[3] for row in ledger.rows if row[span] == one) <= 20
    assert sum(row[3] for row in ledger.rows) <= 200
    if read:
        assert len(ledger.rows) <= 5
        assert all(sum(row[1] == task for row in ledger.rows) <= 2 for task in range(4))


def test_an_amount_in_parts_is_over_a_limit_as_a_whole() -> None:
    much = Rule(name="much", when=Conditions(amount_over=Decimal(200)), then="at_least", level="approval")
    proposed = call(risk="low", amount=Decimal(150), moves_money=True)
    before = Done(task=Count(1, Decimal(100)))
    assert rule_on(proposed, policy(much)).level == "automatic"
    assert rule_on(proposed, policy(much), Tally(in_all=before)).level == "approval"
    assert rule_on(proposed, policy(much), Tally(in_all=Done(contact=before.task))).level == "approval"


def test_the_policys_caps_hold_whatever_rule_lets_pass() -> None:
    capped = Policy(rules=[Rule(name="a", then="set", level="automatic")], asks=ASKS, caps=Caps(per_contact=2))
    proposed = call(sends_outside=True, mode="auto")
    for times, effect in ((1, "run"), (2, "ask_approval")):
        ruling = rule_on(proposed, capped, Tally(in_all=Done(contact=Count(times))))
        assert ruling.effect == effect
    assert ruling.rule == CAPPED


def test_a_call_that_sends_out_or_moves_money_is_no_reading() -> None:
    for facts in ({"sends_outside": True}, {"moves_money": True}):
        assert rule_on(call(changes_world=False, mode="manual", **facts), PLAIN).effect == "ask_approval"


@pytest.mark.parametrize(
    ("when", "caps", "said"),
    [
        (Conditions(), Caps(per_task=1, per_contact=1, per_day=1), "needs tools"),
        (Conditions(tools=["*"]), Caps(per_task=1, per_contact=1, per_day=1), "needs tools"),
        (Conditions(tools=["pay"]), None, "needs caps"),
        (Conditions(tools=["pay"]), Caps(per_task=1, per_day=1), "needs caps"),
    ],
)
def test_a_rule_that_holds_even_then_says_for_what_and_how_much(when: Conditions, caps: Caps, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule(name="a", when=when, then="set", level="automatic", even_after_untrusted=True, caps=caps)


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
