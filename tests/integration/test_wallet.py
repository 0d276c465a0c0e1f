"""The wallet: never negative, every token traceable, whatever runs at once and whoever dies."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from core import db, engines
from core.errors import Conflict
from core.ids import new_id
from core.settings import ROOT, Settings
from domain.channels import service as channels
from domain.tasks import service as tasks
from domain.tenants import service as tenants
from domain.wallet import service as wallet
from domain.wallet.schemas import (
    Balance,
    Correction,
    DueFee,
    Entry,
    InsufficientFunds,
    NewTokenPrice,
    Reconciliation,
    TopUp,
)
from tests.support.clock import movable_clock
from tests.support.factories import claim, make_organisation, owner_of, submit
from tests.support.outbox import deliver_all
from tests.support.servers import wait_until
from workers.duties.money import wake_funded, watch_wallets


def poor(tokens: int = 0) -> UUID:
    """An organisation with so many tokens."""
    org = make_organisation(f"poor-{new_id().hex[-12:]}", tokens=1)
    with db.transaction(org) as connection:
        wallet.correct(connection, org, Correction(tokens=tokens - 1, note="for the test")) if tokens != 1 else None
    return org


def balance(org: UUID) -> Balance:
    with db.transaction(org) as connection:
        return wallet.balance(connection, org)


def reconciled(org: UUID) -> Reconciliation:
    """The wallet against its ledger, which must agree to the token."""
    with db.transaction(org) as connection:
        found = wallet.reconcile(connection, org)
    assert (found.difference, found.held_difference, found.sum_over_accounts) == (0, 0, 0)
    return found


def charge(org: UUID, task: UUID, tokens: int = 1, seq: int = 1) -> None:
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task, tokens)
        wallet.spend_ensured(connection, task, seq, "email", tokens)


def release(org: UUID, task: UUID) -> None:
    with db.transaction(org) as connection:
        wallet.release(connection, task)


def test_of_two_hundred_debits_at_once_against_half_of_them_half_succeed(config: Settings) -> None:
    org = poor(100)
    gate = threading.Barrier(20)

    def debit(number: int) -> bool:
        if number < 20:
            gate.wait()
        task = new_id()
        try:
            with db.transaction(org) as connection:
                wallet.ensure(connection, org, task, 1)
                wallet.spend_ensured(connection, task, 1, "email", 1)
                wallet.release(connection, task)  # or each would keep a chunk from the others
        except InsufficientFunds:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(debit, range(200)))
    assert outcomes.count(True) == 100
    assert balance(org) == Balance(balance=0, held=0, available=0, owed=0)
    reconciled(org)


def test_chunks_are_held_back_only_while_they_are_there(config: Settings) -> None:
    org = poor(25)
    one, other = new_id(), new_id()
    charge(org, one)
    assert balance(org) == Balance(balance=24, held=19, available=5, owed=0)
    charge(org, other, 5)  # less than a chunk is left, and it is enough
    with pytest.raises(InsufficientFunds, match="0 are available"):
        charge(org, other)
    release(org, one)
    charge(org, other)
    release(org, other)
    assert balance(org) == Balance(balance=18, held=0, available=18, owed=0)
    release(org, other)  # the second click
    assert reconciled(org).ledger_available == 18


def test_workers_killed_in_the_middle_keep_nothing_and_lose_nothing(config: Settings) -> None:
    org = poor(2_000)
    command = [sys.executable, "-m", "tests.support.spender", str(org)]
    for _ in range(4):
        processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
        goal = count_of_entries(org) + 40
        wait_until(lambda goal=goal: count_of_entries(org) > goal or balance(org).available < 20)  # type: ignore[misc]
        for process in processes:
            process.kill()
            process.wait()
        assert balance(org).available >= 0
        reconciled(org)
    with db.system_transaction() as connection:
        left = wallet.holds_left_behind(connection)
    for task in left:
        with db.system_transaction() as connection:
            assert wallet.release_left_behind(connection, task)
    found = balance(org)
    assert found.held == 0
    spent = count_of_entries(org) * 3
    assert found.balance == 2_000 - spent >= 0
    reconciled(org)


def count_of_entries(org: UUID) -> int:
    with db.transaction(org) as connection:
        found: int = connection.execute(text("SELECT count(*) FROM wallet_entries WHERE reason = 'spend'")).scalar_one()
    return found


def test_the_hold_of_a_task_at_work_is_left_alone(config: Settings, org: UUID) -> None:
    task = submit(org)
    assert claim(org, task.id)
    charge(org, task.id)
    with db.system_transaction() as connection:
        assert task.id not in wallet.holds_left_behind(connection)
        assert not wallet.release_left_behind(connection, task.id)
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE tasks SET status = 'queued', worker = NULL WHERE id = :id"), {"id": task.id})
    with db.system_transaction() as connection:
        assert task.id in wallet.holds_left_behind(connection)
        assert wallet.release_left_behind(connection, task.id)


def test_a_top_up_with_the_same_key_is_one_and_with_another_amount_a_conflict(config: Settings) -> None:
    org = poor()
    with db.transaction(org) as connection:
        for _ in range(2):
            assert wallet.top_up(connection, org, TopUp(tokens=50), reference="invoice-1").balance == 50
        with pytest.raises(Conflict):
            wallet.top_up(connection, org, TopUp(tokens=60), reference="invoice-1")


def test_what_did_not_happen_is_paid_back_once(config: Settings) -> None:
    org, task = poor(100), new_id()
    charge(org, task, 10, seq=4)
    for expected in (10, 0):
        with db.transaction(org) as connection:
            assert wallet.refund(connection, org, task, 4, "it did not happen") == expected
    release(org, task)
    assert balance(org).balance == 100
    assert reconciled(org).entries == 4


def test_fees_are_charged_once_a_month_and_owed_where_the_wallet_is_too_small(config: Settings) -> None:
    org = poor(250)
    with db.system_transaction() as connection:  # as if it had become prepaid two months ago
        connection.execute(
            text("UPDATE organisations SET prepaid_since = rota_now() - interval '2 months' WHERE id = :org"),
            {"org": org},
        )
    threads = [threading.Thread(target=_charge_fees) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert balance(org) == Balance(balance=50, held=0, available=50, owed=200)
    with pytest.raises(InsufficientFunds, match="200 are owed"):
        charge(org, new_id())
    with db.transaction(org) as connection:
        assert wallet.top_up(connection, org, TopUp(tokens=150)) == Balance(balance=0, held=0, available=0, owed=0)
        assert wallet.top_up(connection, org, TopUp(tokens=150)) == Balance(balance=150, held=0, available=150, owed=0)
    charge(org, new_id())
    assert reconciled(org).ledger_available == 149


def _charge_fees() -> None:
    with db.system_transaction() as connection:
        due = wallet.fees_due(connection)
    for fee in due:
        with db.system_transaction() as connection:
            wallet.charge_fee(connection, fee.org_id, fee.month)


def test_a_price_holds_from_now_on_and_the_past_keeps_its_own(config: Settings) -> None:
    with db.system_transaction() as connection:
        wallet.set_price(connection, "call", NewTokenPrice(tokens=40), set_by="test")
    with db.transaction(poor()) as connection:
        assert wallet.prices(connection)["call"] == 40
        history = [
            (price.tokens, price.effective_from is None)
            for price in wallet.price_list(connection, history=True)
            if price.item == "call" and (price.set_by == "test" or price.effective_from is None)
        ]
    assert history == [(40, False), (50, True)]
    with engines.engine(engines.OWNER).begin() as connection:
        connection.execute(text("DELETE FROM token_prices WHERE set_by = 'test'"))


def test_the_ledger_can_be_neither_changed_nor_deleted(config: Settings) -> None:
    org = poor(10)
    for statement in ("UPDATE wallet_entries SET tokens = 1", "DELETE FROM wallet_entries", "DELETE FROM wallets"):
        with pytest.raises(Exception, match="permission denied"), db.transaction(org) as connection:
            connection.execute(text(statement))


def test_what_waits_for_funds_goes_on_when_others_release_theirs(config: Settings, org: UUID) -> None:
    # The safety net of beat: nobody tops up, but another task gives back what it did not need.
    task = submit(org)
    assert claim(org, task.id)
    with db.transaction(org) as connection:
        connection.execute(
            text("UPDATE tasks SET status = 'waiting', waiting_for = 'funds', worker = NULL WHERE id = :id"),
            {"id": task.id},
        )
    wake_funded()
    with db.transaction(org) as connection:
        assert tasks.get_task(connection, task.id).status == "queued"


# ── what is refused writes nothing ───────────────────────────────────────────────────────────────────────────────────


def statement(org: UUID, **which: Any) -> list[Entry]:
    """A page of the ledger."""
    with db.transaction(org) as connection:
        return wallet.statement(connection, org, **which).entries


def test_a_refused_top_up_adds_nothing(config: Settings) -> None:
    org = poor()
    with db.transaction(org) as connection:
        wallet.top_up(connection, org, TopUp(tokens=50), reference="invoice-1")
    before = statement(org)
    with pytest.raises(Conflict, match="another amount"), db.transaction(org) as connection:
        wallet.top_up(connection, org, TopUp(tokens=60), reference="invoice-1")
    assert (statement(org), balance(org).balance) == (before, 50)


def test_the_reference_of_a_top_up_belongs_to_its_organisation(config: Settings) -> None:
    for org in (poor(), poor()):
        with db.transaction(org) as connection:
            assert wallet.top_up(connection, org, TopUp(tokens=50), reference="invoice-1").balance == 50


@pytest.mark.parametrize(("tokens", "said"), [(0, "corrects nothing"), (-6, "Only 5 tokens are available")])
def test_a_correction_takes_nothing_that_is_held_and_is_never_of_nothing(
    config: Settings, tokens: int, said: str
) -> None:
    org = poor(25)
    charge(org, new_id())  # 20 are held, of which 1 is spent
    before = statement(org), balance(org)
    with pytest.raises(Conflict, match=said), db.transaction(org) as connection:
        wallet.correct(connection, org, Correction(tokens=tokens, note="for the test"))
    assert (statement(org), balance(org)) == before
    with db.transaction(org) as connection:
        assert wallet.correct(connection, org, Correction(tokens=-5, note="all that is free")).available == 0
    entry = statement(org)[0]
    assert (entry.source, entry.target, entry.tokens, entry.reason) == ("available", "corrections", 5, "correction")
    reconciled(org)


def test_tokens_that_were_not_ensured_cannot_be_spent(config: Settings) -> None:
    org, task = poor(100), new_id()
    charge(org, task, 15)  # 5 of its hold are left
    before = statement(org), balance(org)
    with db.transaction(org) as connection:
        assert not wallet.spend(connection, task, 2, "email", 6)
        assert not wallet.spend(connection, new_id(), 2, "email", 1)
        with pytest.raises(InsufficientFunds, match="not enough tokens left"):
            wallet.spend_ensured(connection, task, 2, "email", 6)
    assert (statement(org), balance(org)) == before
    release(org, task)
    with db.transaction(org) as connection:
        assert not wallet.spend(connection, task, 2, "email", 1)  # what its hold had left is free again


def test_an_action_that_costs_nothing_needs_no_wallet(config: Settings) -> None:
    org, task = poor(0), new_id()
    with db.transaction(org) as connection:
        assert wallet.ensure(connection, org, task, 0) == 0
        assert wallet.spend(connection, task, 1, "email", 0)
    assert not [entry for entry in statement(org) if entry.reason == "spend"]


def test_tokens_that_a_task_has_left_are_not_held_twice(config: Settings) -> None:
    org, task = poor(100), new_id()
    for tokens, left, held in ((1, 20, 20), (20, 20, 20), (21, 40, 40), (60, 60, 60)):
        with db.transaction(org) as connection:
            assert wallet.ensure(connection, org, task, tokens) == left
        assert balance(org) == Balance(balance=100, held=held, available=100 - held, owed=0)
    with pytest.raises(InsufficientFunds, match="takes 101 tokens; 40 are available") as refused:
        charge(org, task, 101)
    assert refused.value.details == {"needed": 101}
    assert balance(org).held == 60


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_statement_is_read_page_by_page_to_its_end_newest_first(config: Settings) -> None:
    org, one, other = poor(100), new_id(), new_id()
    for seq in range(1, 4):
        charge(org, one, seq, seq=seq)
        charge(org, other, 1, seq=seq)
    whole = statement(org)
    assert len(whole) == 8  # the two that made the organisation poor, and the six charges
    assert [entry.id for entry in whole] == sorted((entry.id for entry in whole), reverse=True)
    read, before = list[Entry](), None
    for length in (3, 3, 2):
        with db.transaction(org) as connection:
            page = wallet.statement(connection, org, before=before, limit=3)
        assert len(page.entries) == length
        read, before = [*read, *page.entries], page.next_before
    assert (read, before) == (whole, None)
    assert page.balance == balance(org)
    mine = statement(org, task=one)
    assert [(entry.tokens, entry.seq, entry.item, entry.task_id) for entry in mine] == [
        (3, 3, "email", one), (2, 2, "email", one), (1, 1, "email", one),
    ]  # fmt: skip
    assert statement(org, task=new_id()) == []


def test_an_organisation_sees_and_spends_its_own_tokens_only(config: Settings) -> None:
    mine, theirs, task = poor(100), poor(7), new_id()
    charge(mine, task)
    with db.transaction(theirs) as connection:
        assert wallet.statement(connection, theirs, task=task).entries == []
        assert not wallet.spend(connection, task, 2, "email", 1)
        assert wallet.refund(connection, theirs, task, 1, "not mine") == 0
        wallet.release(connection, task)
    assert balance(mine) == Balance(balance=99, held=19, available=80, owed=0)
    assert balance(theirs) == Balance(balance=7, held=0, available=7, owed=0)


def test_a_refund_may_be_of_one_of_the_actions_of_a_step(config: Settings) -> None:
    org, task = poor(100), new_id()
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task, 7)
        wallet.spend_ensured(connection, task, 4, "sms", 2, note="first")
        wallet.spend_ensured(connection, task, 4, "email", 4, note="second")
        wallet.spend_ensured(connection, task, 5, "email", 1, note="second")
    expected = [("second", 4), ("second", 0), ("third", 0), (None, 2), (None, 0)]
    for note, tokens in expected:
        with db.transaction(org) as connection:
            assert wallet.refund(connection, org, task, 4, "not sent", note=note) == tokens
    paid_back = [entry for entry in statement(org, task=task) if entry.reason == "refund"]
    assert [(entry.item, entry.tokens, entry.note) for entry in paid_back] == [
        ("sms", 2, "not sent"), ("email", 4, "not sent"),
    ]  # fmt: skip
    assert {(entry.source, entry.target, entry.seq) for entry in paid_back} == {("spent", "available", 4)}
    assert balance(org).balance == 99


def test_two_refunds_at_once_pay_back_once(config: Settings) -> None:
    org, task = poor(100), new_id()
    charge(org, task, 10, seq=4)
    gate = threading.Barrier(8)

    def refund(_: int) -> int:
        gate.wait()
        with db.transaction(org) as connection:
            return wallet.refund(connection, org, task, 4, "it did not happen")

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(refund, range(8))) == [0] * 7 + [10]
    assert balance(org).balance == 100
    reconciled(org)


@pytest.mark.parametrize(("column", "found"), [("balance", (-3, 0)), ("held", (0, 3))])
def test_a_wallet_that_was_tampered_with_does_not_agree_with_its_ledger(
    config: Settings, column: str, found: tuple[int, int]
) -> None:
    org = poor(40)
    charge(org, new_id())
    with engines.engine(engines.OWNER).begin() as connection:
        connection.execute(text("SELECT set_config('app.org', :org, true)"), {"org": str(org)})
        connection.execute(
            text(f"UPDATE wallets SET {column} = {column} + 3 WHERE org_id = :org"),  # noqa: S608
            {"org": org},
        )
    with db.transaction(org) as connection:
        seen = wallet.reconcile(connection, org)
    assert (seen.difference, seen.held_difference, seen.sum_over_accounts) == (*found, 0)


# ── fees ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


FEE = 200
"""tokens a month"""


def fees_of(org: UUID) -> list[DueFee]:
    with db.system_transaction() as connection:
        return [fee for fee in wallet.fees_due(connection) if fee.org_id == org]


def charge_fee(org: UUID, month: date) -> bool:
    with db.system_transaction() as connection:
        return wallet.charge_fee(connection, org, month)


def test_the_month_of_becoming_prepaid_is_free_and_every_later_one_has_its_fee(config: Settings) -> None:
    with db.system_transaction() as connection:  # the fees of earlier tests' organisations are not looked at
        connection.execute(text("UPDATE organisations SET prepaid_since = NULL"))
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 1, 31, 12, tzinfo=UTC))
        org = poor(1_000)
        assert fees_of(org) == []
        clock.move_to(datetime(2027, 3, 1, 0, 1, tzinfo=UTC))
        assert fees_of(org) == [DueFee(org, date(2027, 2, 1)), DueFee(org, date(2027, 3, 1))]
        assert charge_fee(org, date(2027, 3, 1))
        assert not charge_fee(org, date(2027, 3, 1))
        assert fees_of(org) == [DueFee(org, date(2027, 2, 1))]
        with db.system_transaction() as connection:
            connection.execute(text("UPDATE organisations SET prepaid_since = NULL WHERE id = :org"), {"org": org})
        assert fees_of(org) == []


def test_a_fee_that_the_free_tokens_do_not_cover_is_owed_and_paid_as_tokens_become_free(config: Settings) -> None:
    org, task = poor(210), new_id()
    charge(org, task)  # 20 are held
    assert charge_fee(org, date(2020, 1, 1))
    assert balance(org) == Balance(balance=209, held=19, available=190, owed=FEE)
    entry = statement(org)[0]
    assert (entry.source, entry.target, entry.tokens, entry.item) == ("owed", "fees", FEE, "monthly_fee")
    assert pay_arrears(org)
    assert balance(org) == Balance(balance=19, held=19, available=0, owed=10)
    assert not pay_arrears(org)
    release(org, task)
    with db.system_transaction() as connection:
        wallet.subtract_ended_holds(connection, org)
    assert pay_arrears(org)
    assert balance(org) == Balance(balance=9, held=0, available=9, owed=0)
    assert not pay_arrears(org)
    assert [entry.tokens for entry in statement(org) if entry.reason == "arrears"] == [10, 190]
    reconciled(org)


def pay_arrears(org: UUID) -> bool:
    """Pay what is owed, as a duty does. Return whether the organisation was among those that owe and can pay."""
    with db.system_transaction() as connection:
        is_named = org in wallet.organisations_owing(connection)
        wallet.pay_arrears(connection, org)
    return is_named


def test_who_owes_a_fee_owes_the_next_one_too_however_much_is_there(config: Settings) -> None:
    org = poor(0)
    charge_fee(org, date(2020, 1, 1))
    with db.system_transaction() as connection:  # as if tokens had become free since
        connection.execute(text("UPDATE wallets SET balance = 500 WHERE org_id = :org"), {"org": org})
    charge_fee(org, date(2020, 2, 1))
    assert balance(org) == Balance(balance=500, held=0, available=500, owed=2 * FEE)


def test_a_fee_of_nothing_is_no_entry_and_not_due_again(config: Settings) -> None:
    org = poor(10)
    before = statement(org)
    with db.system_transaction() as connection:
        wallet.set_price(connection, "monthly_fee", NewTokenPrice(tokens=0), set_by="test")
        assert wallet.charge_fee(connection, org, date(2020, 1, 1))
        assert not wallet.charge_fee(connection, org, date(2020, 1, 1))
        assert wallet.statement(connection, org).entries == before
        connection.rollback()


operation = st.one_of(
    st.tuples(st.just("top_up"), st.integers(1, 60)),
    st.tuples(st.just("charge"), st.integers(0, 3), st.integers(1, 25)),
    st.tuples(st.just("release"), st.integers(0, 3)),
    st.tuples(st.just("refund"), st.integers(0, 3)),
    st.tuples(st.just("correct"), st.integers(-30, 30)),
)


@hypothesis_settings(
    max_examples=30, deadline=timedelta(seconds=20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(operation, max_size=25))
def test_over_random_histories_the_wallet_agrees_with_its_ledger_and_is_never_negative(
    config: Settings, history: list[tuple[Any, ...]]
) -> None:
    org = poor(40)
    ids = [new_id() for _ in range(4)]
    verbs: dict[str, Callable[..., Any]] = {
        "charge": lambda task, tokens: charge(org, ids[task], tokens),
        "release": lambda task: release(org, ids[task]),
    }
    expected = 40
    for verb, *rest in history:
        try:
            if verb == "top_up":
                with db.transaction(org) as connection:
                    wallet.top_up(connection, org, TopUp(tokens=rest[0]))
                expected += rest[0]
            elif verb == "refund":
                with db.transaction(org) as connection:
                    expected += wallet.refund(connection, org, ids[rest[0]], 1, "test")
            elif verb == "correct":
                with db.transaction(org) as connection:
                    wallet.correct(connection, org, Correction(tokens=rest[0], note="test"))
                expected += rest[0]
            else:
                verbs[verb](*rest)
                expected -= rest[1] if verb == "charge" else 0
        except (InsufficientFunds, Conflict):
            pass
        found = balance(org)
        assert found.balance == expected >= 0
        assert 0 <= found.available <= found.balance
    reconciled(org)


# ── warnings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def told_of(org: UUID) -> list[str]:
    """The marks that the owner was told of, in order."""
    watch_wallets()
    deliver_all(org)
    with db.transaction(org) as connection:
        found = channels.notifications(connection, owner_of(org))
    return [one.title.partition(" %")[0] for one in reversed(found) if one.kind == "wallet.low"]


def take(org: UUID, tokens: int) -> None:
    with db.transaction(org) as connection:
        wallet.correct(connection, org, Correction(tokens=-tokens, note="for the test"))


def test_people_are_told_once_at_each_mark_before_a_wallet_is_empty() -> None:
    org = make_organisation(f"low-{new_id().hex[-12:]}", tokens=100)
    for taken, told in ((79, []), (1, ["80"]), (5, ["80"]), (10, ["80", "95"]), (5, ["80", "95", "100"])):
        take(org, taken)
        assert told_of(org) == told
    with db.transaction(org) as connection:
        wallet.top_up(connection, org, TopUp(tokens=10))
    assert told_of(org) == ["80", "95", "100"]
    take(org, 9)
    assert told_of(org) == ["80", "95", "100", "80"]


def test_nobody_is_warned_of_a_wallet_that_was_never_filled_or_does_not_count() -> None:
    never = make_organisation(f"never-{new_id().hex[-12:]}", tokens=0)
    assert told_of(never) == []
    free = make_organisation(f"free-{new_id().hex[-12:]}", tokens=100)
    with db.system_transaction() as connection:
        tenants.set_prepaid(connection, free, is_prepaid=False)
    take(free, 100)
    assert told_of(free) == []


def test_tokens_that_tasks_hold_are_not_spent() -> None:
    org = make_organisation(f"held-{new_id().hex[-12:]}", tokens=20)
    task = submit(org)
    with db.transaction(org) as connection:
        wallet.ensure(connection, org, task.id, 20)
    assert balance(org).available == 0
    assert told_of(org) == []
