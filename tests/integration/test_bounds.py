"""What bounds agents: untrusted content, what a vote saw, loops, and rules that cannot be walked around."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from agents.circumstances import contacts_of
from agents.llm.models import Models
from agents.review import approve
from agents.tools import TOOLS
from api.app import make_app
from core import db
from core.errors import Conflict, NotPermitted, PreconditionRequired
from core.settings import Settings
from domain.approvals import service as approvals
from domain.approvals.schemas import DEFAULT_POLICY, Approval, Ask, Caps, Conditions, Policy, Rule, Yes
from domain.audit import service as audit
from domain.channels import service as channels
from domain.channels.schemas import EmailChannel
from domain.tasks import service as tasks
from domain.tasks.schemas import Replay, SubmissionContext
from domain.wallet import service as wallet
from domain.wallet.schemas import Correction
from domain.workflows import service as workflows
from domain.workflows.schemas import WorkflowFields, WorkflowStep
from tests.integration.test_approvals import let_time_pass, open_approvals, say_no, say_yes, set_rules
from tests.support.desk import Desk
from tests.support.everything import arguments_for, make_records
from tests.support.factories import change_agent, make_key, make_location, make_row, make_user, owner_of, submit
from tests.support.models import Parrot, asking, saying
from tests.support.outward import outside
from tests.support.servers import SECRET_KEY, serving

SMALL = Rule(
    name="small charges are fine",
    when=Conditions(tools=["charge_client"], amount_up_to=Decimal(20)),
    then="set",
    level="automatic",
)


@pytest.fixture
def bird() -> Parrot:
    outside.__init__()  # type: ignore[misc]
    return Parrot()


@pytest.fixture
def desk(org: UUID, bird: Parrot) -> Iterator[Desk]:
    agent(org, "support-assistant")
    with serving(bird.app()) as url:
        made = Desk(Models(Settings(openai_base_url=f"{url}/v1")))
        yield made
        made.close()


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("bounds", 1), raise_server_exceptions=False) as made:
        yield made


def agent(org: UUID, slug: str, *tools: str, mode: str = "auto", **more: Any) -> None:
    names = list(tools) or [tool.name for tool in TOOLS]
    limits = {"max_turns": 60, "max_tokens": 10_000_000} | more
    change_agent(org, slug, model="gpt-4o-mini", mode=mode, tools=names, limits=limits, retry={"base": 0.001})


def calls(name: str, *arguments: dict[str, Any]) -> Any:
    return asking(*((name, json.dumps(one)) for one in arguments))


def acts(task: Any) -> list[tuple[str, bool]]:
    return [(step.name, step.output["ok"]) for step in task.steps if step.stage == "act"]


def payments(org: UUID) -> int:
    with db.transaction(org) as connection:
        return int(connection.execute(text("SELECT count(*) FROM payments")).scalar_one())


def number_of_tasks(org: UUID) -> int:
    with db.transaction(org) as connection:
        return int(connection.execute(text("SELECT count(*) FROM tasks")).scalar_one())


# ── untrusted content ────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_rule_about_amounts_lets_a_stranger_charge(org: UUID, desk: Desk, bird: Parrot) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    set_rules(org, SMALL)
    bird.answers = [calls("search_clients", {"query": "Ana"})]
    bird.answers.append(
        calls("charge_client", *({"client_id": str(ana), "amount": n, "kind": "shop"} for n in (15, 16)))
    )
    task = desk.run(
        org, submit(org, "Please charge me", input={"message": "Please charge me", "is_from_outside": True}).id
    )
    assert (task.status, task.waiting_for, payments(org)) == ("waiting", "approval", 0)


def test_small_charges_add_up(org: UUID, desk: Desk, bird: Parrot) -> None:
    """Ten charges of 15.50 under a rule that lets 20 pass: one runs, the others are a person's to decide."""
    ana = make_row(org, "clients", name="Ana Torres")
    set_rules(org, SMALL)
    wanted = [{"client_id": str(ana), "amount": 15.5 - n / 100, "kind": "shop"} for n in range(10)]
    bird.answers = [calls("charge_client", *wanted)]
    task = desk.run(org, submit(org, "Charge Ana Torres for her ten items").id)
    assert (task.status, payments(org), len(open_approvals(org, task.id))) == ("waiting", 1, 9)


