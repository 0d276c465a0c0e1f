"""What is decided about visitors: what they are told, which limit is reached, which requests are theirs."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.edge import is_for_visitors
from core.crypto import API_KEY, PUBLISHABLE_KEY, VISITOR_TOKEN, new_api_key, parse_api_key, was_issued_here
from core.ids import new_id
from core.logging import mask_secrets
from domain.events.kinds import event_kinds
from domain.events.schemas import Cursor, OpenTask, Reset
from domain.visitors.schemas import DayCount, NewPublishableKey, VisitorLimits
from domain.visitors.service import exceeded
from web.visitor_events import KINDS, VisitorEncoding, told_to_visitor

EVERYTHING = {
    name
    for kind in event_kinds().values()
    for name in kind.data.model_fields
}  # fmt: skip
TOLD = {"conversation_id", "message_id", "parent_id", "position", "task_id", "status", "text", "step", "offset"}


@pytest.mark.parametrize("kind", sorted(event_kinds()))
def test_a_visitor_is_told_text_and_status_and_nothing_else(kind: str) -> None:
    shown = told_to_visitor(kind, dict.fromkeys(EVERYTHING, "x"))
    assert set(shown) <= TOLD
    assert bool(shown) is (kind in KINDS)


@pytest.mark.parametrize(
    ("kind", "told", "shown"),
    [
        ("task.started", {"status": "running", "claim": 3, "agent": "a"}, {"status": "answering"}),
        (
            "task.waiting",
            {"status": "waiting", "waiting_for": "approval"},
            {"status": "waiting", "notice": "This answer takes longer than usual. It will appear here."},
        ),
        (
            "message.answered",
            {"status": "failed", "text": "", "billed_cost": "1", "error": "bad"},
            {"status": "failed", "text": "", "notice": "This answer could not be given. Try again later."},
        ),
        (
            "message.answered",
            {"status": "answered", "text": "Yes", "parent_id": None},
            {"status": "answered", "text": "Yes"},
        ),
        ("action.executed", {"tool": "send_email"}, {}),
    ],
)  # fmt: skip
def test_what_is_told_of_an_event(kind: str, told: dict[str, Any], shown: dict[str, Any]) -> None:
    assert told_to_visitor(kind, told) == shown


def test_a_visitor_whose_cursor_is_too_old_hears_of_no_tasks() -> None:
    tasks = [OpenTask(id=new_id(), agent="secret", status="waiting", waiting_for="funds")]
    told = VisitorEncoding().reset(Reset(reason="secret", tasks=tasks, has_more_tasks=False), Cursor(1, 2))
    assert told == b"id: 1-2\nevent: reset\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("of_visitor", "in_all", "words"),
    [(5, 10, None), (6, 10, "You can send 5"), (5, 11, "no more messages today"), (6, 11, "You can send 5")],
)
def test_which_limit_of_a_day_is_exceeded(of_visitor: int, in_all: int, words: str | None) -> None:
    limits = VisitorLimits(messages_per_day=5, messages_per_day_in_all=10)
    found = exceeded(DayCount(of_visitor, in_all, 60), limits)
    assert (found is None) if words is None else (found is not None and words in found)


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/v1/visitors", "", True), ("/v1/visitor", "", True), ("/v1/visitor/conversations", "", True),
        ("/v1/conversations", "visitor=1", False), ("/socket.io/", "EIO=4&visitor=1", True),
        ("/socket.io/", "EIO=4", False),
    ],
)  # fmt: skip
def test_which_requests_are_for_visitors(path: str, query: str, expected: bool) -> None:
    assert is_for_visitors({"path": path, "query_string": query.encode()}) is expected


@pytest.mark.parametrize("prefix", [API_KEY, PUBLISHABLE_KEY, VISITOR_TOKEN])
def test_a_key_of_one_kind_is_none_of_another_and_is_masked_in_logs(prefix: str) -> None:
    key = new_api_key(new_id(), "p", prefix)
    others = {API_KEY, PUBLISHABLE_KEY, VISITOR_TOKEN} - {prefix}
    assert parse_api_key(str(key), prefix) == key
    assert was_issued_here(str(key), "p", prefix)
    assert not any(parse_api_key(str(key), other) for other in others)
    # Nor does it vouch for one of another kind with the same digits.
    assert not any(was_issued_here(f"{other}_{key.id.hex}_{key.secret}", "p", other) for other in others)
    assert mask_secrets(None, "", {"event": f"got {key}"}) == {"event": "got ***"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": ["https://www.example.com/"]}, {"origins": ["www.example.com"]}, {"origins": ["*"]},
        {"permissions": ["*"]}, {"permissions": ["*:read"]}, {"permissions": ["classes:*"]}, {"agents": []},
        {"limits": {"messages_per_day": 0}}, {"lifetime": "PT1M"},
    ],
)  # fmt: skip
def test_a_publishable_key_names_origins_as_browsers_do_and_permissions_one_by_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewPublishableKey.model_validate({"name": "x", "agents": ["a"]} | wrong)
