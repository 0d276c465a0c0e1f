"""Usage, totals, bills and budgets: exact, never twice, and the same however they are read."""

import csv
import io
import random
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from core import db
from core.ids import new_id
from core.settings import Settings
from domain.billing import service as billing
from domain.billing.export import as_csv
from domain.billing.schemas import BudgetFields
from domain.channels import service as channels
from tests.support.clock import movable_clock
from tests.support.factories import make_organisation, owner_of
from tests.support.outbox import deliver_all
from workers.duties.bills import watch_budgets

_USAGE = text("""
    INSERT INTO usage (id, org_id, task_id, seq, step_id, agent_id, agent, provider, model, input_tokens, cached_tokens,
                       cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price, is_rehearsal,
                       conversation, created_at)
    VALUES (:id, :org, :id, 1, :id, :id, :agent, 'openai', :model, 10, 2, 0, 5, :base, 0.2, :base * 1.2, '{}', false,
            :conversation, coalesce(CAST(:at AS timestamptz), rota_now()))
""")


def spend(org: UUID, base: str = "0.0000000001", *, at: datetime | None = None, **more: Any) -> None:
    """A usage row."""
    row = {"agent": "a", "model": "m", "conversation": None} | more
    with db.transaction(org) as connection:
        connection.execute(_USAGE, row | {"id": new_id(), "org": org, "base": Decimal(base), "at": at})


def total(batches: int = 100) -> None:
    for _ in range(batches):
        with db.system_transaction() as connection:
            if not billing.total_usage(connection):
                return


def bill(org: UUID, month: date | None = None) -> Any:
    with db.transaction(org) as connection:
        return billing.bill(connection, org, month)


def test_a_bill_is_the_same_before_while_and_after_it_is_totalled(org: UUID) -> None:
    for number in range(30):
        spend(org, "0.0000000003", model=f"m{number % 2}", agent=f"a{number % 3}", conversation=f"c{number % 5}")
    before = bill(org)
    assert before.total.billed_cost == Decimal("0.0000000120")  # each row was rounded as it was charged
    assert before.total.base_cost == Decimal("0.0000000090")
    total()
    for number in range(3):
        spend(org, model="m0", agent=f"a{number}")
    after = bill(org)
    assert after.total.model_calls == 33
    assert sum(line.billed_cost for line in after.by_agent) == after.total.billed_cost
    assert sum(line.model_calls for line in after.by_model) == 33
    assert {line.name: line.model_calls for line in after.by_conversation} == {f"c{number}": 6 for number in range(5)}
    total()
    assert bill(org) == after


