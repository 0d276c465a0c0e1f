"""What a permission covers, where, and what somebody may pass on; and templates that evaluate nothing."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.templates import MOST, fill
from domain.tenants.permissions import (
    BUILT_IN_ROLES,
    GOVERN,
    Grant,
    Reach,
    beyond,
    built_in_roles,
    covers,
    narrowed,
    reach,
)

HERE, THERE = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("patterns", "permission", "expected"),
    [
        (["*"], "email:send", True),
        (["email:*"], "email:send", True),
        (["*:read"], "clients:read", True),
        (["*:read"], "clients:write", False),
        (["clients:read"], "clients:read", True),
        (["client:*"], "clients:read", False),
        ([], "clients:read", False),
        (["*"], GOVERN, False),  # reserved: in no pattern but its own
        (["*:govern"], GOVERN, False),
        ([GOVERN], GOVERN, True),
        (["*:read"], "*", False),
        (["tasks:*"], "tasks:*", True),
        (["tasks:read", "tasks:write"], "tasks:*", False),
    ],
)
def test_what_a_pattern_covers(patterns: list[str], permission: str, expected: bool) -> None:
    assert covers(patterns, permission) == expected


def test_where_a_permission_holds_and_within_which_location() -> None:
    grants = [Grant(("clients:*",), HERE), Grant(("*:read",), THERE)]
    assert reach(grants, "clients:read") == Reach(locations=frozenset({HERE, THERE}))
    assert reach(grants, "clients:write") == Reach(locations=frozenset({HERE}))
    assert reach(grants, "email:send").is_nowhere
    assert reach([*grants, Grant(("*",), None)], "email:send").everywhere
    assert Reach(everywhere=True).at(HERE) == Reach(locations=frozenset({HERE}))
    assert Reach(locations=frozenset({THERE})).at(HERE).is_nowhere


def test_only_what_is_held_everywhere_can_be_passed_on() -> None:
    assert beyond([Grant(("*",), HERE)], ["tasks:read"]) == ["tasks:read"]
    assert beyond([Grant(("tasks:*",), None)], ["tasks:read", "users:write"]) == ["users:write"]
    assert beyond([Grant(("*",), None)], [GOVERN]) == [GOVERN]


words = st.sampled_from(["*", "tasks:*", "*:read", "tasks:read", "tasks:write", "users:write", "installation:govern"])


@given(st.lists(words), st.lists(words), words)
def test_a_key_never_reaches_further_than_its_scopes_and_its_user(held: list[str], scopes: list[str], one: str) -> None:
    left = narrowed([Grant(tuple(held), None)], scopes)
    if not beyond(left, [one]):
        assert covers(held, one)
        assert covers(scopes, one)


places = st.sampled_from([None, HERE, THERE])
grants = st.lists(st.builds(Grant, st.lists(words, max_size=3).map(tuple), places), max_size=4)


@given(grants, words, places)
def test_a_location_never_widens_where_a_permission_holds(given: list[Grant], one: str, place: UUID | None) -> None:
    whole = reach(given, one)
    within = whole.at(place)
    assert within.at(place) == within
    if place is None:
        assert within == whole
    else:
        assert not within.everywhere
        assert within.locations <= {place}
        assert within.is_nowhere == (not whole.everywhere and place not in whole.locations)


@given(grants, st.lists(words), words, places)
def test_scopes_take_away_and_never_add_and_no_grant_moves(
    given: list[Grant], scopes: list[str], one: str, place: UUID | None
) -> None:
    left = narrowed(given, scopes)
    assert [grant.location_id for grant in left] == [grant.location_id for grant in given]
    before, after = reach(given, one), reach(left, one)
    assert before.everywhere or not after.everywhere
    assert after.locations <= before.locations
    if covers(scopes, one):
        assert after == before


@given(grants, st.lists(words))
def test_what_is_held_everywhere_is_never_beyond_and_what_is_held_at_a_location_always(
    given: list[Grant], wanted: list[str]
) -> None:
    assert beyond(given, wanted) == [one for one in wanted if not reach(given, one).everywhere]
    local = [Grant(grant.permissions, HERE) for grant in given]
    assert beyond(local, wanted) == wanted


@pytest.mark.parametrize("role", sorted(BUILT_IN_ROLES))
def test_no_built_in_role_governs_the_installation_and_all_read(role: str) -> None:
    held = built_in_roles()[role]
    assert not covers(held, GOVERN)
    assert covers(held, "clients:read")
    assert covers(held, "users:write") == covers(held, "keys:write") == (role == "owner")
    assert set(BUILT_IN_ROLES[role]) <= set(held)  # packs add, and take nothing away


def test_a_viewer_changes_nothing_and_only_an_owner_holds_all() -> None:
    assert BUILT_IN_ROLES["viewer"] == ["*:read"]
    assert [role for role, held in BUILT_IN_ROLES.items() if "*" in held] == ["owner"]


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("Hello {{ name }}!", {"name": "Ana"}, "Hello Ana!"),
        ("{{client.name}} {{client.age}}", {"client": {"name": "Ana", "age": 3}}, "Ana 3"),
        ("{{name}}", {"name": "{{name}}"}, "{{name}}"),  # what is filled in is not filled again
        ("{{ 7*7 }} {% x %} ${y}", {}, "{{ 7*7 }} {% x %} ${y}"),
    ],
)
def test_templates_fill_places_and_evaluate_nothing(template: str, values: dict[str, object], expected: str) -> None:
    assert fill(template, values) == expected


@pytest.mark.parametrize(
    ("template", "values", "said"),
    [
        ("{{name}} {{age}}", {"name": "Ana"}, "age"),
        ("{{name.__class__}}", {"name": "Ana"}, "__class__"),
        ("{{name}}", {"name": " "}, "blank"),
        ("{{name}}" * 10, {"name": "x" * MOST}, "characters"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, values: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        fill(template, values)
