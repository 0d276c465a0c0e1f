"""One of everything that an organisation can have, and what a stranger would try to reach it with."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import text

from agents.learning.learner import Learner
from agents.tools.registry import Tool, parameter_schema
from core import db
from core.ids import new_id
from domain.followups import sweep
from domain.wallet import service as wallet
from domain.wallet.schemas import TopUp
from tests.support.factories import make_row, submit
from tests.support.tables import tables

MARK = "XK42"
"""stands in every row of the organisation that is not to be seen"""
NAME = f"Zaphod Beeblebrox {MARK}"


@dataclass
class Everything:
    """What was made, by the name that routes and tools give it."""

    org: UUID
    ids: dict[str, str] = field(default_factory=dict)

    def id_of(self, name: str) -> str:
        """The id of what a route or a tool calls `name`: `locker_id`, or `locker` where it filters by it."""
        return id_of(self.ids, name)


def id_of(ids: dict[str, str], name: str) -> str:
    """The id under `name`. Without one, whoever is asked with it would refuse something else, and prove nothing."""
    found = ids.get(name) or ids.get(f"{name}_id")
    assert found, (
        f"Nothing is made that an id called {name!r} could name. Make one in `make_records`, if a tool takes it, "
        "or else in `make_everything` (tests/support/everything.py), with the mark in its text, and keep its id under "
        "this name."
    )
    return found


def make_records(org: UUID, name: str = "Ana Torres", mark: str = "x") -> dict[str, str]:
    """One of each record that tools take an id of, and these ids; `mark` stands in each text."""
    person = make_row(org, "clients", name=name, email=f"z-{mark}@example.com", notes=mark)
    lead = make_row(org, "leads", name=name, email=f"l-{mark}@example.com", notes=mark)
    spin = make_row(org, "classes", name=f"Spin {mark}", description=mark)
    session = make_row(org, "class_sessions", class_id=spin, instructor=name, room=mark)
    booking = make_row(org, "bookings", client_id=person, session_id=session)
    plan = make_row(org, "subscriptions", client_id=person, plan=f"Plan {mark}")
    payment = make_row(org, "payments", client_id=person, subscription_id=plan, amount=4242)
    return {
        "client_id": str(person), "contact_id": str(person), "lead_id": str(lead), "session_id": str(session),
        "booking_id": str(booking), "payment_id": str(payment),
        "resource_id": _insert(org, "resources", {"kind": "secret-kind", "name": mark, "data": "{}"}),
    }  # fmt: skip


def make_everything(org: UUID, client: TestClient) -> Everything:
    """Fill an organisation; `client` speaks for its owner."""
    made = Everything(org, make_records(org, NAME, MARK))
    ids = made.ids

    def post(path: str, body: Any, method: str = "post") -> Any:
        answer = client.request(method, path, json=body)
        assert answer.is_success, (path, answer.text)
        return answer.json()

    ids["task_id"] = str(submit(org, MARK).id)
    ids["user_id"] = post("/v1/users", {"email": f"u-{MARK}@example.com", "name": NAME})["id"]
    ids["key_id"] = post("/v1/keys", {"name": MARK})["id"]
    ids["webhook_id"] = post("/v1/webhooks", {"url": f"https://{MARK}.example.com/"})["id"]
    post("/v1/locations", {"slug": f"loc-{MARK.lower()}", "name": MARK})
    post("/v1/roles/secret-role", {"permissions": ["tasks:read"]}, "put")
    post("/v1/templates/secret-template", {"subject": MARK, "body": MARK}, "put")
    post("/v1/channels/sms", {"url": f"https://{MARK}.example.com/"}, "put")
    post("/v1/workflows/secret-flow", {"name": MARK, "steps": [{"agent": "support-assistant", "message": MARK}]}, "put")
    ids["run_id"] = post("/v1/workflows/secret-flow/runs", {})["id"]
    talk = post("/v1/conversations", {"agent": "support-assistant", "title": MARK, "context": {"fact": MARK}})
    ids["conversation_id"] = talk["id"]
    ids["answer_id"] = post(f"/v1/conversations/{talk['id']}/messages", {"text": MARK})["answer"]["id"]
    named = {"name": f"{MARK}.txt"}
    ids["attachment_id"] = client.post("/v1/attachments", params=named, content=MARK.encode()).json()["id"]
    ids["response_id"] = f"resp_{UUID(ids['answer_id']).hex}"
    ids["wire_conversation_id"] = f"conv_{UUID(ids['conversation_id']).hex}"
    ids["wire_item_id"] = f"msg_{UUID(ids['answer_id']).hex}"
    ids |= make_visitor(client, MARK)
    fields = {"slug": "secret-agent", "name": MARK, "role": "x", "description": MARK, "system_prompt": MARK}
    post("/v1/agents", fields | {"model": "gpt-4o-mini"})
    post("/v1/budgets/secret-agent", {"monthly_limit": "42"}, "put")
    served = {"url": f"http://127.0.0.1:9/{MARK}", "models": [f"model-{MARK}"], "key": MARK}
    post("/v1/providers/secret-provider", served, "put")
    post("/v1/prices/secret-model", {"provider": "openai", "input_per_million": 1, "output_per_million": 1}, "put")
    post("/v1/pauses", {"kind": "agent", "name": "secret-agent", "reason": MARK})
    with db.system_transaction() as connection:
        wallet.top_up(connection, org, TopUp(tokens=4242, note=MARK))
    _make_what_comes_by_itself(made, client, post)
    ids["approval_id"] = _insert(org, "approvals", {
        "task_id": ids["task_id"], "seq": 1, "kind": "approval", "agent": "secret-agent", "user_id": ids["user_id"],
        "tool": "send_email", "arguments": json.dumps({"body": MARK}), "proposed": "{}", "digest": b"x",
        "decision": json.dumps({"level": "approval", "rule": MARK, "because": [], "intent": None, "why": None,
                                "reasoning": "", "confidence": None, "alternatives": [], "context": {},
                                "performance": {"done": 0, "refused": 0, "approved": 0, "rejected": 0}}),
        "asks": json.dumps([{"roles": ["owner"], "users": [], "needed": 1, "within": "PT1H", "then": "deny"}]),
        "expires_at": datetime.now(UTC) + timedelta(days=1),
    })  # fmt: skip
    ids["message_id"] = _insert(
        org, "outbox", {"channel": "email", "recipient": f"{MARK}@example.com", "body": MARK,
                        "send_after": datetime.now(UTC) + timedelta(days=1)}
    )  # fmt: skip
    ids["notification_id"] = _insert(
        org, "notifications", {"user_id": ids["user_id"], "kind": "x", "title": MARK, "body": MARK}
    )
    _make_what_agents_keep(made)
    ids["broadcast_id"] = _withdrawn_broadcast()
    return made


def _withdrawn_broadcast() -> str:
    """A broadcast that is over: others are there for everyone to see."""
    made = str(new_id())
    with db.system_transaction() as connection:
        connection.execute(
            text("INSERT INTO broadcasts (id, text, level, withdrawn_at) VALUES (:id, 'over', 'info', rota_now())"),
            {"id": made},
        )
    return made


def make_visitor(client: TestClient, mark: str, **fields: Any) -> dict[str, str]:
    """A publishable key and a visitor: their ids and the visitor's token. `client` speaks for an owner."""
    wanted = {"name": mark, "agents": ["support-assistant"]} | fields
    made = client.post("/v1/publishable-keys", json=wanted)
    assert made.is_success, made.text
    stated = {"name": mark, "contact_hint": f"v-{mark}@example.com"}
    as_page = {"authorization": f"Bearer {made.json()['key']}"}
    visitor = client.post("/v1/visitors", json=stated, headers=as_page)
    assert visitor.is_success, visitor.text
    return {
        "publishable_key_id": made.json()["id"], "publishable_key": made.json()["key"],
        "visitor_id": visitor.json()["id"], "visitor_token": visitor.json()["token"],
    }  # fmt: skip


