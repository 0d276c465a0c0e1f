"""What every task does to the database: in one statement each, and what becomes of it where something is in the way."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from agents.llm.models import Models
from agents.reference import ReferenceCache
from agents.tools import TOOLS
from api.app import make_app
from api.routes.tasks import _batches
from core import db, engines, prepared, refusals
from core.crypto import parse_api_key, secret_digest
from core.errors import Unavailable
from core.ids import new_id
from core.settings import Settings
from domain.approvals import queries as approval_queries
from domain.billing import service as billing
from domain.billing.schemas import BudgetFields, MoneyFacts, PriceFields
from domain.claims import queries as claim_queries
from domain.claims import service as claims
from domain.tasks import service as tasks
from domain.tasks.schemas import Due, NewTask, SubmissionContext
from domain.tenants import queries as tenant_queries
from domain.wallet import service as wallet
from domain.wallet.schemas import Correction
from tests.support.desk import Desk
from tests.support.factories import (
    change_agent,
    claim,
    look,
    make_key,
    make_organisation,
    owner_of,
    publish,
    register_worker,
    submission,
    submit,
)
from tests.support.models import Parrot, asking, saying
from tests.support.servers import SECRET_KEY, serving, valkey, wait_until
from workers import queues
from workers.broker import Broker, make_broker, transport_options

_SETTINGS = prepared.PreparedQuery(
    "SELECT current_setting('app.org') AS org, current_setting('synchronous_commit') AS durable"
)
_LEFT_BEHIND = b"SELECT coalesce(current_setting('app.org', true), ''), current_setting('synchronous_commit')"
_BROKEN = prepared.PreparedQuery("SELECT 1 / CAST(:zero AS integer) AS never")
_LOOK = ("search_classes", '{"query": "spin"}')


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def desk(org: UUID, parrot: Parrot) -> Iterator[Desk]:
    change_agent(org, "support-assistant", model="gpt-5-mini", fallback_model=None)
    with serving(parrot.app()) as url:
        made = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="none")))
        yield made
        made.close()


def rows(org: UUID, statement: str, **values: Any) -> list[Any]:
    with db.transaction(org) as connection:
        return list(connection.execute(text(statement), values))


def leave_only(org: UUID, tokens: int) -> None:
    """Take tokens away until so many are left."""
    with db.transaction(org) as connection:
        there = wallet.balance(connection, org).available
        wallet.correct(connection, org, Correction(tokens=tokens - there, note="for a test"))


# ── many submissions, one statement ──────────────────────────────────────────────────────────────────────────────────


def test_many_are_accepted_at_once_each_on_its_own_terms(org: UUID) -> None:
    terms = SubmissionContext(user_id=owner_of(org))
    offers = [
        NewTask(submission("one", concurrency_key="c"), terms),
        NewTask(submission("two"), terms, "k"),
        NewTask(submission("two"), terms, "k"),
        NewTask(submission("three", agent="nobody"), terms),
        NewTask(submission("four", concurrency_key="c"), terms),
        NewTask(submission("five", concurrency_key="d", contact=new_id()), terms.model_copy(update={"scopes": ["x"]})),
    ]
    found = tasks.submit_many(prepared.SingleStatement(org), offers)
    assert [task and task.input["message"] for task in found] == ["one", "two", None, None, "four", "five"]
    written = rows(
        org,
        "SELECT input ->> 'message' AS message, concurrency_key, key_position, parked, scopes, max_attempts, xmin::text"
        " FROM tasks ORDER BY id",
    )
    assert [tuple(row)[:5] for row in written] == [
        ("one", "c", 1, True, None), ("two", None, None, False, None), ("four", "c", 2, True, None),
        ("five", "d", 1, True, ["x"]),
    ]  # fmt: skip
    assert len({row.xmin for row in written}) == 1
    again = tasks.submit_many(prepared.SingleStatement(org), [NewTask(submission("six", concurrency_key="c"), terms)])
    assert rows(org, "SELECT key_position FROM tasks WHERE id = :id", id=again[0].id if again[0] else None) == [(3,)]


def test_submissions_that_come_together_are_one_transaction_and_a_bad_one_harms_no_other(org: UUID) -> None:
    bodies = [{"agent": "support-assistant", "input": {"message": f"number {number}"}} for number in range(5)]
    bodies.append({"agent": "nobody", "input": {"message": "never"}})
    bodies.append({"agent": "support-assistant", "input": {"message": "late"}, "run_after": "9999-12-31T23:59:59Z"})
    with (
        TestClient(make_app(), headers={"authorization": f"Bearer {make_key(org, SECRET_KEY)}"}) as client,
        ThreadPoolExecutor(10) as pool,
    ):
        with db.transaction(org) as connection:
            pid = prepared.driver(connection).info.backend_pid
            tasks.submit(connection, submission(), SubmissionContext(user_id=owner_of(org)), idempotency_key="k")
            first = pool.submit(client.post, "/v1/tasks", json=bodies[0], headers={"idempotency-key": "k"})
            wait_until(lambda: is_somebody_waiting_for(pid))
            others = [pool.submit(client.post, "/v1/tasks", json=body) for body in bodies]
            wait_until(lambda: len(_batches._waiting[org, None]) == len(bodies))
        assert first.result().status_code == 409
        assert [other.result().status_code for other in others] == [202] * 5 + [404] + [202]
    together = rows(org, "SELECT DISTINCT xmin::text FROM tasks WHERE idempotency_key IS NULL")
    assert len(together) == 1


def test_what_the_database_refuses_is_told_and_its_neighbours_are_there_once(org: UUID) -> None:
    terms = SubmissionContext(user_id=owner_of(org))
    stranger = NewTask(submission("refused"), SubmissionContext(user_id=new_id()))  # there is no such user
    offers = [
        NewTask(submission("first"), terms),
        NewTask(submission("a"), terms),
        stranger,
        NewTask(submission("b"), terms),
    ]

    async def submit_all() -> list[Any]:
        return await asyncio.gather(*(_batches.add((org, None), offer) for offer in offers), return_exceptions=True)

    *_, refused, _ = done = asyncio.run(submit_all())
    assert refusals.is_refusal(refused)
    assert [one.input["message"] for one in done if one is not refused] == ["first", "a", "b"]
    there = rows(org, "SELECT input ->> 'message' AS message FROM tasks ORDER BY message")
    assert [row.message for row in there] == ["a", "b", "first"]


def is_somebody_waiting_for(pid: int) -> bool:
    """Whether a connection waits for a transaction of the one with this process id."""
    waiting = text("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE :pid = ANY (pg_blocking_pids(pid)))")
    with db.system_transaction() as connection:
        return bool(connection.execute(waiting, {"pid": pid}).scalar())


# ── a statement that is a transaction by itself ──────────────────────────────────────────────────────────────────────


def test_a_key_with_a_wrong_secret_sees_nothing_and_leaves_nothing_on_the_connection(org: UUID) -> None:
    key = parse_api_key(make_key(org, SECRET_KEY))
    assert key is not None
    digest = secret_digest(key.secret, SECRET_KEY)
    assert tenant_queries.owner_of_key(key.id, secret_digest("guessed", SECRET_KEY)) == []
    assert rows(org, "SELECT last_used_at FROM api_keys WHERE id = :key", key=key.id) == [(None,)]
    found = tenant_queries.owner_of_key(key.id, digest)
    assert {(one.org_id, one.user_id) for one in found} == {(org, owner_of(org))}
    assert rows(org, "SELECT last_used_at IS NOT NULL FROM api_keys WHERE id = :key", key=key.id) == [(True,)]
    with engines.engine(engines.APP).connect() as connection:
        left = prepared.driver(connection).execute(
            b"SELECT coalesce(current_setting('app.org', true), ''), coalesce(current_setting('app.key', true), '')"
        )
        assert left.fetchone() == ("", "")


def test_a_statement_alone_acts_for_its_organisation_and_leaves_nothing_on_the_connection(org: UUID) -> None:
    usual = rows(org, "SHOW synchronous_commit")[0][0]
    for durable, setting in ((False, "off"), (True, "on")):
        found = _SETTINGS.run(prepared.SingleStatement(org, durable=durable), {}).first()
        assert found == {"org": str(org), "durable": setting}
        with engines.engine(engines.APP).connect() as connection:
            after = prepared.driver(connection).execute(_LEFT_BEHIND).fetchone()
        assert after == ("", usual)
    other = make_organisation("other")
    seen = prepared.PreparedQuery("SELECT EXISTS (SELECT FROM agents WHERE org_id = :org) AS seen")
    assert seen.run(prepared.SingleStatement(org), {"org": org}).first() == {"seen": True}
    assert seen.run(prepared.SingleStatement(other), {"org": org}).first() == {"seen": False}


def test_a_statement_alone_that_fails_says_so_and_the_connection_goes_on(org: UUID) -> None:
    for _ in range(2):
        with pytest.raises(DBAPIError, match="division by zero"):
            _BROKEN.run(prepared.SingleStatement(org), {"zero": 0})
        assert _SETTINGS.run(prepared.SingleStatement(org), {}).first() == {"org": str(org), "durable": "on"}


# ── the claim and its promise ────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_promises_what_was_asked_for_where_it_is_there(org: UUID) -> None:
    register_worker()
    first, second = submit(org).id, submit(org).id
    leave_only(org, 30)
    holds = []
    for task_id in (first, second):
        publish(org, task_id)
        held = claims.claim(prepared.SingleStatement(org, durable=False), task_id, 0, "w1", tokens=20)
        assert held
        holds.append(held.held_tokens)
    assert holds == [20, 0]
    with db.transaction(org) as connection:
        balance = wallet.balance(connection, org)
    assert (balance.balance, balance.held, balance.available) == (30, 20, 10)


def test_a_message_out_of_date_promises_nothing(org: UUID) -> None:
    task_id = submit(org).id
    assert claim(org, task_id)
    assert claims.claim(prepared.SingleStatement(org), task_id, 0, "w2", tokens=20) is None
    assert rows(org, "SELECT FROM holds") == []


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_ends_in_one_statement_and_its_hold_with_it(org: UUID, desk: Desk, parrot: Parrot) -> None:
    parrot.answers += [asking(_LOOK), saying("At seven."), asking(_LOOK), saying("At seven.")]
    for _ in range(2):  # the first learns the prices, the second is promised its tokens with the claim
        task = desk.run(org, submit(org, "When is spin?").id)
        assert (task.status, task.model_calls) == ("succeeded", 2)
        assert [step.stage for step in task.steps] == ["perceive", "decide", "act", "decide", "learn"]
    with db.transaction(org) as connection:
        assert wallet.balance(connection, org).held == 0
        checked = wallet.reconcile(connection, org)
        assert (checked.difference, checked.held_difference, checked.sum_over_accounts) == (0, 0, 0)
    assert rows(org, "SELECT FROM holds WHERE NOT is_over") == []


def test_the_last_token_is_enough_for_the_last_step(org: UUID, desk: Desk, parrot: Parrot) -> None:
    leave_only(org, 2)
    parrot.answers += [asking(_LOOK), saying("At seven.")]
    task = desk.run(org, submit(org, "When is spin?").id)
    assert task.status == "succeeded"
    with db.transaction(org) as connection:
        assert wallet.balance(connection, org).available == 0
        checked = wallet.reconcile(connection, org)
        assert (checked.difference, checked.held_difference, checked.sum_over_accounts) == (0, 0, 0)


def test_tokens_that_are_over_are_used_before_a_task_is_told_that_there_are_none(
    org: UUID, desk: Desk, parrot: Parrot
) -> None:
    leave_only(org, 20)
    parrot.answers += [saying("Yes."), saying("Yes.")]
    assert desk.run(org, submit(org).id).status == "succeeded"  # its hold of all 20 is over, and still on the wallet
    assert desk.run(org, submit(org).id).status == "succeeded"


# ── a paid decision that waits to be written with its look ───────────────────────────────────────────────────────────


def test_a_look_that_fails_loses_nothing_that_was_paid_for(
    org: UUID, desk: Desk, parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = TOOLS.get("search_classes")
    assert tool is not None

    def fail(_context: Any, _parameters: Any) -> Any:
        raise RuntimeError("the shelf fell down")

    with monkeypatch.context() as broken:
        found = TOOLS.get
        broken.setattr(TOOLS, "get", lambda name: replace(tool, run=fail) if name == tool.name else found(name))
        parrot.answers += [asking(_LOOK)]
        task_id = submit(org, "When is spin?").id
        task = desk.run(org, task_id)
    assert task.error.kind == "tool_failed"
    assert [(step.stage, step.status) for step in task.steps] == [("perceive", "done"), ("decide", "done")]
    assert [row.seq for row in rows(org, "SELECT seq FROM usage")] == [1]
    parrot.answers += [saying("At seven.")]
    task = desk.run(org, task_id, number=1)
    assert task.status == "succeeded"
    assert len(parrot.asked) == 2  # what was said is not asked for again
    assert [row.seq for row in rows(org, "SELECT seq FROM usage ORDER BY seq")] == [1, 3]


def test_a_stop_between_a_decision_and_its_look_writes_the_decision(
    org: UUID, desk: Desk, parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    parrot.answers += [asking(_LOOK)]
    task_id = submit(org, "When is spin?").id
    complete = desk.models.complete

    def ask_then_cancel(*given: Any) -> Any:
        reply = complete(*given)
        for _, interrupt in desk.presence.in_hand():
            interrupt.trigger("draining")
        return reply

    monkeypatch.setattr(desk.models, "complete", ask_then_cancel)
    task = desk.run(org, task_id)
    assert (task.status, task.attempts) == ("queued", 0)
    assert [(step.stage, step.status) for step in task.steps] == [("perceive", "done"), ("decide", "done")]
    assert len(rows(org, "SELECT FROM usage")) == 1
    assert look(org, task_id).attempt_history[0].outcome == "released"


# ── what is read once ────────────────────────────────────────────────────────────────────────────────────────────────


def test_prices_and_budgets_are_read_again_only_when_they_changed_and_then_at_once(
    org: UUID, desk: Desk, parrot: Parrot, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[UUID] = []
    facts, later = billing.money_facts, [0.0]

    def counted(at: Any, model: str) -> Any:
        reads.append(at.org)
        return facts(at, model)

    monkeypatch.setattr(billing, "money_facts", counted)
    monkeypatch.setattr("agents.reference.time", SimpleNamespace(monotonic=lambda: time.monotonic() + later[0]))
    price = PriceFields(provider="openai", input_per_million=Decimal(1), output_per_million=Decimal(1))

    def billed() -> Any:
        parrot.answers += [saying("At seven.")]
        return desk.run(org, submit(org, "When is spin?").id).steps[1].billed_cost

    public = billed()
    later[0] = 60  # whatever was read has been forgotten, but for what is known to be the same
    assert (billed(), len(reads)) == (public, 1)
    with db.transaction(org) as connection:
        billing.set_price(connection, org, "gpt-5-mini", price)
    assert (billed() != public, len(reads)) == (True, 2)
    with db.transaction(org) as connection:
        billing.set_budget(connection, org, "", BudgetFields(monthly_limit=Decimal(0)))
    parrot.answers.clear()
    stopped = desk.run(org, submit(org, "When is spin?").id)
    assert (stopped.status, stopped.waiting_for, len(reads)) == ("waiting", "budget", 3)
    with db.transaction(org) as connection:
        billing.remove_price(connection, "gpt-5-mini")
        billing.remove_budget(connection, org, "")
    assert (billed(), len(reads)) == (public, 4)


def test_what_changes_while_it_is_read_is_not_taken_for_the_new_version(
    org: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = ReferenceCache()
    reads: list[int] = []
    task_id = submit(org).id
    publish(org, task_id)
    task = claim(org, task_id)
    assert task is not None

    def read_as_it_changes(_at: Any, _model: str) -> Any:
        reads.append(len(reads))
        if len(reads) == 1:  # another task is claimed meanwhile, which sees the change
            reference.claimed(task.model_copy(update={"organisation_version": "newer"}))
        return MoneyFacts(price=None, has_budgets=False, endpoint=None)

    monkeypatch.setattr(billing, "money_facts", read_as_it_changes)
    reference.claimed(task)
    for _ in range(3):
        reference.own_price(org, "gpt-5-mini")
    assert len(reads) == 2


# ── the broker ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_broker_that_goes_away_between_two_portions_is_an_outage_and_no_crash(org: UUID, tmp_path: Path) -> None:
    due = [Due(id=new_id(), org_id=org, claim=0, queue="normal", agent="support-assistant")]
    home = tmp_path / "valkey"
    with valkey(home) as server:
        port, url = server.port, server.url()
        app = Celery("test", broker=url)
        app.conf.update(task_queues=queues.declared(url), broker_transport_options=transport_options(url))
        app.conf.task_publish_retry = False
        broker = make_broker(app, task_name="rota.run_task", url=url)
        broker.publish(due)
        assert broker.depths()["normal"] == 1
    with pytest.raises(Unavailable):
        broker.publish(due)
    with valkey(home, port=port):
        wait_until(lambda: publishes(broker, due), what="it publishes again")


def publishes(broker: Broker, due: list[Due]) -> bool:
    try:
        broker.publish(due)
    except Unavailable:
        return False
    return True


# ── what must not grow with history ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (claim_queries._LOCK_ORPHANED, {"lease": timedelta(seconds=10)}, "tasks_running"),
        (approval_queries._WAITING_FOR_NOTHING, {}, "tasks_waiting"),
    ],
)
def test_what_looks_for_a_few_tasks_does_not_walk_through_all(
    org: UUID, statement: Any, values: dict[str, Any], index: str
) -> None:
    with db.system_transaction() as connection:
        # With few rows a planner takes any way. Without these it takes the one that is in order, as it does with many.
        for way in ("seqscan", "bitmapscan", "sort"):
            connection.execute(text(f"SET LOCAL enable_{way} = off"))
        plan = connection.execute(text(f"EXPLAIN {statement.text}"), values).scalars()
        assert index in "\n".join(plan)