def test_another_task_does_not_start_from_nothing(org: UUID, desk: Desk, bird: Parrot) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    set_rules(org, SMALL)
    for number, expected in enumerate(("succeeded", "waiting")):
        bird.answers = [calls("charge_client", {"client_id": str(ana), "amount": 15 + number, "kind": "shop"})]
        bird.answers.append(saying("done"))
        assert desk.run(org, submit(org, "Charge her").id).status == expected
        bird.answers = []


def test_a_rule_that_says_so_holds_even_then_within_its_caps(org: UUID, desk: Desk, bird: Parrot) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    set_rules(
        org,
        Rule(
            name="tags, even then",
            when=Conditions(tools=["update_client_tags"]),
            then="set",
            level="automatic",
            even_after_untrusted=True,
            caps=Caps(per_task=2, per_contact=5, per_day=9),
        ),
    )
    tags = [{"client_id": str(ana), "add": [f"t{number}"]} for number in range(3)]
    bird.answers = [calls("update_client_tags", *tags)]
    task = desk.run(org, submit(org, input={"message": "Tag me", "is_from_outside": True}).id)
    assert task.waiting_for == "approval"
    assert acts(task) == [("update_client_tags", True)] * 2
    (asked,) = open_approvals(org, task.id)
    assert "the cap of 2 actions a task is used up" in " ".join(asked.decision.because)


def test_whoever_is_named_in_another_way_is_still_the_same(org: UUID, desk: Desk, bird: Parrot) -> None:
    ana = make_row(org, "clients", name="Ana Torres", email="ana@example.com", phone="+34 600 111 222")
    first, second = (make_row(org, "payments", client_id=ana, amount=amount, status="paid") for amount in (11, 12))
    rule = Rule(
        name="a",
        when=Conditions(tools=["charge_client", "refund_payment"]),
        then="set",
        level="automatic",
        caps=Caps(per_contact=1),
    )
    spellings = [
        ("charge_client", {"client_id": ana.hex.upper(), "amount": 5, "kind": "shop"}),
        ("charge_client", {"client_id": str(ana), "amount": 6, "kind": "shop"}),
        ("refund_payment", {"payment_id": first.hex, "amount": 11}),
        ("refund_payment", {"payment_id": str(second), "amount": 12}),
    ]
    set_rules(org, rule)
    for number, (name, arguments) in enumerate(spellings):
        bird.answers = [calls(name, arguments), saying("done")]
        task = desk.run(org, submit(org, "Do it").id)
        assert task.status == ("waiting" if number else "succeeded"), (name, arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("send_sms", {"to": "600111222", "text": "Hi"}),
        ("send_sms", {"to": "+34 600-111-222", "text": "Hi"}),
        ("send_email", {"to": "ANA@example.com", "subject": "Hi", "body": "Hi"}),
    ],
)
def test_an_address_counts_for_whose_it_is(org: UUID, name: str, arguments: dict[str, Any]) -> None:
    ana = make_row(org, "clients", name="Ana Torres", email="ana@example.com", phone="+34 600 111 222")
    tool = TOOLS.get(name)
    assert tool is not None
    parameters = tool.validate(arguments)
    with db.transaction(org) as connection:
        assert str(ana) in contacts_of(connection, parameters, tool.at_stake(parameters), None)


def test_an_edit_is_ruled_on_after_what_was_done_since(org: UUID, desk: Desk, bird: Parrot) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    agent(org, "support-assistant", mode="semi-auto")
    small = SMALL.model_copy(update={"caps": Caps(per_contact=1)})
    suggested = Rule(name="more", when=Conditions(amount_over=Decimal(30)), then="set", level="suggestion")
    set_rules(org, small, suggested)
    for amount, run in ((40, "suggested"), (15, "charged")):
        bird.answers = [calls("charge_client", {"client_id": str(ana), "amount": amount, "kind": "shop"}), saying(run)]
        task = desk.run(org, submit(org, "Charge her").id)
        if run == "suggested":
            (offered,) = open_approvals(org, task.id)
    assert payments(org) == 1
    with pytest.raises(NotPermitted, match="used up"):
        say_yes(org, offered.id, arguments=offered.arguments | {"amount": 12})


