"""Users, roles, locations, keys and the audit log in the database: who holds what where, and how keys come and go."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db
from core.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, NotPermitted, RotaError
from core.ids import new_id
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.tenants import keys
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN, Grant, Reach
from domain.tenants.schemas import IssuedKey, KeyFields, KeyOwner, NewLocation, NewUser, RoleGrant, UserChange
from tests.support.clock import Clock, movable_clock
from tests.support.factories import OWNER, make_key, make_location, make_organisation, make_user, owner_of

PEPPER = "a pepper of the tests"
ALL = [Grant(("*",), None)]
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(org: UUID) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def other(org: UUID) -> UUID:
    return make_organisation(f"other-{new_id().hex[-12:]}")


def change(org: UUID, user: UUID, by: list[Grant] = ALL, **fields: Any) -> Any:
    with db.transaction(org) as connection:
        return tenants.change_user(connection, org, user, UserChange(**fields), by=by)


def reach(org: UUID, user: UUID, permission: str, scopes: list[str] | None = None) -> Reach:
    with db.transaction(org) as connection:
        return tenants.reach_of(connection, user, permission, scopes)


def rows(org: UUID, table: str) -> int:
    with db.transaction(org) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


# ── organisations ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_organisation_is_created_once_with_its_roles_and_keeps_its_name(org: UUID) -> None:
    slug = f"new-{new_id().hex[-12:]}"
    with db.system_transaction() as connection:
        made = tenants.ensure_organisation(connection, slug=slug, name="First", time_zone="Europe/Madrid")
        again = tenants.ensure_organisation(connection, slug=slug, name="Second", time_zone="UTC")
    assert again == made
    assert (made.name, made.is_prepaid, made.is_demonstration) == ("First", False, False)
    with db.transaction(made.id) as connection:
        found = {role.name: role.is_built_in for role in tenants.list_roles(connection)}
    assert found == dict.fromkeys(["coordinator", "manager", "owner", "staff", "viewer"], True)
    with db.system_transaction() as connection, pytest.raises(InvalidInput, match="Mars"):
        tenants.ensure_organisation(connection, slug=f"{slug}-2", name="x", time_zone="Mars/Base")
    with db.system_transaction() as connection, pytest.raises(NotFound, match=f"{slug}-2"):
        tenants.organisation_called(connection, f"{slug}-2")


def test_prepaid_billing_keeps_its_start_until_it_is_switched_off(org: UUID, clock: Clock) -> None:
    def since() -> datetime | None:
        with db.transaction(org) as connection:
            found: datetime | None = connection.execute(text("SELECT prepaid_since FROM organisations")).scalar_one()
        return found

    def switch(*, is_prepaid: bool) -> None:
        with db.system_transaction() as connection:
            tenants.set_prepaid(connection, org, is_prepaid=is_prepaid)

    before = since()
    assert before is not None
    clock.move(HOUR)
    switch(is_prepaid=True)
    assert since() == before
    switch(is_prepaid=False)
    assert since() is None
    switch(is_prepaid=True)
    assert (since() or before) > before


# ── who holds what where ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_permission_holds_where_its_role_was_given_and_no_longer_once_its_user_is_disabled(org: UUID) -> None:
    here = make_location(org, "here")
    user = make_user(org, "viewer")
    change(org, user, grants=[RoleGrant(role="viewer"), RoleGrant(role="staff", location="here")])
    assert reach(org, user, "clients:read").everywhere
    assert reach(org, user, "email:send") == Reach(locations=frozenset({here}))
    assert reach(org, user, "payments:charge").is_nowhere
    assert reach(org, user, "email:send", ["tasks:*"]).is_nowhere
    assert reach(org, user, "email:send", ["email:send"]) == Reach(locations=frozenset({here}))
    change(org, user, is_disabled=True)
    assert reach(org, user, "clients:read").is_nowhere
    with db.transaction(org) as connection:
        assert tenants.grants_of(connection, user) == []
        assert set(tenants.permissions_held(connection, user)) >= {"*:read", "email:send"}  # as when enabled again
    assert reach(org, new_id(), "clients:read").is_nowhere


def test_another_organisation_sees_no_user_role_grant_key_or_location(org: UUID, other: UUID) -> None:
    make_location(org, "here")
    user = make_user(org, "manager", at="here")
    make_key(org, PEPPER, user=user)
    with db.transaction(org) as connection:
        tenants.put_role(connection, org, "cashier", ["payments:*"], by=ALL)
    with db.transaction(other) as connection:
        assert [one.email for one in tenants.list_users(connection)] == [OWNER]
        assert tenants.list_locations(connection) == []
        assert keys.list_keys(connection) == []
        assert "cashier" not in {role.name for role in tenants.list_roles(connection)}
        assert tenants.grants_of(connection, user) == []
        assert tenants.find_user(connection, org, OWNER) is None
        assert tenants.holders_of(connection, org, ["manager"]) == []
        with pytest.raises(NotFound):
            tenants.get_user(connection, user)
        with pytest.raises(NotFound):
            tenants.remove_role(connection, "cashier")
        with pytest.raises(InvalidInput, match="no location"):
            tenants.location_called(connection, "here")


def test_holders_of_a_role_are_told_once_each_and_by_location(org: UUID) -> None:
    here, there = make_location(org, "here"), make_location(org, "there")
    everywhere, near = make_user(org, "manager", "coordinator"), make_user(org, "manager", at="here")
    make_user(org, "staff")
    gone = make_user(org, "manager")
    change(org, gone, is_disabled=True)

    def holders(roles: list[str], location: UUID | None = None) -> list[UUID]:
        with db.transaction(org) as connection:
            return [one.id for one in tenants.holders_of(connection, org, roles, location)]

    assert holders(["manager", "coordinator"]) == holders(["manager"], there) == [everywhere]
    assert set(holders(["manager", "coordinator"], here)) == {everywhere, near}
    assert holders([]) == holders(["emperor"]) == []


def test_operators_are_listed_by_organisation_and_govern_only_while_enabled(org: UUID, other: UUID) -> None:
    with db.system_transaction() as connection:
        operator = tenants.ensure_owner(connection, org, "ops@example.com", is_operator=True).id
        assert tenants.ensure_owner(connection, org, "ops@example.com").is_operator  # it stays
    assert reach(org, operator, GOVERN).everywhere
    assert reach(org, owner_of(org), GOVERN).is_nowhere
    with db.system_transaction() as connection:
        found = tenants.operators(connection)
    assert found[org] == [operator]
    assert other not in found
    with db.transaction(org) as connection:
        assert GOVERN in tenants.permissions_held(connection, operator)
    with pytest.raises(NotPermitted, match=GOVERN):  # an owner who is no operator may not change one
        change(org, operator, name="Mine")
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE users SET disabled_at = rota_now() WHERE id = :id"), {"id": operator})
        assert org not in tenants.operators(connection)
    assert reach(org, operator, GOVERN).is_nowhere


# ── users ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_is_known_by_an_address_whatever_its_case_in_each_organisation(org: UUID, other: UUID) -> None:
    for one in (org, other):
        with db.transaction(one) as connection:
            fields = NewUser(email="Maria@Example.com", name="Maria")
            made = tenants.add_user(connection, one, fields, by=ALL)
            assert tenants.user_with_email(connection, one, "mARIA@example.COM").id == made.id
            with pytest.raises(NotFound, match="eve@example"):
                tenants.user_with_email(connection, one, "eve@example.com")


@pytest.mark.parametrize(
    ("grants", "by", "error"),
    [
        ([{"role": "viewer"}, {"role": "emperor"}], ALL, InvalidInput),
        ([{"role": "viewer"}, {"role": "viewer", "location": "moon"}], ALL, InvalidInput),
        ([{"role": "viewer"}, {"role": "owner"}], [Grant(("*:read", "users:*"), None)], NotPermitted),
    ],
)
def test_where_one_grant_is_refused_nothing_is_written(
    org: UUID, grants: list[Any], by: list[Grant], error: type[RotaError]
) -> None:
    user = make_user(org, "staff")
    users, given = rows(org, "users"), rows(org, "grants")
    wanted = [RoleGrant(**one) for one in grants]
    with pytest.raises(error), db.transaction(org) as connection:
        tenants.add_user(connection, org, NewUser(email="x@example.com", name="x", grants=wanted), by=by)
    with pytest.raises(RotaError):
        change(org, user, by, name="Changed", grants=wanted)
    assert (rows(org, "users"), rows(org, "grants")) == (users, given)
    with db.transaction(org) as connection:
        assert tenants.get_user(connection, user).name == "Somebody"


def test_only_what_is_sent_of_a_user_is_changed(org: UUID, clock: Clock) -> None:
    user = make_user(org, "staff")
    assert change(org, user).grants == [RoleGrant(role="staff")]
    renamed = change(org, user, name="Maria")
    assert (renamed.name, renamed.grants, renamed.disabled_at) == ("Maria", [RoleGrant(role="staff")], None)
    disabled = change(org, user, is_disabled=True)
    clock.move(HOUR)
    assert change(org, user, is_disabled=True).disabled_at == disabled.disabled_at  # since the first time
    assert change(org, user, name="Eva").disabled_at == disabled.disabled_at
    assert change(org, user, is_disabled=False).disabled_at is None
    assert change(org, user, grants=[]).grants == []
    with pytest.raises(NotFound):
        change(org, new_id(), name="x")


def test_of_two_owners_who_disable_each_other_at_once_one_stays(org: UUID) -> None:
    users = [owner_of(org), make_user(org, "owner")]
    said: list[str] = []
    start = threading.Barrier(2)

    def disable(user: UUID) -> None:
        start.wait()
        try:
            change(org, user, is_disabled=True)
            said.append("done")
        except Conflict as error:
            said.append(error.message)

    threads = [threading.Thread(target=disable, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(text[:17] for text in said) == ["Nobody would be l", "done"]
    with db.transaction(org) as connection:
        assert sum(one.disabled_at is None for one in tenants.list_users(connection)) == 1


def test_an_owner_of_one_location_is_not_the_owner_who_must_stay(org: UUID) -> None:
    make_location(org, "here")
    make_user(org, "owner", at="here")
    with pytest.raises(Conflict, match="Nobody would be left"):
        change(org, owner_of(org), grants=[RoleGrant(role="owner", location="here")])
    assert reach(org, owner_of(org), "anything:do").everywhere


# ── roles and locations ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_role_of_ones_own_is_changed_within_what_its_giver_holds_and_removed_when_unused(org: UUID) -> None:
    giver = [Grant(("clients:*",), None)]
    with db.transaction(org) as connection:
        tenants.put_role(connection, org, "desk", ["clients:read"], by=giver)
        tenants.put_role(connection, org, "till", ["payments:charge"], by=ALL)
        for name, wanted in (("desk", ["payments:charge"]), ("till", ["clients:read"])):  # gives, or takes, too much
            with pytest.raises(NotPermitted, match="payments:charge"):
                tenants.put_role(connection, org, name, wanted, by=giver)
        assert {role.name: role.permissions for role in tenants.list_roles(connection) if not role.is_built_in} == {
            "desk": ["clients:read"],
            "till": ["payments:charge"],
        }
    user = make_user(org, "desk")
    with db.transaction(org) as connection:
        for name, error in (("desk", Conflict), ("viewer", Conflict), ("emperor", NotFound)):
            with pytest.raises(error):
                tenants.remove_role(connection, name)
    change(org, user, grants=[])
    with db.transaction(org) as connection:
        tenants.remove_role(connection, "desk")
        assert "desk" not in {role.name for role in tenants.list_roles(connection)}


def test_two_organisations_may_have_a_location_of_one_name_and_neither_has_it_twice(org: UUID, other: UUID) -> None:
    assert make_location(org, "here") != make_location(other, "here")
    make_location(org, "a-first")
    with db.transaction(org) as connection:
        with pytest.raises(Conflict, match="'here' already"):
            tenants.add_location(connection, org, NewLocation(slug="here", name="Again"))
        assert [one.slug for one in tenants.list_locations(connection)] == ["a-first", "here"]


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def key_of(org: UUID, user: UUID | None = None, scopes: list[str] | None = None) -> tuple[KeyOwner, str]:
    """A key, as it is seen when it asks for something, and its text."""
    written = make_key(org, PEPPER, user=user, scopes=scopes)
    return keys.authenticate(written, pepper=PEPPER)[0], written


def issue(org: UUID, owner: KeyOwner, **fields: Any) -> IssuedKey:
    with db.transaction(org) as connection:
        return keys.issue(connection, owner, KeyFields(**{"name": "robot"} | fields), PEPPER)


def is_valid(key: str, pepper: str = PEPPER) -> bool:
    try:
        keys.authenticate(key, pepper=pepper)
    except NotAuthenticated:
        return False
    return True


def test_a_key_names_its_user_its_scopes_and_the_users_grants(org: UUID) -> None:
    here = make_location(org, "here")
    user = make_user(org, "viewer", "coordinator", at="here")
    owner, written = key_of(org, user, ["tasks:*"])
    assert (owner.org_id, owner.user_id, owner.scopes) == (org, user, ["tasks:*"])
    grants = keys.authenticate(written, pepper=PEPPER)[1]
    assert {one.location_id for one in grants} == {here}
    assert len(grants) == 2
    change(org, user, grants=[])
    assert keys.authenticate(written, pepper=PEPPER)[1] == ()  # it is valid, and permits nothing


def test_a_key_with_another_secret_or_pepper_and_anything_malformed_is_not_valid(org: UUID) -> None:
    owner, written = key_of(org)
    _, another = key_of(org)
    mixed = written.rpartition("_")[0] + "_" + another.rpartition("_")[2]
    assert is_valid(written)
    assert not is_valid(written, "another pepper")
    for wrong in (mixed, written[:-1], f"{written}0", written.upper(), "", "rota_", "x" * 10_000, str(owner.key_id)):
        assert not is_valid(wrong), wrong
    with db.system_transaction() as connection:
        for text_of_key, expected in ((written, True), (mixed, False), ("nonsense", False)):
            assert keys.is_known_api_key(connection, text_of_key, pepper=PEPPER) is expected
        assert not keys.is_known_api_key(connection, written, pepper="another")


def test_the_time_of_last_use_is_exact_to_a_minute(org: UUID, clock: Clock) -> None:
    owner, written = key_of(org)

    def last_used() -> datetime:
        with db.transaction(org) as connection:
            found = keys.get_key(connection, owner.key_id).last_used_at
        assert found is not None
        return found

    first = last_used()
    clock.move(timedelta(seconds=30))
    assert is_valid(written)
    assert last_used() == first
    clock.move(timedelta(seconds=31))
    assert is_valid(written)
    assert last_used() >= first + timedelta(minutes=1)


def test_no_key_outlives_the_key_that_made_it(org: UUID, clock: Clock) -> None:
    maker, _ = key_of(org)
    first = issue(org, maker, expires_at=clock.now() + HOUR)
    assert first.expires_at is not None
    owner = keys.authenticate(first.key, pepper=PEPPER)[0]
    sooner, later = first.expires_at - timedelta(minutes=1), first.expires_at + HOUR
    assert issue(org, owner).expires_at == first.expires_at
    assert issue(org, owner, expires_at=later).expires_at == first.expires_at
    last = issue(org, owner, expires_at=sooner)
    assert last.expires_at == sooner
    clock.move(HOUR - timedelta(minutes=1))
    assert (is_valid(last.key), is_valid(first.key)) == (False, True)
    clock.move(timedelta(minutes=1))
    assert not is_valid(first.key)
    with db.transaction(org) as connection, pytest.raises(Conflict, match="has expired"):
        keys.rotate(connection, maker, first.id, HOUR, PEPPER)


def test_a_key_that_would_open_nothing_is_not_made(org: UUID) -> None:
    owner, _ = key_of(org)
    gone = make_user(org, "viewer")
    with db.transaction(org) as connection:
        email = tenants.get_user(connection, gone).email
    change(org, gone, is_disabled=True)
    before = rows(org, "api_keys")
    for error, fields in (
        (InvalidInput, {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}),
        (Conflict, {"user": email}),
        (NotFound, {"user": "eve@example.com"}),
    ):
        with pytest.raises(error):
            issue(org, owner, **fields)
    assert rows(org, "api_keys") == before


def test_a_key_is_made_rotated_and_revoked_only_within_what_its_maker_may_do(org: UUID, other: UUID) -> None:
    manager = make_user(org, "manager")
    with db.transaction(org) as connection:
        email = tenants.get_user(connection, manager).email
    theirs, _ = key_of(org)  # the owner's
    mine, _ = key_of(org, manager)
    narrow, _ = key_of(org, scopes=["keys:*", "tasks:read"])
    stranger, _ = key_of(other)
    with pytest.raises(NotPermitted, match="may do more"):
        issue(org, mine, user=OWNER)
    with pytest.raises(NotPermitted, match="may do more"):
        issue(org, narrow, user=email)  # the owner may, but not with this key
    with pytest.raises(NotPermitted, match=r"no such scope: tasks:\*"):
        issue(org, narrow, scopes=["tasks:read", "tasks:*"])
    assert issue(org, theirs, user=email).user == email
    for who, error in ((mine, NotPermitted), (narrow, NotPermitted)):
        with db.transaction(org) as connection, pytest.raises(error):
            keys.rotate(connection, who, theirs.key_id, HOUR, PEPPER)
    with db.transaction(org) as connection, pytest.raises(NotPermitted):
        keys.revoke(connection, mine, theirs.key_id)
    with db.transaction(other) as connection:
        with pytest.raises(NotFound):
            keys.revoke(connection, stranger, theirs.key_id)
        with pytest.raises(NotFound):
            keys.rotate(connection, stranger, theirs.key_id, HOUR, PEPPER)
    with db.transaction(org) as connection:
        found = keys.get_key(connection, theirs.key_id)
    assert (found.revoked_at, found.replaced_by) == (None, None)


def test_a_successor_takes_over_all_but_the_secret_and_the_old_key_ends_after_the_overlap(
    org: UUID, clock: Clock
) -> None:
    maker, _ = key_of(org)
    soon, late = clock.now() + HOUR, clock.now() + 9 * HOUR
    for expires_at, expected in ((soon, soon), (late, None), (None, None)):
        old = issue(org, maker, scopes=["tasks:*"], expires_at=expires_at)
        earliest = clock.now() + 2 * HOUR
        with db.transaction(org) as connection:
            new = keys.rotate(connection, maker, old.id, 2 * HOUR, PEPPER)
            before = keys.get_key(connection, old.id)
        assert (new.name, new.user, new.scopes, new.expires_at) == (old.name, old.user, old.scopes, old.expires_at)
        assert (before.replaced_by, new.replaced_by) == (new.id, None)
        assert before.expires_at is not None
        assert new.key != old.key
        if expected:
            assert before.expires_at == expected  # the overlap does not lengthen its life
        else:
            assert earliest <= before.expires_at <= clock.now() + 2 * HOUR
        with db.transaction(org) as connection, pytest.raises(Conflict, match="rotated already"):
            keys.rotate(connection, maker, old.id, HOUR, PEPPER)


def test_a_revoked_key_stays_revoked_since_the_first_time(org: UUID, clock: Clock) -> None:
    owner, written = key_of(org)
    with db.transaction(org) as connection:
        first = keys.revoke(connection, owner, owner.key_id).revoked_at
    clock.move(HOUR)
    with db.transaction(org) as connection:
        assert keys.revoke(connection, owner, owner.key_id).revoked_at == first
        with pytest.raises(Conflict, match="revoked"):
            keys.rotate(connection, owner, owner.key_id, HOUR, PEPPER)
        assert not keys.is_known_api_key(connection, written, pepper=PEPPER)
    assert not is_valid(written)


# ── the audit log ────────────────────────────────────────────────────────────────────────────────────────────────────


def note(org: UUID, verb: str, subject: str = "thing", **actor: Any) -> None:
    with db.transaction(org) as connection:
        audit.record(connection, Actor(org_id=org, **actor), AuditEvent(verb, subject, {"n": verb}))


def test_the_audit_log_is_read_page_by_page_newest_first_until_its_end(org: UUID, other: UUID) -> None:
    for number in range(4):
        note(org, f"verb-{number}")
        note(other, "theirs")
    seen: list[str] = []
    before, pages = None, 0
    with db.transaction(org) as connection:
        while pages == 0 or before is not None:
            page = audit.read(connection, before=before, limit=3)
            seen, before, pages = seen + [one.verb for one in page.lines], page.next_before, pages + 1
    assert (seen, pages) == (["verb-3", "verb-2", "verb-1", "verb-0"], 2)


def test_lines_are_found_by_what_was_done_to_what_and_in_which_task(org: UUID) -> None:
    task, user = new_id(), make_user(org, "viewer")
    note(org, "changed", "agent/a", user_id=user)
    note(org, "changed", "agent/b")
    note(org, "acted", "tool/t", agent="a", task_id=task, seq=7)

    def found(**wanted: Any) -> list[str]:
        with db.transaction(org) as connection:
            return [one.subject for one in audit.read(connection, **wanted).lines]

    assert found(verb="changed") == ["agent/b", "agent/a"]
    assert found(subject="agent/a") == ["agent/a"]
    assert found(task=task) == found(task=task, verb="acted") == ["tool/t"]
    assert found(task=task, verb="changed") == found(subject="agent") == []
    with db.transaction(org) as connection:
        (acted, _, changed) = audit.read(connection).lines
        assert changed.user == tenants.get_user(connection, user).email
    assert (acted.agent, acted.task_id, acted.seq, acted.user, acted.details) == ("a", task, 7, None, {"n": "acted"})


def test_a_change_that_is_undone_leaves_no_line(org: UUID) -> None:
    with db.transaction(org) as connection, db.undone(connection):
        audit.record(connection, Actor(org_id=org), AuditEvent("changed", "thing"))
        assert len(audit.read(connection).lines) == 1
    with db.transaction(org) as connection:
        assert audit.read(connection).lines == []
