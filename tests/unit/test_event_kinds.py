"""The kinds of events: documented with an example that fits, and declared wherever one is told."""

import json
import re

import pytest

from core.settings import ROOT
from domain.events.kinds import FOR_EVERYONE, event_kinds
from domain.tenants.permissions import GOVERN, READING, covers

DOCUMENTED = dict(
    re.findall(r"^### `([a-z_.]+)`\n\n.*\n\n    (\{.*\})$", (ROOT / "docs" / "events.md").read_text(), re.MULTILINE)
)
PACKAGES = ("agents", "domain", "workers", "business")


def test_every_kind_is_documented() -> None:
    assert set(DOCUMENTED) == set(event_kinds())


@pytest.mark.parametrize("name", sorted(event_kinds()))
def test_the_documented_example_is_what_the_kind_tells(name: str) -> None:
    event_kinds()[name].data.model_validate(json.loads(DOCUMENTED[name]))


def test_what_people_are_notified_of_is_a_kind_of_event() -> None:
    told = {
        kind
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for kind in re.findall(r'Notice\(\s*kind="([a-z_.]+)"', file.read_text())
    }
    assert len(told) > 8
    assert told <= set(event_kinds())


def test_readers_may_hear_of_every_kind_but_of_the_installation() -> None:
    needing = {name: kind for name, kind in event_kinds().items() if kind.permission != FOR_EVERYONE}
    hidden = {name for name, kind in needing.items() if not covers(READING, kind.permission)}
    assert hidden == {name for name, kind in event_kinds().items() if kind.permission == GOVERN}