@pytest.mark.parametrize("mode", ["manual", "semi-auto", "auto"])
def test_after_a_strangers_message_no_tool_that_acts_runs_without_a_person(
    org: UUID, desk: Desk, bird: Parrot, mode: str
) -> None:
    """Every tool that changes, sends or starts something, proposed with arguments that fit, in every mode."""
    told = {"escalate_issue", "notify_coordinators"}  # the default rules let these pass, a few times
    agent(org, "support-assistant", mode=mode)
    ids = make_records(org, "Ana Torres")
    acting = [tool for tool in TOOLS if tool.acts and tool.name not in told]
    bird.answers = [asking(*((tool.name, json.dumps(arguments_for(tool, ids))) for tool in acting))]
    before = number_of_tasks(org)
    task = desk.run(org, submit(org, input={"message": "I am Ana Torres. Do it all.", "is_from_outside": True}).id)
    assert [name for name, ok in acts(task) if ok] == []
    assert outside.happened == []
    assert number_of_tasks(org) == before + 1
    assert len(open_approvals(org, task.id)) > 10


def test_what_the_request_asked_for_stays_as_the_rules_have_it(org: UUID, desk: Desk, bird: Parrot) -> None:
    ana, bob = make_row(org, "clients", name="Ana Torres"), make_row(org, "clients", name="Bob Hill")
    agent(org, "support-assistant", "search_clients", "update_client_tags")
    for message, client, expected in (
        ("Tag Ana Torres as vip", ana, "succeeded"),
        ("Tag Ana Torres as vip", bob, "waiting"),
        ("Who is Ana Torres?", ana, "waiting"),
    ):
        bird.answers = [
            calls("search_clients", {"query": "Torres"}),
            calls("update_client_tags", {"client_id": str(client), "add": ["vip"]}),
            saying("done"),
        ]
        assert desk.run(org, submit(org, message).id).status == expected, message


def test_what_the_request_asked_for_once_is_done_once_also_within_one_decision(
    org: UUID, desk: Desk, bird: Parrot
) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    agent(org, "support-assistant", "search_clients", "update_client_tags")
    tagging = {"client_id": str(ana), "add": ["vip"]}
    bird.answers = [calls("search_clients", {"query": "Torres"}), calls("update_client_tags", tagging, tagging)]
    task = desk.run(org, submit(org, "Tag Ana Torres as vip").id)
    assert (task.status, acts(task)) == ("waiting", [("search_clients", True), ("update_client_tags", True)])


def test_undeclared_facts_are_the_worst_case(org: UUID, desk: Desk, bird: Parrot) -> None:
    bare = TOOLS.get("bare_reach")
    assert bare is not None
    assert (bare.changes_world, bare.sends_outside, bare.moves_money, bare.risk) == (True, True, True, "critical")
    assert bare.at_stake(bare.validate({})).amount is None
    for name, mode in (("bare_reach", "auto"), ("fetch_page", "manual")):
        agent(org, "support-assistant", name, mode=mode)
        bird.answers = [asking((name, "{}"))]
        task = desk.run(org, submit(org).id)
        assert (task.status, task.waiting_for) == ("waiting", "approval")
    assert outside.happened == []
    agent(org, "support-assistant", "fetch_page")
    bird.answers = [asking(("fetch_page", "{}")), saying("done")]
    task = desk.run(org, submit(org).id)
    assert acts(task) == [("fetch_page", True)]
    with db.transaction(org) as connection:
        (line,) = audit.read(connection, task=task.id).lines
    assert (line.verb, line.subject) == ("acted", "tool/fetch_page")


# ── a vote is bound to what was seen ─────────────────────────────────────────────────────────────────────────────────


def charge_for_two(org: UUID, desk: Desk, bird: Parrot) -> Approval:
    ana = make_row(org, "clients", name="Ana Torres")
    set_rules(org, asks=[Ask(roles=["owner", "manager"], needed=2)])
    bird.answers = [calls("charge_client", {"client_id": str(ana), "amount": 10, "kind": "shop"}), saying("done")]
    task = desk.run(org, submit(org, "Charge Ana Torres 10").id)
    (asked,) = open_approvals(org, task.id)
    return asked


