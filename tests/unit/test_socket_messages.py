"""What Socket.IO clients are told of each kind of event, in each vocabulary."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from api.sockets.messages import (
    News,
    Vocabulary,
    campaign_message,
    conductor_message,
    feed_message,
    marketing_message,
)
from core.settings import ROOT
from domain.events.kinds import event_kinds

AT = datetime(2026, 1, 4, 12, tzinfo=UTC)
TASK = {"task_id": "t1", "agent": "support-assistant"}
ACTION = TASK | {"step": 2, "tool": "create_poll", "duration_ms": 12}
DECISION = TASK | {
    "step": 1,
    "intent": "re-engage",
    "confidence": 0.85,
    "reasoning": "Engagement dropped.",
    "actions": [{"tool": "create_poll", "arguments": {"question": "?"}}],
    "text": "",
}
APPROVAL = TASK | {"approval_id": "a1", "status": "open", "tool": "create_poll", "arguments": {"question": "?"}}


def news(kind: str, told: dict[str, Any], at: datetime | None = AT) -> News:
    return News(kind, "7-1", told, at)


# ── marketing ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "told", "status"),
    [
        ("task.accepted", TASK | {"status": "queued"}, "queued"),
        ("task.started", TASK | {"status": "running"}, "running"),
        ("task.waiting", TASK | {"status": "waiting", "waiting_for": "approval"}, "waiting"),
        ("task.ended", TASK | {"status": "succeeded", "answer": "Done."}, "succeeded"),
        ("task.step", TASK | {"status": "failed", "stage": "decide"}, "running"),
        ("decision.made", DECISION, "running"),
        ("action.executed", ACTION, "running"),
        ("approval.requested", APPROVAL, "waiting"),
        ("approval.decided", APPROVAL | {"status": "approved"}, "running"),
    ],
)
def test_progress_is_an_agent_update(kind: str, told: dict[str, Any], status: str) -> None:
    assert marketing_message(news(kind, told), "visit-17") == (
        "agent_update",
        {
            "id": "7-1",
            "sessionId": "visit-17",
            "timestamp": AT.isoformat(),
            "type": kind,
            "agent": "support-assistant",
            "status": status,
            "taskId": "t1",
            "conversationId": None,
            "data": told,
        },
    )


def test_an_answer_is_a_chat_response() -> None:
    told = TASK | {"conversation_id": "c1", "message_id": "m2", "status": "answered", "text": "Yes, at nine."}
    assert marketing_message(news("message.answered", told), "visit-17") == (
        "chat_response",
        {
            "id": "7-1",
            "sessionId": "visit-17",
            "timestamp": AT.isoformat(),
            "reply": "Yes, at nine.",
            "status": "answered",
            "agent": "support-assistant",
            "taskId": "t1",
            "conversationId": "c1",
            "messageId": "m2",
        },
    )


@pytest.mark.parametrize(
    ("kind", "told", "shown"),
    [
        (
            "campaign.changed",
            {"change": "changed", "id": "b1", "name": "Spring", "kind": "email", "status": "active"},
            {"campaignId": "b1", "name": "Spring", "status": "active"},
        ),
        ("campaign.finished", {"title": "The campaign Spring finished"}, {"title": "The campaign Spring finished"}),
    ],
)
def test_a_campaign_is_a_campaign_update_of_no_session(kind: str, told: dict[str, Any], shown: dict[str, Any]) -> None:
    head = {"id": "7-1", "timestamp": AT.isoformat(), "type": kind, "data": told}
    assert campaign_message(news(kind, told), "") == ("campaign_update", head | shown)


@pytest.mark.parametrize("kind", ["wallet.changed", "campaign.changed", "message.sent", "advice.requested"])
def test_what_marketing_has_no_name_for_is_not_told(kind: str) -> None:
    assert marketing_message(news(kind, {}), "visit-17") is None


@pytest.mark.parametrize("kind", ["ready", "task.started"])
def test_of_campaigns_nothing_else_is_told(kind: str) -> None:
    assert campaign_message(news(kind, TASK), "") is None


# ── conductor ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "told", "status", "details"),
    [
        ("task.started", TASK, "MONITORING", {}),
        ("task.waiting", TASK | {"waiting_for": "approval"}, "WAITING_APPROVAL", {"waitingFor": "approval"}),
        ("task.waiting", TASK | {"waiting_for": "tokens"}, "IDLE", {"waitingFor": "tokens"}),
        (
            "approval.requested",
            APPROVAL,
            "WAITING_APPROVAL",
            {"approvalId": "a1", "tool": "create_poll", "arguments": {"question": "?"}},
        ),
        ("action.begun", ACTION, "INTERVENING", {"tool": "create_poll"}),
        ("task.step", TASK | {"stage": "learn"}, "LEARNING", {}),
        ("task.ended", TASK, "IDLE", {}),
    ],
)
def test_the_status_of_an_agent(kind: str, told: dict[str, Any], status: str, details: dict[str, Any]) -> None:
    assert conductor_message(news(kind, told), "123") == (
        "agent.status",
        {
            "type": "agent.status",
            "session_id": "123",
            "timestamp": AT.isoformat(),
            "id": "7-1",
            "data": {"status": status, "agent": "support-assistant", "taskId": "t1"} | details,
        },
    )


def test_a_decision_is_explained() -> None:
    message = conductor_message(news("decision.made", DECISION), "123")
    assert message is not None
    name, told = message
    assert (name, told["session_id"], told["id"]) == ("agent.decision", "123", "7-1")
    assert told["data"]["decision"] == {
        "interventionType": "CREATE_POLL",
        "confidence": 0.85,
        "reasoning": "Engagement dropped.",
        "context": {"intent": "re-engage"},
        "actions": DECISION["actions"],
        "text": "",
        "agent": "support-assistant",
        "taskId": "t1",
        "timestamp": AT.isoformat(),
    }


def test_a_decision_to_answer_intervenes_with_nothing() -> None:
    message = conductor_message(news("decision.made", TASK | {"actions": [], "text": "Yes."}), "123")
    assert message is not None
    assert message[1]["data"]["decision"]["interventionType"] is None


@pytest.mark.parametrize(
    ("kind", "ok", "status", "success"),
    [
        ("action.executed", True, "executed", True),
        ("action.executed", None, "executed", True),
        ("action.executed", False, "executed", False),
        ("action.failed", None, "failed", False),
        ("action.unknown", None, "unknown", None),
    ],
)
def test_what_was_carried_out(kind: str, ok: bool | None, status: str, success: bool | None) -> None:
    message = conductor_message(news(kind, ACTION | {"ok": ok}), "123")
    assert message is not None
    assert message[0] == "agent.intervention.executed"
    assert message[1]["data"] == {
        "interventionType": "CREATE_POLL",
        "status": status,
        "success": success,
        "tool": "create_poll",
        "durationMs": 12,
        "agent": "support-assistant",
        "taskId": "t1",
    }


@pytest.mark.parametrize("kind", ["task.accepted", "task.queued", "task.step", "message.answered", "campaign.changed"])
def test_what_the_conductor_has_no_name_for_is_not_told(kind: str) -> None:
    assert conductor_message(news(kind, TASK | {"stage": "perceive"}), "123") is None


# ── in each vocabulary ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", sorted(event_kinds()))
def test_every_event_is_told_under_its_own_name(kind: str) -> None:
    shown = {"id": "7-1", "type": kind, "room": "organisation", "at": AT.isoformat(), "data": {"id": "b1"}}
    assert feed_message(news(kind, {"id": "b1"}), "organisation") == (kind, shown)


@pytest.mark.parametrize("kind", ["message.delta", "message.superseded", "user.typing", "ready", "reset"])
def test_words_and_the_state_of_the_stream_have_the_same_name_everywhere(kind: str) -> None:
    told = news(kind, TASK | {"offset": 5, "text": "at nine."}, None)
    for tell in (marketing_message, conductor_message, feed_message):
        message = tell(told, "visit-17")
        assert message is not None
        name, data = message
        assert (name, data["id"]) == (kind, "7-1")
        assert (data.get("data") or data)["offset"] == 5


# ── documentation ────────────────────────────────────────────────────────────────────────────────────────────────────

PAGE = (ROOT / "docs" / "socketio.md").read_text()
DOCUMENTED = dict(re.findall(r"^### `([a-z_.]+)`\n[^#]*?\n    (\{.*\})$", PAGE, re.MULTILINE))
ID = "0198a1b2-0000-7000-8000-0000000000"
ON_TASK = {"task_id": f"{ID}01", "agent": "support-assistant"}
POLL = {"tool": "create_poll", "arguments": {"question": "Ready?"}}
DECIDED = ON_TASK | {
    "confidence": 0.85, "reasoning": "Engagement dropped.", "intent": "re-engage", "actions": [POLL], "text": "",
}  # fmt: skip
ANSWERED = ON_TASK | {
    "conversation_id": f"{ID}f1", "message_id": f"{ID}f3", "status": "answered", "text": "Yes, at nine.",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "vocabulary", "kind", "told"),
    [
        ("task.ended", feed_message, "task.ended", None),
        ("message.delta", feed_message, "message.delta", None),
        ("agent.status", conductor_message, "task.started", ON_TASK),
        ("agent.decision", conductor_message, "decision.made", DECIDED),
        ("agent.intervention.executed", conductor_message, "action.executed", ON_TASK | POLL | {"duration_ms": 12}),
        ("agent_update", marketing_message, "task.started", None),
        ("chat_response", marketing_message, "message.answered", ANSWERED),
        ("campaign_update", campaign_message, "campaign.changed", None),
    ],
)
def test_the_documented_example_is_what_a_client_is_told(
    name: str, vocabulary: Vocabulary, kind: str, told: dict[str, Any] | None
) -> None:
    example = json.loads(DOCUMENTED[name])
    at = example.get("at") or example.get("timestamp")
    given = News(kind, example["id"], told or example["data"], at and datetime.fromisoformat(at))
    room = example.get("room") or example.get("sessionId") or example.get("session_id") or ""
    assert vocabulary(given, room) == (name, example)


def test_every_documented_name_is_checked() -> None:
    assert len(DOCUMENTED) == 8
