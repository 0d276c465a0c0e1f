"""Money that is there again, by whichever way, and organisations that buy no tokens."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from agents.llm.models import Models
from api.app import make_app
from core import db
from core.ids import new_id
from core.settings import ROOT, Settings
from domain.billing import service as billing
from domain.billing.schemas import BudgetFields
from domain.dispatch import funding
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from domain.wallet import service as wallet
from domain.wallet.schemas import Correction
from embedded.rehearsal.server import make_app as make_rehearsal
from tests.support.desk import Desk
from tests.support.factories import OWNER, claim, look, make_key, make_organisation, make_row, submit
from tests.support.servers import SECRET_KEY, serving
from workers.duties.money import charge_fees, wake_funded


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with db.system_transaction() as connection:
        tenants.ensure_owner(connection, org, OWNER, is_operator=True)
    with TestClient(make_app()) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, scopes=['*', GOVERN])}"
        yield made


@pytest.fixture
def slug(org: UUID) -> str:
    with db.transaction(org) as connection:
        return tenants.get_organisation(connection, org).slug


def waiting(org: UUID, what: str, amount: str, agent: str = "support-assistant") -> UUID:
    """A task that waits for money."""
    task = submit(org, agent=agent)
    assert claim(org, task.id)
    with db.transaction(org) as connection:
        connection.execute(
            text(
                "UPDATE tasks SET status = 'waiting', waiting_for = :what, waiting_amount = :amount, worker = NULL "
                "WHERE id = :id"
            ),
            {"id": task.id, "what": what, "amount": Decimal(amount)},
        )
    return task.id


def those_that_go_on(org: UUID, *ids: UUID) -> list[bool]:
    return [look(org, task).status == "queued" for task in ids]


def leave_tokens(org: UUID, tokens: int, owed: int = 0) -> None:
    with db.transaction(org) as connection:
        had = wallet.balance(connection, org).available
        wallet.correct(connection, org, Correction(tokens=tokens - had, note="for the test"))
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE wallets SET owed = :owed WHERE org_id = :org"), {"owed": owed, "org": org})


def set_budget(org: UUID, dollars: str, agent: str = "") -> None:
    with db.transaction(org) as connection:
        billing.set_budget(connection, org, agent, BudgetFields(monthly_limit=Decimal(dollars)))


def top_up(client: TestClient, slug: str, tokens: int) -> None:
    assert client.post(f"/v1/organisations/{slug}/top-ups", json={"tokens": tokens}).status_code == 200


def correct(client: TestClient, slug: str, tokens: int) -> None:
    body = {"tokens": tokens, "note": "a gift"}
    assert client.post(f"/v1/organisations/{slug}/corrections", json=body).status_code == 200


@pytest.mark.parametrize("come", [top_up, correct])
def test_tokens_that_come_pay_what_is_owed_first_and_wake_only_what_they_cover(
    client: TestClient, org: UUID, slug: str, come: Callable[[TestClient, str, int], None]
) -> None:
    leave_tokens(org, 2, owed=100)
    first, second = waiting(org, "funds", "30"), waiting(org, "funds", "30")
    come(client, slug, 90)
    assert those_that_go_on(org, first, second) == [False, False]  # 8 are owed still
    come(client, slug, 50)
    assert those_that_go_on(org, first, second) == [True, False]  # 42 are there


def test_what_is_owed_keeps_everybody_waiting_whoever_looks(org: UUID) -> None:
    task, other = waiting(org, "funds", "1"), waiting(org, "budget", "0.01")
    leave_tokens(org, 50, owed=100)
    wake_funded()
    assert those_that_go_on(org, task, other) == [False, False]


def test_a_budget_lowered_or_set_anew_wakes_nobody_and_one_raised_those_it_covers(
    client: TestClient, org: UUID
) -> None:
    set_budget(org, "5")
    first, second = waiting(org, "budget", "3"), waiting(org, "budget", "3")
    for path, limit in (("/v1/budgets", "4"), ("/v1/budgets/support-assistant", "100")):
        assert client.put(path, json={"monthly_limit": limit}).status_code == 200
        assert those_that_go_on(org, first, second) == [False, False]
    assert client.put("/v1/budgets", json={"monthly_limit": "4.5"}).status_code == 200
    assert those_that_go_on(org, first, second) == [True, False]


def test_a_lifted_budget_wakes_what_the_other_one_covers(client: TestClient, org: UUID) -> None:
    set_budget(org, "4")
    set_budget(org, "1", agent="support-assistant")
    first, second = waiting(org, "budget", "3"), waiting(org, "budget", "3")
    assert client.delete("/v1/budgets/support-assistant").status_code == 204
    assert those_that_go_on(org, first, second) == [True, False]


def test_agents_with_budgets_of_their_own_share_what_the_organisation_has_left(org: UUID) -> None:
    set_budget(org, "4")
    set_budget(org, "3", agent="lead-nurture")
    set_budget(org, "3", agent="support-assistant")
    ids = [waiting(org, "budget", "3", agent) for agent in ("lead-nurture", "support-assistant", "operations-manager")]
    with db.transaction(org) as connection:
        assert funding.resume_waiting(connection, org) == 1
    assert those_that_go_on(org, *ids) == [True, False, False]


def test_a_budget_wakes_nobody_whose_wallet_cannot_pay_the_call(org: UUID) -> None:
    task = waiting(org, "budget", "0.01")
    leave_tokens(org, 0)
    wake_funded()
    assert those_that_go_on(org, task) == [False]
    leave_tokens(org, 1)
    wake_funded()
    assert those_that_go_on(org, task) == [True]


# ── no tokens are sold ───────────────────────────────────────────────────────────────────────────────────────────────


def test_who_buys_no_tokens_needs_none_owes_none_and_waits_for_none(config: Settings) -> None:
    org = make_organisation(f"free-{new_id().hex[-12:]}", tokens=0, is_prepaid=False)
    make_row(org, "clients")
    with serving(make_rehearsal()) as url:
        desk = Desk(Models(Settings(rehearsal_url=url)))
        try:
            task = desk.run(org, submit(org, "Show me the profile of Ana Torres").id)
        finally:
            desk.close()
    assert (task.status, task.waiting_for) == ("succeeded", None)
    with db.system_transaction() as connection:
        connection.execute(
            text("UPDATE organisations SET created_at = created_at - interval '3 months' WHERE id = :org"), {"org": org}
        )
    charge_fees()
    with db.transaction(org) as connection:
        found = wallet.balance(connection, org)
        assert (found.balance, found.owed, found.is_prepaid) == (0, 0, False)
        assert wallet.statement(connection, org).entries == []


def test_who_no_longer_buys_tokens_waits_for_none_any_more(org: UUID) -> None:
    leave_tokens(org, 0, owed=20)
    task = waiting(org, "funds", "30")
    with db.system_transaction() as connection:
        tenants.set_prepaid(connection, org, is_prepaid=False)
    wake_funded()
    assert those_that_go_on(org, task) == [True]


def set_up(slug: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", "setup", slug, *options]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)


def test_set_up_sells_tokens_only_where_it_is_told_to(config: Settings) -> None:
    slug = f"shop-{new_id().hex[-12:]}"

    def stands() -> tuple[bool, int]:
        with db.system_transaction() as connection:
            org = tenants.organisation_called(connection, slug)
        with db.transaction(org.id) as connection:
            return org.is_prepaid, wallet.balance(connection, org.id).balance

    assert set_up(slug).returncode == 0
    assert stands() == (False, 0)
    refused = set_up(slug, "--tokens", "5")
    assert (refused.returncode, "--tokens needs --prepaid" in refused.stderr) == (2, True)
    assert set_up(slug, "--prepaid").returncode == 0
    assert stands() == (True, 1_000)
    assert set_up(slug, "--no-prepaid").returncode == 0
    assert stands() == (False, 1_000)