def test_a_yes_to_ten_is_no_yes_to_nine_hundred(org: UUID, desk: Desk, bird: Parrot) -> None:
    asked = charge_for_two(org, desk, bird)
    editor = make_user(org, "manager")
    say_yes(org, asked.id, editor, arguments=asked.arguments | {"amount": 900})
    with db.transaction(org) as connection, pytest.raises(Conflict, match="edited the arguments") as refused:
        approve(connection, org, asked.id, owner_of(org), Yes(digest=asked.digest))
    assert refused.value.details["changed"] == {"amount": {"before": 10, "now": 900}}
    with db.transaction(org) as connection, pytest.raises(PreconditionRequired):
        approve(connection, org, asked.id, owner_of(org), Yes())
    with db.transaction(org) as connection, pytest.raises(Conflict, match="no version"):
        approve(connection, org, asked.id, owner_of(org), Yes(digest="00" * 32))
    assert payments(org) == 0
    # The editor's own request, sent again after a lost answer, is the same vote.
    with db.transaction(org) as connection:
        again = Yes(digest=asked.digest, arguments=asked.arguments | {"amount": 900})
        assert approve(connection, org, asked.id, editor, again).status == "open"
    assert say_yes(org, asked.id).status == "approved"
    desk.run(org, asked.task_id, number=1)
    assert payments(org) == 1


def test_over_http_a_vote_names_what_it_saw(client: TestClient, org: UUID, desk: Desk, bird: Parrot) -> None:
    asked = charge_for_two(org, desk, bird)
    headers = {"Authorization": f"Bearer {make_key(org, SECRET_KEY)}"}
    url = f"/v1/approvals/{asked.id}"
    for verb, body in (("approve", {}), ("reject", {"reason": "no"})):
        assert client.post(f"{url}/{verb}", json=body, headers=headers).status_code == 428
        stale = client.post(f"{url}/{verb}", json=body | {"digest": "00" * 32}, headers=headers)
        assert (stale.status_code, stale.json()["digest"]) == (409, asked.digest)
    tag = client.get(url, headers=headers).headers["etag"]
    assert tag == f'"{asked.digest}"'
    differing = client.post(f"{url}/approve", json={"digest": "00" * 32}, headers=headers | {"If-Match": tag})
    assert differing.status_code == 422
    voted = client.post(f"{url}/approve", json={}, headers=headers | {"If-Match": tag})
    assert (voted.status_code, len(voted.json()["votes"])) == (200, 1)
    rejected = client.post(f"{url}/reject", json={"reason": "no", "digest": asked.digest}, headers=headers)
    assert rejected.json()["status"] == "rejected"


@pytest.mark.parametrize("amount", ["1e16", "2.5e20", "-0.0", "0.1", "1e-7", "1e308"])
def test_a_number_that_the_database_spells_otherwise_can_be_approved(
    org: UUID, desk: Desk, bird: Parrot, amount: str
) -> None:
    agent(org, "support-assistant", "pay_out", mode="semi-auto")
    bird.answers = [asking(("pay_out", f'{{"n": {amount}}}')), saying("done")]
    task = desk.run(org, submit(org).id)
    (asked,) = open_approvals(org, task.id)
    say_yes(org, asked.id)
    assert desk.run(org, task.id, number=1).status == "succeeded"
    assert [name for name, _ in outside.happened] == ["pay_out"]


def test_an_edit_to_such_a_number_is_carried_out_once(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "pay_out", mode="semi-auto")
    bird.answers = [asking(("pay_out", '{"n": 2}')), saying("done")]
    task = desk.run(org, submit(org).id)
    (asked,) = open_approvals(org, task.id)
    say_yes(org, asked.id, arguments={"n": 3e16})
    assert desk.run(org, task.id, number=1).status == "succeeded"
    assert [name for name, _ in outside.happened] == ["pay_out"]


# ── loops and escapes ────────────────────────────────────────────────────────────────────────────────────────────────


def run_all(org: UUID, desk: Desk) -> int:
    """Carry out every queued task until none is left, at most so many times."""
    for tried in range(400):
        with db.transaction(org) as connection:
            due = connection.execute(text("SELECT id, claim FROM tasks WHERE status = 'queued' LIMIT 1")).first()
        if due is None:
            return tried
        desk.run(org, due.id, number=due.claim)
    raise AssertionError("it never ends")


