"""What a Socket.IO client is told of an event, in each of three vocabularies. Pure.

An event is at most one message in each vocabulary, so the `id` of a message says exactly how far a client has heard.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.events.agent_status import AgentStatus, agent_status
from web.visitor_events import told_to_visitor

Message = tuple[str, dict[str, Any]]
"""a name, and what is told"""


@dataclass(frozen=True)
class News:
    """An event of the feed, a piece of what a model says, or what is told of the stream itself."""

    kind: str
    id: str
    """cursor of a client that has heard this"""
    told: dict[str, Any]
    at: datetime | None = None


Vocabulary = Callable[[News, str], Message | None]
"""returns the message of news for a client in the given room, None for news that has no name in the vocabulary"""

# They have these names in each vocabulary.
_EVERYWHERE = frozenset({"ready", "reset", "message.delta", "message.superseded", "user.typing"})


def _time_of(news: News) -> dict[str, str]:
    return {"timestamp": news.at.isoformat()} if news.at else {}


def _without_none(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


def no_message(_news: News, _room: str) -> None:
    """Return nothing, whatever the news."""


# ── docs/events.md ───────────────────────────────────────────────────────────────────────────────────────────────────


def feed_message(news: News, room: str) -> Message:
    """Return news under its own name, as a page of events shows it."""
    at = {"at": news.at.isoformat()} if news.at else {}
    return news.kind, {"id": news.id, "type": news.kind, "room": room} | at | {"data": news.told}


# ── docs/visitors.md ─────────────────────────────────────────────────────────────────────────────────────────────────


def visitor_message(news: News, room: str) -> Message | None:
    """Return news under its own name, with what a visitor is told of it."""
    told = told_to_visitor(news.kind, news.told)
    if not told and news.kind not in {"ready", "reset"}:
        return None
    return feed_message(News(news.kind, news.id, told, news.at), room)


# ── marketing: agent_update, chat_response, campaign_update ──────────────────────────────────────────────────────────

_PROGRESS = frozenset({"task", "decision", "action", "approval"})


def marketing_message(news: News, session: str) -> Message | None:
    """Return news of the agents of a session, and their answers."""
    told = news.told
    head = {"id": news.id, "sessionId": session} | _time_of(news)
    if news.kind in _EVERYWHERE:
        return news.kind, head | told
    if news.kind == "message.answered":
        return "chat_response", head | _answer(told)
    if news.kind.partition(".")[0] in _PROGRESS:
        return "agent_update", head | _update(news.kind, told)
    return None


def campaign_message(news: News, _room: str) -> Message | None:
    """Return news of the organisation's campaigns. There is no `ready`: clients would take its id for a session's."""
    head = {"id": news.id} | _time_of(news)
    if news.kind == "reset":
        return news.kind, head | news.told
    if news.kind.startswith("campaign."):
        return "campaign_update", head | _campaign(news.kind, news.told)
    return None


def _answer(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "reply": told.get("text", ""),
        "status": told.get("status"),
        "agent": told.get("agent"),
        "taskId": told.get("task_id"),
        "conversationId": told.get("conversation_id"),
        "messageId": told.get("message_id"),
    }


def _update(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    of_task = told.get("status") if kind != "task.step" and kind.startswith("task.") else None
    status = of_task or ("waiting" if kind == "approval.requested" else "running")
    return {
        "type": kind,
        "agent": told.get("agent"),
        "status": status,
        "taskId": told.get("task_id"),
        "conversationId": told.get("conversation_id"),
        "data": told,
    }


def _campaign(kind: str, told: dict[str, Any]) -> dict[str, Any]:
    named = {"campaignId": told.get("id"), "name": told.get("name"), "status": told.get("status")}
    return _without_none({"type": kind} | named | {"title": told.get("title"), "data": told})


# ── conductor: agent.status, agent.decision, agent.intervention.executed ─────────────────────────────────────────────

_STATUS: dict[AgentStatus, str] = {
    "idle": "IDLE",
    "monitoring": "MONITORING",
    "waiting_for_approval": "WAITING_APPROVAL",
    "intervening": "INTERVENING",
    "learning": "LEARNING",
}
_EXECUTED = {"action.executed": "executed", "action.failed": "failed", "action.unknown": "unknown"}


def conductor_message(news: News, session: str) -> Message | None:
    """Return news of an agent's status, its decisions, and what it carried out."""
    if news.kind in _EVERYWHERE:
        return _enveloped(news.kind, news, session, news.told)
    if news.kind == "decision.made":
        return _enveloped("agent.decision", news, session, {"decision": _decision(news)})
    if (outcome := _EXECUTED.get(news.kind)) is not None:
        return _enveloped("agent.intervention.executed", news, session, _intervention(news.told, outcome))
    if (status := agent_status(news.kind, news.told)) is not None:
        return _enveloped("agent.status", news, session, {"status": _STATUS[status]} | _status_details(news.told))
    return None


def _enveloped(name: str, news: News, session: str, data: dict[str, Any]) -> Message:
    return name, {"type": name, "session_id": session} | _time_of(news) | {"id": news.id, "data": data}


def _status_details(told: dict[str, Any]) -> dict[str, Any]:
    details = {
        "agent": told.get("agent"),
        "taskId": told.get("task_id"),
        "waitingFor": told.get("waiting_for"),
        "approvalId": told.get("approval_id"),
        "tool": told.get("tool"),
        "arguments": told.get("arguments"),
    }
    return _without_none(details)


def _intervention_type(tool: Any) -> str | None:
    return tool.upper() if isinstance(tool, str) else None


def _decision(news: News) -> dict[str, Any]:
    told = news.told
    actions = told.get("actions") or []
    first = actions[0] if actions else {}
    return {
        "interventionType": _intervention_type(first.get("tool")),
        "confidence": told.get("confidence"),
        "reasoning": told.get("reasoning"),
        "context": {"intent": told.get("intent")},
        "actions": actions,
        "text": told.get("text"),
        "agent": told.get("agent"),
        "taskId": told.get("task_id"),
    } | _time_of(news)


def _intervention(told: dict[str, Any], outcome: str) -> dict[str, Any]:
    is_done = outcome == "executed" and told.get("ok") is not False
    return {
        "interventionType": _intervention_type(told.get("tool")),
        "status": outcome,
        "success": None if outcome == "unknown" else is_done,
        "tool": told.get("tool"),
        "durationMs": told.get("duration_ms"),
        "agent": told.get("agent"),
        "taskId": told.get("task_id"),
    }
