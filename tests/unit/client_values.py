"""Values as the API returns them."""

from typing import Any

AT = "2026-11-20T10:00:00Z"
TASK_ID = "01a22246-5eff-71cb-8a77-199579ac5dc9"
USER_ID = "01a22246-6000-7000-8000-000000000001"

TASK: dict[str, Any] = {
    "id": TASK_ID, "agent": "support-assistant", "status": "succeeded", "priority": "normal",
    "input": {"message": "Yoga?"}, "result": {"answer": "At nine."}, "error": None, "waiting_for": None,
    "fingerprint": None, "concurrency_key": None, "run_after": AT, "deadline": None, "expires_at": None, "attempts": 1,
    "max_attempts": 5, "worker": None, "cancel_requested_at": None, "user_id": USER_ID, "location_id": None,
    "contact": None, "parent_id": None, "origin_id": None, "root_id": None, "depth": 0, "workflow_run": None,
    "conversation_id": None, "model_calls": 1, "input_tokens": 10, "output_tokens": 5, "billed_cost": "0.0004",
    "created_at": AT, "started_at": AT, "finished_at": AT,
}  # fmt: skip

MESSAGE: dict[str, Any] = {
    "id": USER_ID, "conversation_id": USER_ID, "position": 1, "parent_id": None, "role": "user", "status": "sent",
    "text": "Yoga?", "context": None, "attachments": [], "is_from_outside": False, "task_id": None, "error": None,
    "billed_cost": "0", "rating": None, "is_current": True, "tool_calls": None, "call_id": None, "created_at": AT,
    "ended_at": None,
}  # fmt: skip

APPROVAL: dict[str, Any] = {
    "id": USER_ID, "task_id": TASK_ID, "seq": 2, "kind": "approval", "status": "open", "agent": "support-assistant",
    "user_id": USER_ID, "location_id": None, "tool": "send_email", "arguments": {"to": "bo@example.com"},
    "proposed": {"to": "bo@example.com"}, "digest": "9f86d081",
    "decision": {
        "level": "approval", "rule": "r", "because": [], "intent": None, "why": None, "reasoning": "",
        "confidence": None, "alternatives": [], "context": {},
        "performance": {"done": 0, "refused": 0, "approved": 0, "rejected": 0},
    },
    "asks": [{"roles": ["owner"], "users": [], "needed": 1, "within": "PT24H", "four_eyes": False, "then": "deny"}],
    "stage": 0, "needed": 1, "expires_at": AT, "created_at": AT, "decided_at": None, "decided_by": None,
    "reason": None, "used_at": None, "used_by_task": None, "used_by_seq": None, "is_overdue": False, "edits": [],
    "linked_task": None, "votes": [],
}  # fmt: skip