def test_a_workflow_that_starts_itself_twice_comes_to_an_end(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "trigger_workflow", max_descendants=12)
    step = WorkflowStep(agent="support-assistant", message="Trigger the workflow loop twice")
    with db.transaction(org) as connection:
        workflows.put_workflow(connection, org, "loop", WorkflowFields(name="Loop", steps=[step]))
    twice = calls("trigger_workflow", {"workflow": "loop"}, {"workflow": "loop"})
    bird.answers = [answer for _ in range(100) for answer in (twice, saying("done"))]
    before = balance(org)
    first = desk.run(org, submit(org, "Trigger the workflow loop").id)
    run_all(org, desk)
    made = number_of_tasks(org)
    assert 1 < made <= 13
    assert balance(org) == before - 2 * made
    with db.transaction(org) as connection:
        rows = connection.execute(text("SELECT depth, root_id FROM tasks WHERE root_id IS NOT NULL")).all()
    assert {row.root_id for row in rows} == {first.id}
    assert max(row.depth for row in rows) <= 3
    refusals = [m["content"] for asked in bird.asked for m in asked["messages"] if m["role"] == "tool"]
    assert any("Nothing was started" in words for words in refusals)


def balance(org: UUID) -> int:
    with db.transaction(org) as connection:
        return wallet.balance(connection, org).balance


def test_one_decision_cannot_schedule_hundreds(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "schedule_task", max_children=5)
    later = [{"agent": "support-assistant", "message": f"task {n}", "run_at": when()} for n in range(12)]
    bird.answers = [calls("schedule_task", *later), saying("done")]
    task = desk.run(org, submit(org, "Schedule it all").id)
    assert sorted(ok for _, ok in acts(task)) == [False] * 7 + [True] * 5
    assert number_of_tasks(org) == 6


def when() -> str:
    with db.transaction(UUID(int=0)) as connection:
        found = connection.execute(text("SELECT rota_now() + interval '1 hour'")).scalar_one()
    return str(found.isoformat())


def test_what_stems_from_a_task_costs_no_more_than_its_root_allows(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "schedule_task", max_tree_cost="0.000001")
    bird.answers = [
        calls("schedule_task", {"agent": "support-assistant", "message": "go on", "run_at": when()}),
        saying("done"),
    ]
    task = desk.run(org, submit(org, "Schedule it").id)
    assert acts(task) == [("schedule_task", False)]
    assert "the limit is $0.000001" in json.dumps(task.steps[2].output)


def test_a_task_that_an_agent_starts_has_no_more_means_than_that_agent(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "search_clients", "schedule_task", mode="semi-auto")
    agent(org, "retention-specialist", "search_clients", "update_client_status")
    ana = make_row(org, "clients", name="Ana Torres")
    set_rules(org, Rule(name="all", then="set", level="automatic"))
    wanted = {"agent": "retention-specialist", "message": "Cancel Ana Torres's membership", "run_at": when()}
    bird.answers = [calls("schedule_task", wanted), saying("done")]
    desk.run(org, submit(org, "Schedule it").id)
    with db.transaction(org) as connection:
        (child,) = connection.execute(text("SELECT id, bounds FROM tasks WHERE depth = 1")).all()
    assert (child.bounds["agents"], child.bounds["mode"]) == (["support-assistant"], "semi-auto")
    cancel = calls("update_client_status", {"client_id": str(ana), "status": "cancelled"})
    bird.answers = [cancel, saying("done")]
    task = desk.run(org, child.id)
    assert acts(task) == [("update_client_status", False)]
    # Done anew by a person, it is bounded as it was.
    with db.transaction(org) as connection:
        again = tasks.replay(connection, child.id, Replay(), SubmissionContext(user_id=owner_of(org)))
    bird.answers = [cancel, saying("done")]
    assert acts(desk.run(org, again.id)) == [("update_client_status", False)]


# ── ways round an approval ───────────────────────────────────────────────────────────────────────────────────────────


def wait_for_email(org: UUID, desk: Desk, bird: Parrot) -> tuple[Any, Approval]:
    agent(org, "support-assistant", "search_clients", "send_email", mode="semi-auto")
    with db.transaction(org) as connection:
        channels.set_up_email(
            connection, org, EmailChannel(host="127.0.0.1", port=25, security="none", sender="a@b.example")
        )
    email = ("send_email", '{"to": "a@example.com", "subject": "Hi", "body": "Hello"}')
    bird.answers = [asking(email), saying("done")]
    task = desk.run(org, submit(org).id)
    (asked,) = open_approvals(org, task.id)
    return task, asked