def test_totals_agree_with_the_rows_while_others_write_and_total(org: UUID) -> None:
    def write() -> None:
        for _ in range(60):
            spend(org, "0.01", agent=random.choice("abc"))

    threads = [threading.Thread(target=write) for _ in range(3)] + [
        threading.Thread(target=total, args=(20,)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    seen = [bill(org).total.model_calls for _ in range(10)]
    for thread in threads:
        thread.join()
    assert seen == sorted(seen)
    total()
    assert bill(org).total.model_calls == 180
    assert bill(org).total.base_cost == Decimal("1.80")


def test_a_closed_month_does_not_change_any_more(org: UUID) -> None:
    last = (datetime.now(UTC).replace(day=1) - timedelta(days=3)).replace(hour=12)
    month = last.date().replace(day=1)
    spend(org, "1.5", at=last)
    with db.system_transaction() as connection:
        billing.close_months(connection)
    assert bill(org, month).closed_at is None  # not before all of it is totalled
    total()
    for _ in range(2):
        with db.system_transaction() as connection:
            billing.close_months(connection)
    closed = bill(org, month)
    assert closed.closed_at
    assert closed.total.billed_cost == Decimal("1.8")
    spend(org, "9", at=last)
    total()
    assert bill(org, month) == closed
    with pytest.raises(Exception, match="permission denied"), db.transaction(org) as connection:
        connection.execute(text("UPDATE bills SET body = '{}'"))


def test_an_empty_month_is_a_bill_of_nothing_and_csv_says_the_same(org: UUID) -> None:
    empty = bill(org, date(2020, 2, 1))
    assert (empty.total.model_calls, empty.by_model, empty.markup) == (0, [], 0)
    spend(org, "0.5", agent="=cmd|' /C calc'!A0", conversation="c")
    rows = list(csv.DictReader(io.StringIO(as_csv(bill(org)))))
    assert [(row["part"], row["model_calls"]) for row in rows] == [
        ("total", "1"), ("model", "1"), ("agent", "1"), ("conversation", "1"),
    ]  # fmt: skip
    assert rows[2]["name"].startswith("'=")
    assert Decimal(rows[0]["billed_cost"]) == Decimal("0.6")


@hypothesis_settings(
    max_examples=15, deadline=timedelta(seconds=20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.sampled_from("ab"), st.booleans()), max_size=12))
def test_over_random_histories_every_breakdown_sums_to_the_total(
    config: Settings, history: list[tuple[int, str, bool]]
) -> None:
    org = make_organisation(f"bill-{new_id().hex[-12:]}")
    for units, agent, total_now in history:
        spend(org, str(Decimal(units).scaleb(-10)), agent=agent, model=f"m{agent}")
        if total_now:
            total(1)
    found = bill(org)
    assert found.total.base_cost == sum((Decimal(units).scaleb(-10) for units, _, _ in history), start=Decimal(0))
    for lines in (found.by_model, found.by_agent):
        assert sum((line.base_cost for line in lines), start=Decimal(0)) == found.total.base_cost
        assert sum((line.billed_cost for line in lines), start=Decimal(0)) == found.total.billed_cost


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def reserve(org: UUID, task: UUID, dollars: str, agent: str = "a") -> None:
    with db.transaction(org) as connection:
        billing.reserve(connection, org, agent, task, lambda: Decimal(dollars))


def set_budget(org: UUID, dollars: str, agent: str = "") -> None:
    with db.transaction(org) as connection:
        billing.set_budget(connection, org, agent, BudgetFields(monthly_limit=Decimal(dollars)))


def used(org: UUID) -> dict[str, tuple[Decimal, Decimal]]:
    with db.transaction(org) as connection:
        return {one.agent: (one.spent, one.held) for one in billing.list_budgets(connection, org)}


def test_without_a_budget_nothing_is_reckoned(org: UUID) -> None:
    def never() -> Decimal:
        raise AssertionError

    with db.transaction(org) as connection:
        billing.reserve(connection, org, "a", new_id(), never)


def test_a_budget_holds_whatever_runs_at_once(org: UUID) -> None:
    set_budget(org, "1")
    ids = [new_id() for _ in range(40)]
    outcomes: list[bool] = []

    def call(task: UUID) -> None:
        try:
            reserve(org, task, "0.10")
        except billing.BudgetExhausted:
            outcomes.append(False)
            return
        outcomes.append(True)

    threads = [threading.Thread(target=call, args=(task,)) for task in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 10
    assert used(org) == {"": (Decimal(0), Decimal(1))}


def test_what_a_call_cost_counts_and_the_rest_is_given_back(org: UUID) -> None:
    set_budget(org, "1")
    set_budget(org, "0.2", agent="a")
    task = new_id()
    reserve(org, task, "0.15")
    with db.transaction(org) as connection:
        billing.draw(connection, task, Decimal("0.04"))
    assert used(org) == {"": (Decimal("0.04"), Decimal("0.11")), "a": (Decimal("0.04"), Decimal("0.11"))}
    with db.transaction(org) as connection:
        billing.release_reserves(connection, task)
    assert used(org) == {"": (Decimal("0.04"), Decimal(0)), "a": (Decimal("0.04"), Decimal(0))}
    with pytest.raises(billing.BudgetExhausted, match="agent a"):
        reserve(org, new_id(), "0.17")
    assert used(org)[""] == (Decimal("0.04"), Decimal(0))  # in all budgets, or in none
    reserve(org, new_id(), "0.17", agent="b")


def test_a_budget_set_in_mid_month_counts_what_was_spent_before(org: UUID) -> None:
    spend(org, "0.5", agent="a")
    set_budget(org, "0.65")
    assert used(org)[""][0] == Decimal("0.6")
    with pytest.raises(billing.BudgetExhausted):
        reserve(org, new_id(), "0.06")
    reserve(org, new_id(), "0.05")


def test_people_are_told_once_at_each_mark(org: UUID) -> None:
    set_budget(org, "1")
    for amount, told in (("0.4", 0), ("0.2", 1), ("0.1", 1), ("0.25", 2), ("0.05", 3)):
        task = new_id()
        reserve(org, task, amount)
        with db.transaction(org) as connection:
            billing.draw(connection, task, Decimal(amount))
            billing.release_reserves(connection, task)
        watch_budgets()
        deliver_all(org)
        with db.transaction(org) as connection:
            found = channels.notifications(connection, owner_of(org))
        assert len(found) == told, (amount, [one.title for one in found])
    assert [one.title.partition(" %")[0] for one in found] == ["100", "80", "50"]


def told_of(org: UUID) -> list[str]:
    """The marks that the owner was told of, the latest first."""
    watch_budgets()
    deliver_all(org)
    with db.transaction(org) as connection:
        found = channels.notifications(connection, owner_of(org))
    return [one.title.partition(" %")[0] for one in found if one.kind == "budget.crossed"]


@pytest.mark.parametrize("agent", ["", "a"])
def test_a_limit_below_what_is_spent_is_crossed_at_once_and_told_once(org: UUID, agent: str) -> None:
    spend(org, "0.5", agent="a")
    set_budget(org, "0.000001", agent)
    assert told_of(org) == ["100"]
    set_budget(org, "0.000001", agent)
    set_budget(org, "0", agent)
    assert told_of(org) == ["100"]


def test_a_changed_limit_is_told_of_only_at_marks_that_were_not_told(org: UUID) -> None:
    spend(org, "0.5")
    set_budget(org, "1")  # 60 % are spent
    assert told_of(org) == ["50"]
    set_budget(org, "1.1")
    assert told_of(org) == ["50"]
    set_budget(org, "0.7")
    assert told_of(org) == ["80", "50"]
    set_budget(org, "10")
    assert told_of(org) == ["80", "50"]
    set_budget(org, "1")  # it had fallen below
    assert told_of(org) == ["50", "80", "50"]


def test_months_are_those_of_the_organisations_clock(org: UUID) -> None:
    # In Madrid, 23:30 of 31 October by UTC is half past midnight of 1 November.
    spend(org, "1", at=datetime(2025, 10, 31, 23, 30, tzinfo=UTC))
    spend(org, "2", at=datetime(2025, 10, 31, 22, 30, tzinfo=UTC))
    for _ in range(2):  # before and after it is totalled
        assert bill(org, date(2025, 10, 1)).total.base_cost == Decimal(2)
        assert bill(org, date(2025, 11, 1)).total.base_cost == Decimal(1)
        with db.transaction(org) as connection:
            history = billing.usage_report(connection, org).history
        assert [(one.month, one.base_cost) for one in history] == [
            (date(2025, 11, 1), Decimal(1)), (date(2025, 10, 1), Decimal(2)),
        ]  # fmt: skip
        total()


def test_a_budget_begins_anew_with_the_organisations_month(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 1, 31, 22, 45, tzinfo=UTC))  # a quarter to midnight in Madrid
        set_budget(org, "1")
        reserve(org, new_id(), "0.9")
        clock.move(timedelta(minutes=20))
        reserve(org, new_id(), "0.9")
        assert used(org)[""] == (Decimal(0), Decimal("0.9"))
