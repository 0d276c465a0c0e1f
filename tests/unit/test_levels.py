"""Levels: every mode and level, the rules, and what holds whatever the rules say."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.levels import ASKS as ASKS_ONLY
from agents.levels import (
    BY_RISK,
    CAPPED,
    EFFECTS,
    READING,
    REQUESTED,
    UNTRUSTED,
    ProposedCall,
    Ruling,
    holds,
    may_be_counted,
    raised,
    rule_on,
    strictness,
    used_up,
)
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
    (
        "asking is all it does, and it is critical",
        [],
        {"risk": "critical", "always_asks": True},
        "approval",
        "critical risk",
    ),
    (
        "a rule that wants approval, after strangers' words",
        [R(name="a", then="set", level="approval")],
        {"read_untrusted": True},
        "approval",
        "a",
    ),
    ("reading", [R(name="a", then="set", level="approval")], {"changes_world": False}, "automatic", READING),
]


@pytest.mark.parametrize(("rules", "facts", "level", "rule"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_rules(rules: list[Rule], facts: dict[str, Any], level: str, rule: str) -> None:
    ruling = rule_on(call(**facts), policy(*rules))
    assert (ruling.level, ruling.rule) == (level, rule)
    assert rule in " ".join(ruling.because)


@pytest.mark.parametrize("verb", ["set", "at_least"])
@pytest.mark.parametrize("read_untrusted", [True, False])
def test_who_is_asked_is_said_by_the_rule_that_decided(verb: Any, read_untrusted: bool) -> None:
    own = [Ask(users=["boss@example.com"], needed=1)]
    proposed = call(read_untrusted=read_untrusted)
    assert list(rule_on(proposed, policy(Rule(name="a", then=verb, level="approval", ask=own))).asks) == own
    assert list(rule_on(proposed, PLAIN).asks) == ASKS


def test_reading_names_the_policys_people_too() -> None:
    assert list(rule_on(call(changes_world=False), PLAIN).asks) == ASKS


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


def test_a_stricter_rule_holds_after_strangers_words_too() -> None:
    careful = Rule(name="careful", then="set", level="suggestion")
    rules = [careful, Rule(name="contact", then="allow_contact")]
    words = {"tool": "send_email", "risk": "low", "mode": "semi-auto", "to_contact": True}
    for read_untrusted in (False, True):
        ruling = rule_on(call(**words, read_untrusted=read_untrusted), policy(*rules))
        assert (ruling.level, ruling.effect, ruling.rule) == ("suggestion", "suggest", "careful")


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


@pytest.mark.parametrize("verb", ["set", "at_least"])
def test_an_amount_in_parts_is_over_a_limit_as_a_whole(verb: Any) -> None:
    much = Rule(name="much", when=Conditions(amount_over=Decimal(200)), then=verb, level="approval")
    proposed = call(risk="low", amount=Decimal(150), moves_money=True)
    before = Done(task=Count(1, Decimal(100)))
    assert rule_on(proposed, policy(much)).level == "automatic"
    assert rule_on(proposed, policy(much), Tally(in_all=before)).level == "approval"
    assert rule_on(proposed, policy(much), Tally(in_all=Done(contact=before.task))).level == "approval"
    nothing = call(risk="low", amount=Decimal(0), moves_money=True)
    assert rule_on(nothing, policy(much), Tally(in_all=Done(task=Count(1, Decimal(300))))).level == "automatic"


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


OTHER_PEOPLE = [Ask(users=["boss@example.com"])]
BECAUSE: list[tuple[str, list[Rule], dict[str, Any], Tally, list[str]]] = [
    ("no rule", [], {}, Tally(), ["high risk: consultation", "consultation in mode semi-auto: ask advice"]),
    ("reading", [], {"changes_world": False}, Tally(), [READING]),
    (
        "a rule sets, another raises, a third finds it high enough",
        [
            R(name="a", then="set", level="automatic"),
            R(name="b", then="raise"),
            R(name="c", then="at_least", level="automatic"),
        ],
        {"mode": "auto"},
        Tally(),
        ["a: automatic", "b: raised to suggestion", "suggestion in mode auto: run"],
    ),
    (
        "a rule that only names people",
        [R(name="a", then="at_least", level="consultation", ask=OTHER_PEOPLE)],
        {},
        Tally(),
        ["high risk: consultation", "a: consultation, by whom it names", "consultation in mode semi-auto: ask advice"],
    ),
    (
        "a rule whose cap is used up",
        [
            R(name="a", then="set", level="automatic", caps=Caps(per_day=2)),
            R(name="b", then="set", level="suggestion"),
        ],
        {},
        Tally(by_rule={"a": Done(day=Count(2))}),
        ["a: the cap of 2 actions a day is used up", "b: suggestion", "suggestion in mode semi-auto: suggest"],
    ),
    (
        "after strangers' words",
        [R(name="a", then="at_least", level="suggestion")],
        {"risk": "low", "read_untrusted": True},
        Tally(),
        [
            "low risk: automatic",
            "a: raised to suggestion",
            f"{UNTRUSTED}: raised to approval",
            "approval in mode semi-auto: ask approval",
        ],
    ),
    (
        "after strangers' words, at the highest level already",
        [],
        {"risk": "critical", "read_untrusted": True},
        Tally(),
        ["critical risk: approval", "approval in mode semi-auto: ask approval"],
    ),
    (
        "after strangers' words, but asked for by the request",
        [],
        {"read_untrusted": True, "is_requested": True, "mode": "auto"},
        Tally(),
        [
            "high risk: consultation",
            f"{REQUESTED}: not raised, though it was {UNTRUSTED}",
            "consultation in mode auto: run and tell",
        ],
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
                caps=Caps(per_task=1, per_contact=1, per_day=1),
            )
        ],
        {"read_untrusted": True},
        Tally(),
        ["a: automatic", f"a: not raised, though it was {UNTRUSTED}", "automatic in mode semi-auto: run"],
    ),
    (
        "a rule for the contact",
        [R(name="a", then="allow_contact")],
        {"read_untrusted": True, "to_contact": True},
        Tally(),
        [
            "high risk: consultation",
            f"a: not raised, though it was {UNTRUSTED}",
            "consultation in mode semi-auto: ask advice",
        ],
    ),
]


@pytest.mark.parametrize(
    ("rules", "facts", "tally", "because"), [row[1:] for row in BECAUSE], ids=[row[0] for row in BECAUSE]
)
def test_a_ruling_says_step_by_step_how_it_came_to_be(
    rules: list[Rule], facts: dict[str, Any], tally: Tally, because: list[str]
) -> None:
    assert list(rule_on(call(**facts), policy(*rules), tally).because) == because


FIVE_EUROS = {"amount": Decimal(5)}


@pytest.mark.parametrize(
    ("caps", "done", "facts", "cap"),
    [
        (Caps(), Done(Count(9, Decimal(9)), Count(9, Decimal(9)), Count(9, Decimal(9))), FIVE_EUROS, None),
        (Caps(per_task=2), Done(task=Count(1)), {}, None),
        (Caps(per_task=2), Done(task=Count(2)), {}, "the cap of 2 actions a task"),
        (Caps(per_contact=2), Done(contact=Count(2)), {}, "the cap of 2 actions a contact"),
        (Caps(per_day=2), Done(day=Count(2)), {}, "the cap of 2 actions a day"),
        (Caps(per_day=2), Done(task=Count(2), contact=Count(2)), {}, None),
        (Caps(per_task=2, per_day=1), Done(task=Count(1), day=Count(1)), {}, "the cap of 1 actions a day"),
        (Caps(amount_per_task=Decimal(9)), Done(task=Count(1, Decimal(4))), FIVE_EUROS, None),
        (Caps(amount_per_task=Decimal(9)), Done(task=Count(1, Decimal(5))), FIVE_EUROS, "the cap of 9 a task"),
        (Caps(amount_per_contact=Decimal(9)), Done(contact=Count(1, Decimal(5))), FIVE_EUROS, "the cap of 9 a contact"),
        (Caps(amount_per_day=Decimal("1E+3")), Done(day=Count(1, Decimal(999))), FIVE_EUROS, "the cap of 1000 a day"),
        (Caps(amount_per_day=Decimal(9)), Done(), {"amount": None}, "the cap of 9 a day"),  # it might be any amount
    ],
)
def test_a_cap_is_used_up_when_one_more_would_pass_it(
    caps: Caps, done: Done, facts: dict[str, Any], cap: str | None
) -> None:
    assert used_up(caps, done, call(**facts)) == cap


@pytest.mark.parametrize(
    ("when", "meets", "does_not"),
    [
        (C(tools=["book_*", "send_*"]), {}, {"tool": "cancel_class"}),
        (C(tools=["send_*"]), {}, {"tool": "SEND_EMAIL"}),
        (C(categories=["messaging"]), {}, {"category": "payments"}),
        (C(agents=["a", "b"]), {"agent": "b"}, {"agent": "c"}),
        (C(modes=["auto", "manual"]), {"mode": "auto"}, {"mode": "semi-auto"}),
        (C(amount_over=Decimal(0)), {"amount": Decimal("0.01")}, {"amount": Decimal(0)}),
        (C(amount_over=Decimal(20)), {"amount": None}, {"amount": Decimal(20)}),
        (C(amount_up_to=Decimal(20)), {"amount": Decimal(20)}, {"amount": Decimal("20.01")}),
        (C(amount_up_to=Decimal(20)), {"amount": Decimal(0)}, {"amount": None}),
        (C(confidence_below=0.5), {"confidence": 0.49}, {"confidence": 0.5}),
        (C(confidence_below=1.0), {"confidence": 0.99}, {"confidence": None}),
        (C(sends_outside=True), {"sends_outside": True}, {}),
        (C(sends_outside=False), {}, {"sends_outside": True}),
        (C(moves_money=True), {"moves_money": True}, {}),
        (C(moves_money=False), {}, {"moves_money": True}),
        (C(read_untrusted=True), {"read_untrusted": True}, {}),
        (C(read_untrusted=False), {}, {"read_untrusted": True}),
        (C(to_contact=True), {"to_contact": True}, {}),
        (C(to_contact=False), {}, {"to_contact": True}),
    ],
)
def test_each_condition_by_itself(when: Conditions, meets: dict[str, Any], does_not: dict[str, Any]) -> None:
    assert holds(when, call(**meets))
    assert not holds(when, call(**does_not))


def test_every_condition_given_must_be_met() -> None:
    when = C(tools=["send_*"], modes=["auto"], to_contact=True)
    assert holds(when, call(mode="auto", to_contact=True))
    assert not holds(when, call(mode="auto"))
    assert not holds(when, call(to_contact=True))


@pytest.mark.parametrize(
    ("facts", "rules", "counted"),
    [
        ({}, [], False),
        ({"sends_outside": True}, [], True),
        ({"moves_money": True}, [], True),
        ({"amount": Decimal(1)}, [], True),
        ({"amount": None}, [], True),
        ({}, [R(name="a", then="set", level="automatic")], False),
        ({}, [R(name="a", then="set", level="automatic", caps=Caps(per_day=1))], True),
        ({}, [R(name="a", when=C(tools=["x"]), then="set", level="automatic", caps=Caps(per_day=1))], False),
        ({"changes_world": False}, [R(name="a", then="set", level="automatic", caps=Caps(per_day=1))], False),
    ],
)
def test_an_action_counts_if_it_reaches_out_or_a_rule_with_caps_let_it_pass(
    facts: dict[str, Any], rules: list[Rule], counted: bool
) -> None:
    assert may_be_counted(call(**facts), policy(*rules)) is counted
    assert rule_on(call(**facts), policy(*rules)).is_counted is counted


def test_an_action_counts_by_the_rule_that_let_it_pass_not_by_others() -> None:
    capped = R(name="capped", when=C(sends_outside=False), then="set", level="automatic", caps=Caps(per_day=1))
    free = R(name="free", then="set", level="automatic")
    assert rule_on(call(), policy(capped, free)).is_counted
    assert not rule_on(call(), policy(free, capped)).is_counted
    to_contact = R(name="contact", then="allow_contact")
    assert rule_on(call(read_untrusted=True, to_contact=True), policy(to_contact)).is_counted
    assert not rule_on(call(to_contact=True), policy(to_contact)).is_counted


@pytest.mark.parametrize(
    ("when", "caps", "done", "holds"),
    [
        (C(), Caps(per_day=1), Count(0), True),
        (C(), Caps(per_day=1), Count(1), False),
        (C(), Caps(amount_per_day=Decimal(9)), Count(1, Decimal(4)), True),
        (C(), Caps(amount_per_day=Decimal(9)), Count(1, Decimal(5)), False),
        (C(tools=["x"]), Caps(per_day=1), Count(0), False),
        (C(amount_over=Decimal(5)), None, Count(0), False),
        (C(amount_over=Decimal(5)), None, Count(1, Decimal(1)), True),  # with what was moved before it is six
    ],
)
def test_a_rule_for_the_contact_holds_within_its_conditions_and_caps(
    when: Conditions, caps: Caps | None, done: Count, holds: bool
) -> None:
    rules = policy(
        R(name="for another tool", when=C(tools=["x"]), then="allow_contact"),
        R(name="a", when=when, then="allow_contact", caps=caps),
    )
    tally = Tally(in_all=Done(task=done), by_rule={"a": Done(day=done)})
    ruling = rule_on(call(read_untrusted=True, to_contact=True, amount=Decimal(5)), rules, tally)
    assert ruling.rule == ("high risk" if holds else UNTRUSTED)


def test_the_policys_caps_are_for_what_reaches_out() -> None:
    capped = Policy(rules=[], asks=ASKS, caps=Caps(per_task=1))
    done = Tally(in_all=Done(task=Count(1)))
    assert rule_on(call(sends_outside=True), capped, done).rule == CAPPED
    assert rule_on(call(), capped, done).rule == "high risk"


@pytest.mark.parametrize(("amount", "rule"), [(5, "high risk"), (6, CAPPED)])
def test_the_policys_caps_are_for_amounts_too(amount: int, rule: str) -> None:
    capped = Policy(rules=[], asks=ASKS, caps=Caps(amount_per_day=Decimal(9)))
    done = Tally(in_all=Done(day=Count(1, Decimal(4))))
    assert rule_on(call(amount=Decimal(amount)), capped, done).rule == rule


def test_rulings_compare_by_what_is_asked_then_by_level() -> None:
    def ruling(level: Any, effect: Any) -> Ruling:
        return Ruling(level, effect, "a", (), ())

    by_strictness = [
        ruling("automatic", "run"), ruling("suggestion", "run"), ruling("consultation", "run_and_tell"),
        ruling("suggestion", "suggest"), ruling("consultation", "ask_advice"), ruling("automatic", "ask_approval"),
        ruling("approval", "ask_approval"),
    ]  # fmt: skip
    found = [strictness(one) for one in by_strictness]
    assert found == sorted(set(found))
    assert [one.runs for one in by_strictness] == [True, True, True, False, False, False, False]


def test_a_level_is_raised_by_one_and_the_highest_stays() -> None:
    assert [raised(level) for level in LEVELS] == ["suggestion", "consultation", "approval", "approval"]


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
        ({"name": "x", "then": "set", "level": "approval", "ask": [{"roles": ["a"], "then": "escalate"}]}, "no next"),
        ({"name": "x", "then": "set", "level": "approval", "ask": [{}]}, "names no one to ask"),
    ],
)
def test_rules_that_could_not_work_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Rule.model_validate(fields)