def test_a_tool_taken_from_an_agent_is_not_used_on_an_approval_given_before(
    org: UUID, desk: Desk, bird: Parrot
) -> None:
    task, asked = wait_for_email(org, desk, bird)
    say_yes(org, asked.id)
    agent(org, "support-assistant", "search_clients")
    task = desk.run(org, task.id, number=1)
    assert acts(task) == [("send_email", False)]
    agent(org, "support-assistant", "send_email", mode="semi-auto")
    task, asked = wait_for_email(org, desk, bird)
    agent(org, "support-assistant", "search_clients")
    with pytest.raises(Conflict, match="no tool send_email any more"):
        say_yes(org, asked.id)


def test_an_approval_does_not_outlive_a_cancellation(org: UUID, desk: Desk, bird: Parrot) -> None:
    task, asked = wait_for_email(org, desk, bird)
    say_yes(org, asked.id)
    with db.transaction(org) as connection:
        tasks.cancel(connection, task.id)
        tasks.retry(connection, task.id)
    task = desk.run(org, task.id, number=1)
    assert (task.status, task.waiting_for) == ("waiting", "advice")
    (anew,) = open_approvals(org, task.id)
    say_yes(org, anew.id)
    assert acts(desk.run(org, task.id, number=2)) == [("send_email", True)]


def test_what_was_refused_is_not_asked_again(org: UUID, desk: Desk, bird: Parrot) -> None:
    task, asked = wait_for_email(org, desk, bird)
    say_no(org, asked.id, "not that")
    same = ("send_email", json.dumps(asked.arguments | {"_why": "please"}))
    bird.answers = [asking(same), asking(same, same), saying("fine")]
    task = desk.run(org, task.id, number=1)
    assert task.status == "succeeded"
    assert acts(task) == [("send_email", False)] * 4
    assert "not that" in json.dumps([step.output for step in task.steps])


def test_a_tool_refused_three_times_is_not_asked_about_in_other_words(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "send_email", mode="semi-auto")
    wanted = [{"to": "a@example.com", "subject": "Hi", "body": f"Hello {n}"} for n in range(5)]
    bird.answers = [calls("send_email", *wanted[:3])]
    task = desk.run(org, submit(org).id)
    for asked in open_approvals(org, task.id):
        say_no(org, asked.id)
    bird.answers = [calls("send_email", *wanted[3:]), saying("fine")]
    task = desk.run(org, task.id, number=1)
    assert (task.status, open_approvals(org, task.id)) == ("succeeded", [])


def test_asking_for_approval_always_asks(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "request_approval")
    set_rules(org, Rule(name="all", then="set", level="automatic"))
    bird.answers = [calls("request_approval", {"question": "May I give 50 % off?"}), saying("done")]
    task = desk.run(org, submit(org).id)
    assert (task.status, task.waiting_for) == ("waiting", "approval")


def test_four_eyes_leave_the_decision_to_somebody_else(org: UUID, desk: Desk, bird: Parrot) -> None:
    set_rules(org, asks=[Ask(roles=["owner", "manager"], four_eyes=True)])
    _, asked = wait_for_email(org, desk, bird)
    with pytest.raises(NotPermitted, match="somebody else must decide"):
        say_yes(org, asked.id)
    assert say_yes(org, asked.id, make_user(org, "manager")).status == "approved"


def test_doing_an_approved_action_again_needs_who_could_have_approved_it(
    client: TestClient, org: UUID, desk: Desk, bird: Parrot
) -> None:
    agent(org, "support-assistant", "pay_out", mode="semi-auto")
    bird.answers = [asking(("pay_out", '{"n": 1}'))]
    task = desk.run(org, submit(org).id)
    (asked,) = open_approvals(org, task.id)
    say_yes(org, asked.id)

    def lose_the_answer(_: str) -> None:
        raise TimeoutError("no answer")

    outside.then = lose_the_answer
    task = desk.run(org, task.id, number=1)
    assert task.waiting_for == "outcome"
    url = f"/v1/tasks/{task.id}/steps/{asked.seq}/outcome"
    for scopes, expected in ((["tasks:*"], 403), (["tasks:*", "approvals:decide"], 200)):
        headers = {"Authorization": f"Bearer {make_key(org, SECRET_KEY, scopes=scopes)}"}
        assert client.post(url, json={"outcome": "do_again"}, headers=headers).status_code == expected


