"""Transactions: what they see and keep, what they cost when they fail, and what comes back as it was written."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound

from core import db, engines
from core.bulk import insert_rows
from core.canonical import digest
from core.errors import Unavailable
from core.ids import new_id
from core.json_text import dump_json
from core.refusals import is_outage, refusal_of
from core.rows import fetch_all, fetch_one, fetch_optional
from core.settings import Settings
from tests.support.factories import make_location, make_organisation, make_row
from tests.support.servers import configured

_CONTACTS = text("SELECT id FROM contacts")


class Numbered(BaseModel, extra="forbid"):
    n: int


@pytest.fixture
def connection(config: Settings) -> Iterator[Connection]:
    with db.system_transaction() as opened:
        yield opened


def name_of(org: UUID, contact: UUID) -> Any:
    with db.transaction(org) as connection:
        return connection.execute(text("SELECT name FROM contacts WHERE id = :id"), {"id": contact}).scalar()


def rename(connection: Connection, contact: UUID, name: str) -> None:
    connection.execute(text("UPDATE contacts SET name = :name WHERE id = :id"), {"name": name, "id": contact})


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("durable", [True, False])
def test_a_transaction_is_kept_at_its_end_and_dropped_on_an_error(org: UUID, durable: bool) -> None:
    contact = make_row(org, "clients", name="Before")
    with db.transaction(org, durable=durable) as connection:
        rename(connection, contact, "After")
        assert name_of(org, contact) == "Before"  # to others
    assert name_of(org, contact) == "After"

    def fail() -> None:
        with db.transaction(org, durable=durable) as connection:
            rename(connection, contact, "Never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert name_of(org, contact) == "After"


def test_what_is_undone_is_seen_inside_and_the_rest_of_the_transaction_is_kept(org: UUID) -> None:
    one, other = make_row(org, "clients", name="One"), make_row(org, "clients", name="Other")
    with db.transaction(org) as connection:
        rename(connection, one, "Kept")
        with db.undone(connection):
            rename(connection, other, "Tried")
            seen = connection.execute(text("SELECT name FROM contacts ORDER BY name")).scalars().all()
            assert list(seen) == ["Kept", "Tried"]
    assert (name_of(org, one), name_of(org, other)) == ("Kept", "Other")


def test_a_refusal_inside_what_is_undone_does_not_end_the_transaction(org: UUID) -> None:
    contact = make_row(org, "clients", name="Before")
    with db.transaction(org) as connection:
        with pytest.raises(DBAPIError), db.undone(connection):
            connection.execute(text("SELECT 1 / 0"))
        rename(connection, contact, "After")
    assert name_of(org, contact) == "After"


# ── what is seen ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_transaction_limited_to_locations_hides_the_rest_and_leaves_nothing_behind(org: UUID) -> None:
    here, there, empty = (make_location(org, slug) for slug in ("here", "there", "empty"))
    near, far = (make_row(org, "clients", location_id=place) for place in (here, there))
    nowhere = make_row(org, "clients")
    for locations, expected in (
        ([here], {near}),
        ([here, there], {near, far}),
        ([empty], set()),
        ([], {near, far, nowhere}),  # after a limited one: a connection of the pool must not remember
    ):
        with db.transaction(org, locations) as connection:
            assert set(connection.execute(_CONTACTS).scalars()) == expected


def test_a_limited_transaction_neither_moves_a_contact_out_nor_changes_a_hidden_one(org: UUID) -> None:
    here, there = (make_location(org, slug) for slug in ("here", "there"))
    near, far = (make_row(org, "clients", location_id=place) for place in (here, there))
    with db.transaction(org, [here]) as connection:
        rename(connection, far, "Changed")
    assert name_of(org, far) != "Changed"
    move = text("UPDATE contacts SET location_id = :place WHERE id = :id")
    with pytest.raises(DBAPIError) as refused, db.transaction(org, [here]) as connection:
        connection.execute(move, {"place": there, "id": near})
    assert "outside the location" in (refusal_of(refused.value) or "")


def test_what_follows_a_contact_is_hidden_with_it(org: UUID) -> None:
    here, there = (make_location(org, slug) for slug in ("here", "there"))
    near, far = (make_row(org, "clients", location_id=place) for place in (here, there))
    with db.transaction(org, [here]) as connection:
        assert set(connection.execute(text("SELECT id FROM clients")).scalars()) == {near}
    with db.transaction(org) as connection:
        assert set(connection.execute(text("SELECT id FROM clients")).scalars()) == {near, far}


# ── when the database cannot serve ───────────────────────────────────────────────────────────────────────────────────


def test_when_every_connection_is_in_use_a_further_one_is_refused(org: UUID) -> None:
    engines.dispose_engines()
    try:
        with configured(database_pool_size="1", statement_timeout="1"):
            with engines.engine(engines.APP).connect(), pytest.raises(Unavailable, match="in use"), db.transaction(org):
                pass
            with db.transaction(org) as connection:  # the one that was given back can be had
                assert connection.execute(text("SELECT 1")).scalar() == 1
    finally:
        engines.dispose_engines()


def test_a_statement_that_takes_too_long_is_ended_and_is_no_outage(org: UUID) -> None:
    with db.transaction(org) as connection, db.undone(connection):
        connection.execute(text("SET LOCAL statement_timeout = 20"))
        with pytest.raises(DBAPIError, match="statement timeout") as caught:
            connection.execute(text("SELECT pg_sleep(60)"))
    assert not is_outage(caught.value.orig)
    with db.transaction(org) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "30s"


# ── rows and JSON ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_become_records_and_their_number_is_checked(connection: Connection) -> None:
    def numbers(most: int) -> Any:
        return connection.execute(text("SELECT n FROM generate_series(1, :most) AS n"), {"most": most})

    assert fetch_all(numbers(2), Numbered) == [Numbered(n=1), Numbered(n=2)]
    assert fetch_all(numbers(0), Numbered) == []
    assert fetch_one(numbers(1), Numbered) == fetch_optional(numbers(1), Numbered) == Numbered(n=1)
    assert fetch_optional(numbers(0), Numbered) is None
    with pytest.raises(NoResultFound):
        fetch_one(numbers(0), Numbered)
    for fetch in (fetch_one, fetch_optional):
        with pytest.raises(MultipleResultsFound):
            fetch(numbers(2), Numbered)
    with pytest.raises(ValidationError):
        fetch_all(connection.execute(text("SELECT 1 AS n, 2 AS more")), Numbered)


def test_many_rows_are_inserted_with_every_kind_of_value(org: UUID) -> None:
    rows = [
        {"id": new_id(), "org_id": org, "slug": f"place-{number}", "name": name, "created_at": "2026-11-28T09:00:00Z"}
        for number, name in enumerate(("Ñandú \"quoted\" \\ 'x' :y", "%s {}", "\U0001f600"))
    ]
    with db.transaction(org) as connection:
        insert_rows(connection, "locations", rows)
        found = connection.execute(text("SELECT id, name FROM locations ORDER BY slug")).all()
    assert [tuple(row) for row in found] == [(row["id"], row["name"]) for row in rows]


def test_of_many_rows_none_is_inserted_for_another_organisation(org: UUID) -> None:
    other = make_organisation(f"other-{new_id().hex[-12:]}")
    rows = [
        {"id": new_id(), "org_id": whose, "slug": "place", "name": "x", "created_at": "2026-11-28T09:00:00Z"}
        for whose in (org, other)
    ]
    with pytest.raises(DBAPIError, match="row-level security"), db.transaction(org) as connection:
        insert_rows(connection, "locations", rows)
    for whose in (org, other):
        with db.transaction(whose) as connection:
            assert connection.execute(text("SELECT count(*) FROM locations WHERE slug = 'place'")).scalar() == 0


letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
stored_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | letters,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(letters, inner, max_size=4),
    max_leaves=10,
)


@given(stored_json)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_digest_survives_the_round_trip_through_the_database(connection: Connection, value: Any) -> None:
    written = dump_json(value)
    found = connection.execute(text("SELECT CAST(:value AS jsonb)"), {"value": written}).scalar()
    assert digest(found) == digest(value)
