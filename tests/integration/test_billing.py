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
from sqlalchemy import Connection, text

from core import db
from core.errors import NotFound
from core.ids import new_id
from core.settings import Settings
from domain.billing import service as billing
from domain.billing.export import as_csv
from domain.billing.schemas import BudgetFields, PriceFields
from domain.channels import service as channels
from tests.support.clock import movable_clock
from tests.support.factories import make_organisation, owner_of
from tests.support.outbox import deliver_all
from workers.duties.bills import watch_budgets

_USAGE = text("""
    INSERT INTO usage (id, org_id, task_id, seq, step_id, agent_id, agent, provider, model, input_tokens, cached_tokens,
                       cache_write_tokens, output_tokens, base_cost, markup, billed_cost, price, is_rehearsal,
                       is_estimated, is_unpriced, conversation, workflow_run, created_at)
    VALUES (:id, :org, :id, 1, :id, :id, :agent, 'openai', :model, 10, 2, 0, 5, :base, 0.2, :base * 1.2, '{}',
            :rehearsal, :estimated, :unpriced, :conversation, CAST(:workflow AS uuid),
            coalesce(CAST(:at AS timestamptz), rota_now()))
""")


def close_all(connection: Connection) -> None:
    """Close every month that is due, of other tests' organisations too: one call takes a hundred."""
    while billing.close_months(connection):
        pass


def spend(org: UUID, base: str = "0.0000000001", *, at: datetime | None = None, **more: Any) -> None:
    """A usage row."""
    row = {"agent": "a", "model": "m", "conversation": None, "workflow": None}
    row |= dict.fromkeys(("rehearsal", "estimated", "unpriced"), False) | more
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
        close_all(connection)
    assert bill(org, month).closed_at is None  # not before all of it is totalled
    total()
    for _ in range(2):
        with db.system_transaction() as connection:
            close_all(connection)
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


def test_calls_of_every_kind_are_counted_apart_before_and_after_they_are_totalled(org: UUID) -> None:
    run = new_id()
    for times in (1, 2):
        spend(org, rehearsal=True)
        spend(org, estimated=True, workflow=run)
        spend(org, unpriced=True, estimated=True)
        for _ in range(2):
            found = bill(org)
            counts = ("model_calls", "rehearsal_calls", "estimated_calls", "unpriced_calls")
            assert [getattr(found.total, name) for name in counts] == [3 * times, times, 2 * times, times]
            tokens = ("input_tokens", "cached_tokens", "output_tokens")
            assert [getattr(found.total, name) for name in tokens] == [30 * times, 6 * times, 15 * times]
            assert [(line.name, line.model_calls) for line in found.by_workflow] == [(str(run), times)]
            assert found.by_conversation == []
            total()


def test_the_dearest_hundred_are_shown_while_a_month_lasts_and_all_when_it_is_closed(org: UUID) -> None:
    last = (datetime.now(UTC).replace(day=1) - timedelta(days=3)).replace(hour=12)
    for number in range(103):
        spend(org, f"0.{number + 100}", conversation=f"c{number:03}", at=last)
    spend(org, "0.1", conversation="c002", at=last)  # the third cheapest becomes one of the dearer ones
    for _ in range(2):
        shown = bill(org, last.date()).by_conversation
        assert len(shown) == 100
        assert [line.billed_cost for line in shown] == sorted((line.billed_cost for line in shown), reverse=True)
        assert not {"c000", "c001", "c003"} & {line.name for line in shown}
        assert "c002" in {line.name for line in shown}
        total()
    with db.system_transaction() as connection:
        close_all(connection)
    closed = bill(org, last.date())
    assert (closed.month.day, len(closed.by_conversation)) == (1, 103)
    assert sum(line.billed_cost for line in closed.by_conversation) == closed.total.billed_cost


