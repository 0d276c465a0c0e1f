"""What may be written into a policy, which caps follow from a rule, and which version of an action a vote is for."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.call import Call, without_rationale
from agents.decision import ProposedAction
from agents.llm.base import ToolCall
from agents.tools import TOOLS
from core.errors import Conflict, InvalidInput, NotPermitted, PreconditionRequired
from core.ids import new_id
from domain.approvals import service as approvals
from domain.approvals.schemas import (
    CONTACT_CAPS,
    DEFAULT_POLICY,
    Approval,
    Ask,
    Caps,
    Conditions,
    Edit,
    Performance,
    Policy,
    Rationale,
    Rule,
)

NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
UP_TO_20 = Conditions(amount_up_to=Decimal(20))
EMAIL = {"to": "a@example.com", "subject": "Hi", "body": "Hello"}

# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(name="a", then="set", level="automatic"), Caps()),
        (
            Rule(name="a", when=UP_TO_20, then="set", level="automatic"),
            Caps(amount_per_task=Decimal(20), amount_per_contact=Decimal(20), amount_per_day=Decimal(200)),
        ),
        (
            Rule(name="a", when=UP_TO_20, then="set", level="automatic", caps=Caps(amount_per_day=5, per_day=7)),
            Caps(amount_per_task=Decimal(20), amount_per_contact=Decimal(20), amount_per_day=Decimal(5), per_day=7),
        ),
        (
            Rule(name="a", when=UP_TO_20, then="set", level="automatic", caps=Caps(amount_per_task=Decimal(0))),
            Caps(amount_per_task=Decimal(0), amount_per_contact=Decimal(20), amount_per_day=Decimal(200)),
        ),
        (Rule(name="a", when=UP_TO_20, then="at_least", level="approval"), Caps()),
        (Rule(name="a", when=UP_TO_20, then="raise"), Caps()),
        (Rule(name="a", then="allow_contact"), CONTACT_CAPS),
        (Rule(name="a", when=UP_TO_20, then="allow_contact"), CONTACT_CAPS),
        (Rule(name="a", then="allow_contact", caps=Caps(per_day=1)), Caps(per_day=1)),
    ],
)  # fmt: skip
def test_the_caps_of_a_rule_follow_from_its_amount_unless_they_are_given(rule: Rule, expected: Caps) -> None:
    assert rule.limits == expected


def rule(**fields: Any) -> dict[str, Any]:
    return {"name": "a", "then": "set", "level": "approval"} | fields


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        (rule(name=""), "name"),
        (rule(name="x" * 121), "name"),
        (rule(name="a\x00"), "name"),
        (rule(then="lower"), "then"),
        (rule(level="none"), "level"),
        (rule(when={"tool": ["send_email"]}), "when.tool"),  # misspelt: it would apply to everything
        (rule(when={"tools": []}), "when.tools"),
        (rule(when={"modes": ["manuel"]}), "when.modes"),
        (rule(when={"amount_over": -1}), "when.amount_over"),
        (rule(when={"amount_up_to": "1_000"}), "when.amount_up_to"),
        (rule(when={"confidence_below": 1.1}), "when.confidence_below"),
        (rule(caps={"per_task": -1}), "caps.per_task"),
        (rule(caps={"per_week": 1}), "caps.per_week"),
        (rule(caps={"amount_per_day": "NaN"}), "caps.amount_per_day"),
        (rule(ask=[]), "ask"),
        (rule(ask=[{"roles": ["owner"]}] * 11), "ask"),
        (rule(ask=[{"roles": ["owner"], "needed": 0}]), "ask.0.needed"),
        (rule(ask=[{"roles": ["owner"], "needed": 21}]), "ask.0.needed"),
        (rule(ask=[{"roles": ["owner"], "within": 0}]), "ask.0.within"),
        (rule(ask=[{"roles": ["owner"], "within": "P91D"}]), "ask.0.within"),
        (rule(ask=[{"roles": ["owner"], "then": "approve"}]), "ask.0.then"),
    ],
)
def test_a_mistake_in_a_rule_is_refused_and_its_place_is_named(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Rule.model_validate(fields)
    found = {".".join(map(str, one["loc"])) for one in refused.value.errors()}
    assert any(one == place or one.startswith(f"{place}.") for one in found), found


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"then": "raise", "caps": Caps()}, "caps"),
        ({"then": "at_least", "level": "approval", "caps": Caps(per_day=1)}, "caps"),
        ({"then": "raise", "even_after_untrusted": True}, "goes with set"),
        ({"then": "allow_contact", "level": "automatic"}, "have none"),
        ({"then": "at_least"}, "need a level"),
    ],
)
def test_a_rule_has_no_part_that_would_do_nothing(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rule(name="a", **fields)


def test_a_stage_that_escalates_is_followed_by_another() -> None:
    owner = Ask(roles=["owner"])
    up = Ask(roles=["coordinator"], then="escalate")
    assert Policy(rules=[], asks=[up, owner]).asks == [up, owner]
    for asks in ([up], [owner, up]):
        with pytest.raises(ValidationError, match="no next stage to escalate to"):
            Policy(rules=[], asks=asks)
    with pytest.raises(ValidationError):
        Policy(rules=[], asks=[])


def test_two_rules_of_one_name_are_refused() -> None:
    again = [Rule(name=name, then="raise") for name in ("a", "b", "a")]
    with pytest.raises(ValidationError, match="same name"):
        Policy(rules=again, asks=DEFAULT_POLICY.asks)


amounts = st.none() | st.decimals(0, 10**6, places=2)
policies = st.builds(
    Policy,
    rules=st.lists(
        st.builds(
            Rule,
            name=st.text("abcdefgh ñ", min_size=1),
            when=st.builds(
                Conditions, amount_over=amounts, amount_up_to=amounts, moves_money=st.none() | st.booleans()
            ),
            then=st.just("set"),
            level=st.sampled_from(["automatic", "approval"]),
            caps=st.none() | st.builds(Caps, per_day=st.none() | st.integers(0, 9), amount_per_task=amounts),
        ),
        max_size=3,
        unique_by=lambda one: one.name,
    ),
    asks=st.just([Ask(roles=["owner"], within=timedelta(seconds=90.5), four_eyes=True)]),
    caps=st.builds(Caps, per_contact=st.none() | st.integers(0, 9), amount_per_day=amounts),
)


@settings(max_examples=30)
@given(policies)
def test_a_policy_that_is_shown_can_be_set_again(policy: Policy) -> None:
    assert Policy.model_validate_json(policy.model_dump_json()) == policy


def test_the_default_policy_can_be_shown_and_set_again() -> None:
    assert Policy.model_validate_json(DEFAULT_POLICY.model_dump_json()) == DEFAULT_POLICY


# ── what a vote and a call are bound to ──────────────────────────────────────────────────────────────────────────────


def asked(arguments: dict[str, Any] = EMAIL, **fields: Any) -> Approval:
    """An open approval of an e-mail."""
    rationale = Rationale(
        level="approval", rule="r", because=[], intent=None, why=None, reasoning="", confidence=None, alternatives=[],
        context={}, performance=Performance(done=0, refused=0, approved=0, rejected=0),
    )  # fmt: skip
    values: dict[str, Any] = {
        "id": new_id(), "task_id": new_id(), "seq": 2, "kind": "approval", "status": "approved", "agent": "a",
        "user_id": new_id(), "location_id": None, "tool": "send_email", "arguments": arguments, "proposed": EMAIL,
        "digest": approvals.digest("send_email", arguments).hex(), "decision": rationale,
        "asks": [Ask(roles=["owner"])], "stage": 0, "needed": 1, "expires_at": NOW, "created_at": NOW,
        "decided_at": None, "decided_by": None, "reason": None, "used_at": None, "used_by_task": None,
        "used_by_seq": None, "is_overdue": False, "edits": [], "linked_task": None, "votes": [],
    }  # fmt: skip
    return Approval(**values | fields)


def call(arguments: dict[str, Any] = EMAIL, name: str = "send_email", refusal: Any = None) -> Call:
    action = ProposedAction(tool=name, arguments=without_rationale(arguments))
    return Call(2, ToolCall(id="c", name=name, arguments=arguments), action, TOOLS.get(name), refusal, arguments)


def test_a_call_runs_with_the_arguments_that_people_approved() -> None:
    edited = EMAIL | {"body": "Better"}
    approval = asked(edited)
    ready = call(EMAIL | {"_why": "it was asked for", "_confidence": 0.9}).approved(approval)
    assert (ready.arguments, ready.approval) == (edited, approval)
    assert ready.message.arguments["body"] == "Hello"  # what the model said stays on record


@pytest.mark.parametrize(
    ("made", "approval"),
    [
        (call(EMAIL | {"to": "eve@example.com"}), asked()),  # another call than was proposed
        (call(EMAIL | {"cc": "eve@example.com"}), asked()),
        (call({}), asked()),
        (call(EMAIL, "send_report_email"), asked()),  # another tool
        (call(), asked(digest=approvals.digest("send_email", {}).hex())),  # other arguments than were voted on
        (call(), asked(arguments=EMAIL | {"to": "eve@example.com"}, digest=asked().digest)),
        (call(), asked(arguments=EMAIL | {"body": "Better"}, kind="suggestion")),  # the accepted task has them from it
    ],
)
def test_an_approval_lets_no_other_call_run(made: Call, approval: Approval) -> None:
    with pytest.raises(NotPermitted, match="What was approved"):
        made.approved(approval)


def test_a_suggestion_that_was_edited_is_carried_out_as_edited() -> None:
    edited = EMAIL | {"body": "Better"}
    assert call(edited).approved(asked(edited, kind="suggestion")).arguments == edited


def test_a_refused_call_has_no_tool_and_no_parameters() -> None:
    refused = call(refusal=NotPermitted("You have no tool called that."))
    for read in (refused.usable_tool, refused.parameters):
        with pytest.raises(NotPermitted, match="no tool called that"):
            read()
    with pytest.raises(InvalidInput, match="send_email"):
        call({"to": "nobody"}).parameters()


def test_parameters_are_parsed_anew_because_a_tool_may_change_its_own() -> None:
    made = call(EMAIL | {"values": {"name": "Ana"}})
    first: Any = made.parameters()
    first.values["name"] = "Eve"
    second: Any = made.parameters()
    assert second.values == {"name": "Ana"}


def test_the_rationale_is_parted_from_the_arguments() -> None:
    assert without_rationale({"_why": "x", "_made_up": 1, "to_": 2, "a": {"_b": 1}}) == {"to_": 2, "a": {"_b": 1}}


@given(st.permutations(list(EMAIL)))
def test_a_digest_does_not_depend_on_the_order_of_arguments(order: list[str]) -> None:
    assert approvals.digest("send_email", {name: EMAIL[name] for name in order}) == approvals.digest(
        "send_email", EMAIL
    )


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("send_sms", EMAIL),
        ("send_email", EMAIL | {"body": "hello"}),
        ("send_email", EMAIL | {"cc": None}),
        ("send_email", {**EMAIL, "body": ["Hello"]}),
        ("send_email", {}),
    ],
)
def test_a_digest_tells_any_other_call_apart(tool: str, arguments: dict[str, Any]) -> None:
    assert approvals.digest(tool, arguments) != approvals.digest("send_email", EMAIL)


def test_a_vote_says_what_it_saw_and_hears_what_was_changed_since() -> None:
    first, second = EMAIL | {"subject": "Yo"}, {"to": "a@example.com", "subject": "Yo", "body": "Hello"}
    old = approvals.digest("send_email", first).hex()
    edits = [Edit(digest=old, arguments=first | {"cc": "x@example.com"}, edited_by="maria@example.com", edited_at=NOW)]
    approval = asked(second | {"body": "Better"}, edits=edits)
    approvals.ensure_seen(approval, approval.digest)
    with pytest.raises(PreconditionRequired, match="digest"):
        approvals.ensure_seen(approval, None)
    with pytest.raises(Conflict, match="of no version"):
        approvals.ensure_seen(approval, "00" * 32)
    with pytest.raises(Conflict, match=r"maria@example.com edited the arguments .*: body, cc") as late:
        approvals.ensure_seen(approval, old)
    assert late.value.details["changed"] == {
        "body": {"before": "Hello", "now": "Better"},
        "cc": {"before": "x@example.com", "now": None},
    }
    assert late.value.details["digest"] == approval.digest
