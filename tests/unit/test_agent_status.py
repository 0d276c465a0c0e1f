"""What an agent is doing, as an event of its task tells."""

from datetime import UTC, datetime
from typing import Any

import pytest

from core.ids import new_id
from domain.events.agent_status import agent_status
from domain.events.kinds import OfTask, event_kinds
from domain.events.schemas import Event

STATUSES = [
    ("task.started", {}, "monitoring"),
    ("task.waiting", {"waiting_for": "approval"}, "waiting_for_approval"),
    ("task.waiting", {"waiting_for": "funds"}, "idle"),
    ("approval.requested", {"status": "open"}, "waiting_for_approval"),
    ("action.begun", {"tool": "send_email"}, "intervening"),
    ("action.executed", {"tool": "send_email"}, "monitoring"),
    ("action.failed", {"tool": "send_email"}, "monitoring"),
    ("task.step", {"stage": "learn"}, "learning"),
    ("task.step", {"stage": "perceive"}, None),
    ("task.ended", {"status": "succeeded"}, "idle"),
    ("task.accepted", {}, None),
    ("decision.made", {}, None),
    ("action.unknown", {}, None),
    ("approval.decided", {}, None),
    ("event.raised", {"name": "x"}, None),
]


@pytest.mark.parametrize(("kind", "data", "status"), STATUSES)
def test_an_event_tells_what_its_agent_does_from_then_on(kind: str, data: dict[str, Any], status: str | None) -> None:
    assert agent_status(kind, data) == status
    event = Event(1, 1, new_id(), kind, datetime.now(UTC), new_id(), "a", None, None, data)
    assert event.told.get("agent_status") == status
    assert b"agent_status" in event.lines if status else b"agent_status" not in event.lines


@pytest.mark.parametrize("kind", sorted({kind for kind, _, status in STATUSES if status}))
def test_kinds_that_tell_it_declare_it(kind: str) -> None:
    assert issubclass(event_kinds()[kind].data, OfTask)