def test_new_usage_lifts_what_was_totalled_among_the_dearest(org: UUID) -> None:
    for number in range(101):
        spend(org, f"0.{number + 100}", conversation=f"c{number:03}")
    total()
    spend(org, "5", conversation="c000")  # the cheapest of the totals, which is not among the first hundred
    first = bill(org).by_conversation[0]
    assert (first.name, first.model_calls, first.base_cost) == ("c000", 2, Decimal("5.1"))


def test_a_month_is_closed_an_hour_after_it_ended_by_the_organisations_clock(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 5, 31, 12, tzinfo=UTC))
        spend(org, "1")
        total()
        # In Madrid, midnight of 1 June is 22:00 by UTC.
        for hour, is_closed in ((22, False), (23, True)):
            clock.move_to(datetime(2027, 5, 31, hour, 0, 1, tzinfo=UTC) + timedelta(seconds=0 if is_closed else 3_500))
            with db.system_transaction() as connection:
                close_all(connection)
            assert (bill(org, date(2027, 5, 1)).closed_at is not None) is is_closed


def test_the_history_has_the_last_24_months_with_any_usage_newest_first(org: UUID) -> None:
    for number in range(30):
        if number != 3:
            spend(org, at=datetime(2023 + number // 12, number % 12 + 1, 15, tzinfo=UTC))
    with db.transaction(org) as connection:
        found = [one.month for one in billing.usage_report(connection, org, date(2023, 1, 31)).history]
    expected = [date(2023 + number // 12, number % 12 + 1, 1) for number in range(29, -1, -1) if number != 3]
    assert found == expected[:24]


def test_an_organisation_sees_its_own_usage_only(org: UUID, config: Settings) -> None:
    other = make_organisation(f"bill-{new_id().hex[-12:]}")
    month = date(2025, 10, 1)
    spend(other, "7", at=datetime(2025, 10, 15, tzinfo=UTC))
    for _ in range(2):
        with db.transaction(org) as connection:
            assert billing.bill(connection, other, month).total.model_calls == 0
            assert billing.usage_report(connection, org).history == []
        total()
    assert bill(other, month).total.base_cost == Decimal(7)


# ── prices ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PRICE = PriceFields(provider="openai", input_per_million=Decimal(2), output_per_million=Decimal(8))


def test_an_own_price_is_set_changed_and_removed_for_its_organisation_only(org: UUID, config: Settings) -> None:
    other = make_organisation(f"bill-{new_id().hex[-12:]}")
    dearer = PRICE.model_copy(update={"input_per_million": Decimal(3), "context_window": 9_000})
    for fields in (PRICE, dearer):
        with db.transaction(org) as connection:
            assert billing.set_price(connection, org, "mine", fields).model_dump(exclude={"model", "updated_at"}) == (
                fields.model_dump()
            )
    with db.transaction(other) as connection:
        assert billing.own_price(connection, "mine") is None
        assert billing.money_facts(connection, "mine").price is None
        with pytest.raises(NotFound, match="'mine'"):
            billing.remove_price(connection, "mine")
    with db.transaction(org) as connection:
        facts = billing.money_facts(connection, "mine")
        assert facts.price == billing.own_price(connection, "mine")
        assert facts.price is not None
        assert (facts.price.input_per_million, facts.has_budgets, facts.endpoint) == (Decimal(3), False, None)
        billing.remove_price(connection, "mine")
        assert billing.own_price(connection, "mine") is None


def test_prices_are_listed_by_name_an_own_one_in_place_of_the_public_one_and_no_unknown_ones(org: UUID) -> None:
    with db.transaction(org) as connection:
        billing.set_price(connection, org, "zebra", PRICE)
        billing.set_price(connection, org, "gpt-4o-mini", PRICE)
        found = billing.list_prices(connection, org, ["no-such-model", "claude-haiku-4-5", "gpt-4o-mini"])
    assert [(one.model, one.source) for one in found] == [
        ("claude-haiku-4-5", "public"), ("gpt-4o-mini", "organisation"), ("zebra", "organisation"),
    ]  # fmt: skip
    assert {one.input_per_million / one.base.input_per_million for one in found} == {1 + found[0].markup}


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


def test_a_small_call_reserves_enough_for_the_next_ones_and_a_large_one_what_it_needs(org: UUID) -> None:
    set_budget(org, "1")
    task = new_id()
    for dollars, held in (("0.04", "0.05"), ("0.05", "0.05"), ("0.06", "0.10"), ("0.30", "0.30")):
        reserve(org, task, dollars)
        assert used(org)[""] == (Decimal(0), Decimal(held)), dollars


def test_what_is_left_of_a_budget_may_be_less_than_is_usually_reserved(org: UUID) -> None:
    set_budget(org, "0.07")
    reserve(org, new_id(), "0.05")
    reserve(org, new_id(), "0.02")  # all that is left, and no more than that
    with pytest.raises(billing.BudgetExhausted, match=r"of the organisation \(\$0\.0700*\)") as refused:
        reserve(org, new_id(), "0.000001")
    assert refused.value.details == {"needed": Decimal("0.000001")}
    assert used(org)[""] == (Decimal(0), Decimal("0.07"))


def test_what_is_left_of_each_budget_is_told_for_the_whole_and_for_agents(org: UUID) -> None:
    set_budget(org, "1")
    set_budget(org, "0.5", agent="a")
    set_budget(org, "0.2", agent="b")
    task = new_id()
    reserve(org, task, "0.3")
    with db.transaction(org) as connection:
        billing.draw(connection, task, Decimal("0.1"))
        assert billing.room(connection, org) == {"": Decimal("0.7"), "a": Decimal("0.2"), "b": Decimal("0.2")}
        assert billing.has_budgets(connection, org)


def test_a_task_that_goes_on_in_another_month_draws_on_that_month(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 1, 31, 12, tzinfo=UTC))
        set_budget(org, "1")
        task = new_id()
        reserve(org, task, "0.4")
        with db.transaction(org) as connection:
            billing.draw(connection, task, Decimal("0.1"))
        clock.move(timedelta(days=1))
        reserve(org, task, "0.4")
        with db.transaction(org) as connection:
            billing.draw(connection, task, Decimal("0.3"))
        assert used(org)[""] == (Decimal("0.3"), Decimal("0.1"))
        with db.transaction(org) as connection:
            billing.release_reserves(connection, task)
            billing.release_reserves(connection, task)  # once more does nothing
            months = connection.execute(text("SELECT spent, held FROM budget_months ORDER BY month")).all()
        assert [tuple(month) for month in months] == [(Decimal("0.1"), Decimal(0)), (Decimal("0.3"), Decimal(0))]


def test_a_removed_budget_limits_nothing_and_takes_its_reserves_along(org: UUID, config: Settings) -> None:
    set_budget(org, "0.1")
    set_budget(org, "0.1", agent="a")
    task = new_id()
    reserve(org, task, "0.1")
    with db.transaction(org) as connection:
        billing.remove_budget(connection, org, "a")
    with pytest.raises(billing.BudgetExhausted, match="of the organisation"):
        reserve(org, new_id(), "0.1")
    with db.transaction(org) as connection:
        billing.remove_budget(connection, org, "")
        assert billing.list_budgets(connection, org) == []
        assert not connection.execute(text("SELECT 1 FROM budget_holds")).all()
    reserve(org, new_id(), "100")
    for agent, said in (("", "no budget for the organisation"), ("a", "no budget for a")):
        with pytest.raises(NotFound, match=said), db.transaction(org) as connection:
            billing.remove_budget(connection, org, agent)


def test_a_budget_of_one_organisation_does_not_limit_another(org: UUID, config: Settings) -> None:
    set_budget(org, "0")
    other = make_organisation(f"bill-{new_id().hex[-12:]}")
    reserve(other, new_id(), "9")
    assert used(other) == {}
    with pytest.raises(billing.BudgetExhausted):
        reserve(org, new_id(), "0.000001")
    with db.transaction(org) as connection:
        (budget,) = billing.list_budgets(connection, org)
    assert budget.share == 1.0  # a limit of nothing is used up