def _make_what_agents_keep(made: Everything) -> None:
    """Tickets, tasks for staff, campaigns, posts, events and exports."""
    org, ids = made.org, made.ids
    soon = datetime.now(UTC) + timedelta(days=1)
    ids["ticket_id"] = _insert(org, "support_tickets", {"subject": MARK, "body": MARK, "priority": "normal"})
    ids["staff_task_id"] = _insert(org, "staff_tasks", {"title": MARK, "details": MARK, "lead_id": ids["lead_id"]})
    ids["campaign_id"] = _insert(
        org, "campaigns", {"name": MARK, "kind": "retention", "audience": "{}", "message": MARK}
    )
    _insert_row(org, "campaign_members", {"campaign_id": ids["campaign_id"], "client_id": ids["client_id"]})
    ids["post_id"] = _insert(
        org, "social_posts", {"platform": "x", "text": MARK, "status": "scheduled", "scheduled_at": soon}
    )
    ids["event_id"] = _insert(
        org, "calendar_events", {"kind": "tour", "title": MARK, "starts_at": soon, "ends_at": soon}
    )
    ids["export_id"] = _insert(
        org, "exports", {"what": "clients", "format": "csv", "content": MARK, "row_count": 1, "is_complete": True}
    )


def _make_what_comes_by_itself(made: Everything, client: TestClient, post: Callable[..., Any]) -> None:
    """Schedules and follow-ups, and what they begin with."""
    work = {"agent": "support-assistant", "input": {"message": MARK}}
    post(
        "/v1/schedules/secret-schedule", {"name": MARK, "times": {"kind": "interval", "every": 60}, "task": work}, "put"
    )
    post("/v1/schedules/secret-schedule/run", {})
    step = {"after": "PT1H", "brief": MARK}
    post("/v1/follow-up-rules/secret-rule", {"name": MARK, "trigger": {"kind": "quote_sent"}, "steps": [step]}, "put")
    post("/v1/follow-up-rules/secret-rule/switch", {"is_on": True})
    made.ids |= {name: str(new_id()) for name in ("quote_id", "cart_id", "product_id")}
    quote = {"contact": made.ids["client_id"], "title": MARK, "amount": "42"}
    post(f"/v1/quotes/{made.ids['quote_id']}", quote, "put")
    item = {"name": MARK, "price": "42"}
    post(f"/v1/carts/{made.ids['cart_id']}", {"contact": made.ids["client_id"], "items": [item]}, "put")
    post(f"/v1/products/{made.ids['product_id']}", {"name": MARK, "category": MARK, "price": "42"}, "put")
    post(f"/v1/contacts/{made.ids['client_id']}/preferences", {"has_consented": True}, "patch")
    sweep.plan(made.org)
    made.ids["follow_up_id"] = client.get("/v1/follow-ups").json()[0]["id"]
    post("/v1/inbox", {"contact": made.ids["lead_id"], "channel": "email", "body": MARK})
    made.ids["contact"] = made.ids["client_id"]
    lead, session = made.ids["lead_id"], made.ids["session_id"]
    made.ids["trial_id"] = str(make_row(made.org, "trial_bookings", lead_id=lead, session_id=session))
    with db.transaction(made.org) as connection:
        subject = UUID(made.ids["client_id"])
        Learner().choose(connection, made.org, policy=MARK, context=MARK, options=[MARK], subject=subject)