def test_people_are_not_asked_about_what_cannot_be_done(org: UUID, desk: Desk, bird: Parrot) -> None:
    agent(org, "support-assistant", "refund_payment", "cancel_booking", mode="semi-auto")
    ana = make_row(org, "clients", name="Ana Torres")
    payment = make_row(org, "payments", client_id=ana, amount=30, status="paid")
    bird.answers = [
        asking(
            ("refund_payment", json.dumps({"payment_id": str(payment), "amount": 29})),
            ("cancel_booking", json.dumps({"booking_id": str(payment)})),
        ),
        saying("sorry"),
    ]
    task = desk.run(org, submit(org, "Refund it").id)
    assert (task.status, acts(task)) == ("succeeded", [("refund_payment", False), ("cancel_booking", False)])


def test_an_action_that_the_wallet_cannot_pay_waits_for_funds_before_anybody_is_asked(
    org: UUID, desk: Desk, bird: Parrot
) -> None:
    agent(org, "support-assistant", "send_bulk_message", mode="semi-auto")
    clients = [str(make_row(org, "clients")) for _ in range(3)]
    with db.transaction(org) as connection:
        channels.set_up_email(
            connection, org, EmailChannel(host="127.0.0.1", port=25, security="none", sender="a@b.example")
        )
        wallet.correct(
            connection, org, Correction(tokens=2 - wallet.balance(connection, org).balance, note="for a test")
        )
    bird.answers = [calls("send_bulk_message", {"client_ids": clients, "body": "News"})]
    task = desk.run(org, submit(org).id)
    assert (task.status, task.waiting_for, open_approvals(org, task.id)) == ("waiting", "funds", [])


# ── what is written down, and what is refused ────────────────────────────────────────────────────────────────────────


def test_decisions_stand_in_the_audit_log_with_task_agent_and_tool(org: UUID, desk: Desk, bird: Parrot) -> None:
    for decide, verb in ((say_yes, "approved"), (say_no, "rejected"), (let_late, "denied")):
        _, asked = wait_for_email(org, desk, bird)
        decide(org, asked.id)
        with db.transaction(org) as connection:
            lines = audit.read(connection, task=asked.task_id, verb=verb).lines
        assert [(line.agent, line.subject, line.seq) for line in lines] == [
            ("support-assistant", "tool/send_email", asked.seq)
        ]


def let_late(org: UUID, approval: UUID) -> None:
    for _ in DEFAULT_POLICY.asks:
        let_time_pass(org, approval)


def test_what_the_database_refuses_is_an_answer_to_the_model(org: UUID, desk: Desk, bird: Parrot) -> None:
    make_location(org, "centro")
    agent(org, "support-assistant", "schedule_task")
    staff = make_user(org, "staff", at="centro")
    bird.answers = [
        calls("schedule_task", {"agent": "support-assistant", "message": "go on", "run_at": when()}),
        saying("sorry"),
    ]
    task = desk.run(org, submit(org, "Schedule it", user=staff).id)
    assert (task.status, task.attempts, acts(task)) == ("succeeded", 1, [("schedule_task", False)])
    assert "may not be done there" in json.dumps(task.steps[2].output)


@pytest.mark.parametrize("said", ['"0.3"', "30", '"low"', "true", "-1", "[]", "{}"])
def test_confidence_that_is_no_number_counts_as_unsure(org: UUID, desk: Desk, bird: Parrot, said: str) -> None:
    ana = make_row(org, "clients", name="Ana Torres")
    agent(org, "support-assistant", "update_client_tags", mode="semi-auto")
    bird.answers = [
        asking(("update_client_tags", f'{{"client_id": "{ana}", "add": ["vip"], "_confidence": {said}}}')),
        saying("done"),
    ]
    task = desk.run(org, submit(org).id)
    (asked,) = open_approvals(org, task.id)
    assert (asked.kind, asked.decision.confidence, asked.decision.rule) == ("suggestion", 0.0, "the agent is unsure")


def test_a_policy_keeps_its_caps(org: UUID) -> None:
    wanted = Policy(rules=[], asks=DEFAULT_POLICY.asks, caps=Caps(per_day=7, amount_per_task=Decimal("12.50")))
    with db.transaction(org) as connection:
        approvals.set_policy(connection, org, wanted)
        assert approvals.policy(connection, org) == wanted
