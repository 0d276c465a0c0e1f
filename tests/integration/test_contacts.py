"""Contacts on a real database: by which address they are found, and whose words a message from outside is."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from core import db
from core.errors import NotFound
from core.ids import new_id
from domain.contacts import service as contacts
from domain.contacts.schemas import PreferenceChange
from domain.followups import service as follow_ups
from domain.followups.schemas import NewReply
from tests.support.factories import make_organisation, make_row
from tests.support.servers import wait_until


@pytest.fixture
def connection(org: UUID) -> Iterator[Connection]:
    with db.transaction(org) as made:
        yield made


def person(org: UUID, **fields: object) -> UUID:
    return make_row(org, "clients", **({"email": "", "phone": None} | fields))


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_contact_is_found_by_an_address_in_any_spelling(org: UUID, connection: Connection) -> None:
    ana = person(org, email="Ana@Bücher.example", phone="+34 600-111 222")
    for address in (" ana@bücher.example ", "ANA@XN--BCHER-KVA.EXAMPLE", "+34600111222", "+34 (600) 111.222"):
        assert contacts.at_address(connection, address) == [ana]
    for address in ("ana@bucher.example", "34600111222", "+34600111223", "600111222"):
        with pytest.raises(NotFound, match="No contact has the address"):
            contacts.at_address(connection, address)


@pytest.mark.parametrize("address", ["GYMINFO", "   ", "+", "@", "n/a", "%", "²³"])
def test_the_name_of_a_sender_is_no_address_of_those_who_have_none(
    org: UUID, connection: Connection, address: str
) -> None:
    person(org)
    person(org, phone="n/a")
    person(org, phone="+")
    assert contacts.with_address(connection, address) == []
    with pytest.raises(NotFound):
        contacts.at_address(connection, address)


def test_stop_from_an_unknown_sender_opts_nobody_out(org: UUID) -> None:
    silent = person(org)
    with db.transaction(org) as connection, pytest.raises(NotFound):
        follow_ups.receive(connection, org, NewReply(sender="GYMINFO", channel="sms", body="STOP"))
    with db.transaction(org) as connection:
        assert contacts.get_preferences(connection, silent).has_opted_out is False


def test_stop_from_a_contact_opts_out_the_records_with_the_same_address_and_no_others(org: UUID) -> None:
    ana = person(org, email="ana@example.com ", phone="unknown")
    same = make_row(org, "leads", email="x@example.com", phone="+34 600 111 222")
    other = person(org, phone="+34600111222")
    strangers = [person(org), person(org, phone="none"), person(org, email="ana@example.co")]
    for contact in (ana, other):
        with db.transaction(org) as connection:
            kept = follow_ups.receive(connection, org, NewReply(contact=contact, channel="phone", body="STOP"))
        assert (kept.contact, kept.is_opt_out) == (contact, True)
    with db.transaction(org) as connection:
        found = contacts.get_many(connection, [ana, same, other, *strangers])
    assert {one for one, contact in found.items() if contact.opted_out_at} == {ana, same, other}


def test_the_addresses_of_a_contact_are_all_its_spellings(org: UUID, connection: Connection) -> None:
    ana = person(org, email="Ana@Bücher.example", phone="+34 600")
    known = {str(ana), "ana@bücher.example", "ana@xn--bcher-kva.example", "+34 600"}
    assert contacts.addresses(connection, ana) == known
    assert contacts.addresses(connection, person(org)) != set()
    assert contacts.addresses(connection, new_id()) == set()


# ── known contacts and namesakes ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("number", "is_found"),
    [
        ("+34 600 111 222", True), ("600111222", True), ("0034600111222", True), ("+1 600 111 222", True),
        ("+34 600 111 223", False), ("111222", False), ("00111222", False), ("112", False), ("GYMINFO", False),
    ],
)  # fmt: skip
def test_a_telephone_number_is_known_by_its_last_nine_digits(
    org: UUID, connection: Connection, number: str, is_found: bool
) -> None:
    ana = person(org, phone="+34 600 111 222")
    for other in (None, "112", "n/a"):
        person(org, phone=other)
    assert [one.id for one in contacts.known_by(connection, [], [number])] == ([ana] if is_found else [])


def test_namesakes_are_other_people_and_not_the_same_persons_other_records(org: UUID, connection: Connection) -> None:
    ana = person(org, name="Ana Torres", email="ana@example.com")
    make_row(org, "leads", name="Ana Torres", email="ANA@example.com")  # the same person
    assert contacts.known_by(connection, [ana], [])[0].namesakes == 0
    person(org, name="ÁNA TORRES", email="b@example.com")
    person(org, name="Ana Torres Gil", email="c@example.com")
    person(org, name="Ana Torreson", email="d@example.com")  # begins with it only in the middle of a word
    person(org, name="Mariana Torres", email="e@example.com")
    assert contacts.known_by(connection, [ana], [])[0].namesakes == 2


# ── reading and changing ─────────────────────────────────────────────────────────────────────────────────────────────


def test_required_contacts_are_all_there_or_the_missing_ones_are_named(org: UUID, connection: Connection) -> None:
    zoe, ana, missing = person(org, name="Zoe"), person(org, name="Ana"), new_id()
    assert [one.id for one in contacts.require(connection, [zoe, ana, zoe])] == [ana, zoe]
    assert contacts.require(connection, []) == []
    with pytest.raises(NotFound, match=f"There is no contact with id {missing}.$"):
        contacts.require(connection, [zoe, missing])


def test_a_status_is_changed_for_contacts_of_the_kind_only(org: UUID, connection: Connection) -> None:
    lead = make_row(org, "leads", status="new")
    assert contacts.change_status(connection, lead, "client", "active") is None
    assert contacts.change_status(connection, new_id(), "lead", "won") is None
    before = contacts.change_status(connection, lead, "lead", "won")
    assert before is not None
    assert before.status == "new"
    assert contacts.get_many(connection, [lead])[lead].status == "won"


def test_a_second_opt_out_keeps_the_time_of_the_first_and_a_new_one_has_its_own(org: UUID) -> None:
    ana = person(org)

    def change(**fields: bool) -> object:
        with db.transaction(org) as connection:
            return contacts.change_preferences(connection, ana, PreferenceChange(**fields)).opted_out_at

    first = change(has_opted_out=True)
    assert first is not None
    assert change(has_opted_out=True) == change(has_consented=True) == first
    with db.transaction(org) as connection:
        contacts.opt_out(connection, ana)
        found = contacts.get_preferences(connection, ana)
    assert (found.opted_out_at, found.has_consented) == (first, False)
    assert change(has_opted_out=False) is None
    assert change(has_opted_out=True) not in {None, first}


def _is_waited_for() -> bool:
    with db.system_transaction() as connection:
        return bool(connection.execute(text("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")).scalar_one())


def test_an_opt_out_is_not_undone_by_another_change_at_the_same_time(org: UUID) -> None:
    ana = person(org)

    def change_zone() -> None:
        with db.transaction(org) as connection:
            contacts.change_preferences(connection, ana, PreferenceChange(time_zone="Asia/Tokyo"))

    with ThreadPoolExecutor(1) as pool:
        with db.transaction(org) as connection:
            contacts.change_preferences(connection, ana, PreferenceChange(has_opted_out=True))
            second = pool.submit(change_zone)
            wait_until(_is_waited_for, what="the second change waits for the first")
        second.result()
    with db.transaction(org) as connection:
        found = contacts.get_preferences(connection, ana)
    assert (found.has_opted_out, found.time_zone) == (True, "Asia/Tokyo")


def test_contacts_of_another_organisation_are_not_there(org: UUID) -> None:
    ana = person(org, email="ana@example.com", phone="+34600111222")
    with db.transaction(make_organisation(f"org-{new_id().hex[-12:]}")) as connection:
        assert contacts.get_many(connection, [ana]) == {}
        assert contacts.with_address(connection, "ana@example.com") == []
        assert contacts.known_by(connection, [ana], ["ana@example.com", "+34600111222"]) == []
        assert contacts.search(connection, "", ["client", "lead"], limit=10) == []
        assert contacts.change_status(connection, ana, "client", "cancelled") is None
        contacts.opt_out(connection, ana)
        with pytest.raises(NotFound):
            contacts.change_preferences(connection, ana, PreferenceChange(has_opted_out=True))
    with db.transaction(org) as connection:
        assert contacts.get_preferences(connection, ana).has_opted_out is False
