"""Paces and alerts as they are stored: shared by all processes, each route apart, and told to people once."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db
from domain.pacing import service as pacing
from domain.pacing.schemas import Account, Alert, Limits, Route, Seen, Standing
from domain.pacing.service import Turn
from tests.support.clock import movable_clock

ROUTE = Route("openai", "m", "key")
OTHERS = [Route("anthropic", "m", "key"), Route("openai", "n", "key"), Route("openai", "m", "another")]
ACCOUNT = ROUTE.account
NOW, PATIENCE = timedelta(0), timedelta(seconds=10)


def refuse(route: Route = ROUTE, asked: float | None = 1.0) -> None:
    with db.system_transaction() as connection:
        wait = None if asked is None else timedelta(seconds=asked)
        pacing.refused(connection, route, NOW, number=None, asked=wait, limits=None)


def reserve(route: Route = ROUTE, patience: timedelta = PATIENCE) -> Turn | None:
    with db.system_transaction() as connection:
        return pacing.reserve(connection, route, patience)


def standings() -> list[Standing]:
    with db.system_transaction() as connection:
        return pacing.standings(connection)


def test_a_refusal_holds_its_own_route_only(org: UUID) -> None:
    refuse()
    assert reserve() is not None
    assert [reserve(route) for route in OTHERS] == [None, None, None]
    with db.system_transaction() as connection:
        for route in OTHERS:
            pacing.succeeded(connection, route, NOW, has_waited=True)
    assert [(one.provider, one.model) for one in standings()] == [("openai", "m")]


def test_calls_that_ask_at_once_are_given_different_times(org: UUID) -> None:
    refuse()
    gate = threading.Barrier(8)

    def ask(_: int) -> Turn | None:
        gate.wait()
        return reserve(patience=timedelta(minutes=1))

    with ThreadPoolExecutor(8) as pool:
        turns = [turn for turn in pool.map(ask, range(8)) if turn is not None]
    assert sorted(turn.number for turn in turns) == list(range(1, 9))
    opens = sorted(turn.pace.next_at for turn in turns)
    assert all(later - earlier == pytest.approx(1, abs=0.001) for earlier, later in itertools.pairwise(opens))


def test_first_refusals_at_once_are_one_refusal(org: UUID) -> None:
    gate = threading.Barrier(6)

    def ask(_: int) -> None:
        gate.wait()
        refuse()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(6)))
    with db.system_transaction() as connection:
        assert connection.execute(text("SELECT strikes FROM provider_paces")).scalars().all() == [1]


def test_a_call_without_the_patience_is_given_no_time_and_told_when_it_could_begin(org: UUID) -> None:
    refuse(asked=30)
    first, second = reserve(), reserve()
    for turn in (first, second):
        assert turn is not None
        assert (turn.wait, turn.number) == (None, 0)
        assert timedelta(seconds=20) < turn.opens <= timedelta(seconds=30.1)


def test_a_turn_is_void_after_another_refusal_and_valid_where_the_pace_is_gone(org: UUID) -> None:
    refuse()
    turn = reserve()
    assert turn is not None
    with db.system_transaction() as connection:
        assert pacing.is_still(connection, ROUTE, turn)
    with db.system_transaction() as connection:
        pacing.failed(connection, ROUTE, timedelta(seconds=-60), asked=None)  # by a call that began later
    with db.system_transaction() as connection:
        assert not pacing.is_still(connection, ROUTE, turn)
        connection.execute(text("DELETE FROM provider_paces"))
        assert pacing.is_still(connection, ROUTE, turn)


def test_a_pace_foreseen_by_headers_does_not_replace_one_that_was_measured(org: UUID) -> None:
    refuse(asked=30)
    before = standings()[0]
    with db.system_transaction() as connection:
        pacing.foresee(connection, ROUTE, Limits(requests=Seen(600, 0, 60)), 100)
    after = standings()[0]
    assert (after.rate, after.held_until, after.since) == (before.rate, before.held_until, before.since)


def test_of_several_keys_the_one_that_may_go_on_first_is_shown(org: UUID) -> None:
    refuse(ROUTE, asked=50)
    refuse(Route("openai", "m", "another"), asked=20)
    refuse(Route("openai", "a", "key"), asked=1)
    found = standings()
    assert [(one.provider, one.model) for one in found] == [("openai", "a"), ("openai", "m")]
    assert 10 < found[1].held_for <= 20.1


def test_trouble_is_dated_from_its_beginning_and_anew_when_its_cause_changes(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 3, 1, 12, tzinfo=UTC))
        refuse()
        began = standings()[0].since
        clock.move(timedelta(minutes=5))
        refuse()
        assert (standings()[0].since, standings()[0].cause) == (began, "limit")
        clock.move(timedelta(minutes=5))
        with db.system_transaction() as connection:
            pacing.failed(connection, ROUTE, NOW, asked=None)
        assert standings()[0].cause == "outage"
        assert standings()[0].since - began >= timedelta(minutes=10)


def test_a_pace_is_kept_while_a_call_of_the_last_hour_needed_it(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 3, 1, 12, tzinfo=UTC))
        refuse()
        for minutes, is_kept in ((59, True), (2, False)):
            clock.move(timedelta(minutes=minutes))
            with db.system_transaction() as connection:
                pacing.forget(connection)
            assert bool(standings()) is is_kept


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def alerts() -> list[Alert]:
    with db.system_transaction() as connection:
        return pacing.alerts(connection)


def alert(account: Account = ACCOUNT, kind: Any = "quota", message: str = "no credit") -> None:
    with db.system_transaction() as connection:
        pacing.raise_alert(connection, account, kind, message)


def test_an_alert_is_told_once_however_often_it_recurs(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 3, 1, 12, tzinfo=UTC))
        told = []
        for number in range(3):
            alert(message=f"no credit {number}")
            with db.system_transaction() as connection:
                told.append([one.message for one in pacing.take_untold(connection)])
            clock.move(timedelta(minutes=1))
        assert told == [["no credit 0"], [], []]
        (found,) = alerts()
        assert found.message == "no credit 2"
        assert found.last_at - found.since >= timedelta(minutes=2)


def test_an_alert_that_was_not_sent_is_told_the_next_time(org: UUID) -> None:
    alert()
    with db.system_transaction() as connection:
        assert len(pacing.take_untold(connection)) == 1
        connection.rollback()
    with db.system_transaction() as connection:
        assert len(pacing.take_untold(connection)) == 1


def test_alerts_that_recur_at_once_are_written_once_in_ten_seconds(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 3, 1, 12, tzinfo=UTC))
        alert(message="first")
        clock.move(timedelta(seconds=5))
        alert(message="second")
        assert [one.message for one in alerts()] == ["first"]
        clock.move(timedelta(seconds=6))
        alert(message="third")
        assert [one.message for one in alerts()] == ["third"]


def test_an_account_that_works_again_ends_all_of_its_own_alerts(org: UUID) -> None:
    another = Account("openai", "another")
    alert()
    alert(kind="authentication", message="bad key")
    alert(another, message="of another key")
    assert [one.kind for one in alerts()] == ["quota", "authentication", "quota"]
    with db.system_transaction() as connection:
        pacing.end_alerts(connection, ACCOUNT)
    assert [one.message for one in alerts()] == ["of another key"]


def test_an_alert_is_shown_for_a_day_after_it_last_recurred(org: UUID) -> None:
    with movable_clock() as clock:
        clock.move_to(datetime(2027, 3, 1, 12, tzinfo=UTC))
        alert()
        for hours, is_shown in ((23, True), (2, False)):
            clock.move(timedelta(hours=hours))
            assert bool(alerts()) is is_shown


@pytest.mark.parametrize(
    ("kind", "what", "cure"),
    [
        ("quota", "openai has no quota left", "Add credit"),
        ("authentication", "openai rejects the API key", "Check the key of openai"),
    ],
)
def test_an_alert_says_what_is_wrong_and_what_to_do(org: UUID, kind: Any, what: str, cure: str) -> None:
    alert(kind=kind)
    (found,) = alerts()
    assert found.what == what
    assert found.cure.startswith(cure)