def _insert(org: UUID, table: str, row: dict[str, Any]) -> str:
    made = str(new_id())
    _insert_row(org, table, row | {"id": made})
    return made


def _insert_row(org: UUID, table: str, row: dict[str, Any]) -> None:
    columns, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    statement = text(f"INSERT INTO {table} (org_id, {columns}) VALUES (:org, {places})")  # noqa: S608
    with db.transaction(org) as connection:
        connection.execute(statement, row | {"org": org})


def fingerprint(org: UUID, but: frozenset[str] = frozenset()) -> dict[str, str]:
    """A digest of every table's rows of an organisation, but for the tables named."""
    found = {}
    with db.system_transaction() as connection:
        for name, table in tables().items():
            if "org_id" in table.columns and name not in but:
                digest = "md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), ''))"
                statement = text(f"SELECT {digest} FROM {name} t WHERE org_id = :org")  # noqa: S608
                found[name] = connection.execute(statement, {"org": org}).scalar_one()
    return found


def arguments_for(tool: Tool, ids: dict[str, str]) -> dict[str, Any]:
    """Arguments that fit a tool's schema and name the rows in `ids` wherever an id is asked for."""
    schema = parameter_schema(tool.parameters)
    made = {
        name: _value(name, field, ids)
        for name, field in schema["properties"].items()
        if name in schema["required"] or _is_id(name, field) or name in {"query", "reason"}
    }
    further = _TOGETHER.get(tool.name, {})
    return {name: value for name, value in (made | further).items() if value is not None}


def takes_ids(tool: Tool) -> bool:
    """Whether a tool takes an id."""
    return any(_is_id(name, field) for name, field in parameter_schema(tool.parameters)["properties"].items())


def _is_id(name: str, field: dict[str, Any]) -> bool:
    if field.get("type") == "array":
        return _is_id(name.removesuffix("s"), field["items"])
    return field.get("format") == "uuid" or name.endswith("_id")


def _soon() -> str:
    return (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0).isoformat()


def _value(name: str, field: dict[str, Any], ids: dict[str, str]) -> Any:  # noqa: PLR0911  one for each kind of value
    if "enum" in field:
        return field["enum"][0]
    if field.get("type") == "array":
        return [_value(name.removesuffix("s"), field["items"], ids)]
    if _is_id(name, field):
        return id_of(ids, name)
    if field.get("format") == "date":
        return _soon()[:10]
    if field.get("format") == "date-time":
        return _soon()
    if field.get("type") in {"integer", "number"}:
        return max(field.get("minimum", 1), 1)
    if field.get("type") == "boolean":
        return True
    if field.get("type") == "object":
        return {"a": "b"}
    assert field.get("type") == "string", f"Say here what fits {name}, of which the schema says {field}."
    return _TEXTS.get(name, "Zaphod")


_TEXTS = {
    "to": "someone@example.com", "email": "someone@example.com", "workflow": "secret-flow", "agent": "secret-agent",
    "kind": "secret-kind", "name": "secret-name", "month": "2026-10", "from_date": "2026-01-01",
    "question": "May I do it?",
}  # fmt: skip
# Parameters that are not required each, of which a tool requires some or refuses some together.
_TOGETHER: dict[str, dict[str, Any]] = {
    "create_retention_campaign": {"status": "active"}, "schedule_facility_tour": {"client_id": None},
    "update_client_tags": {"add": ["new"]},
}  # fmt: skip
