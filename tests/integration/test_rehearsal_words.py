"""What the rehearsal model says in Spanish of what real tools return: wholly in Spanish."""

import json
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from agents.tools import TOOLS
from agents.tools.registry import Acting, ToolContext
from business.crm import service as crm
from business.crm.demo_data import CLASSES
from core import db
from core.ids import new_id
from core.json_text import dump_json
from embedded.rehearsal.summary import Finding, sum_up
from embedded.rehearsal.talk import Call, ToolOffer
from tests.support.factories import NOW, ZONE, make_row, owner_of
from tests.support.tools import TODAY


def use(org: UUID, tool_name: str, /, **arguments: Any) -> Any:
    """What a model is told that a tool returned."""
    tool = TOOLS.get(tool_name)
    assert tool is not None
    acting = Acting(org_id=org, user_id=owner_of(org), agent="support-assistant", task_id=new_id(), seq=1)
    with db.transaction(org) as connection:
        context = ToolContext(connection=connection, zone=ZONE, today=TODAY, acting=acting)
        return json.loads(dump_json(tool.run(context, tool.validate(arguments))))


@pytest.fixture
def results(org: UUID) -> dict[str, Any]:
    """What tools return in a demonstration gym: every one that looks, and those that change something."""
    with db.transaction(org) as connection:
        crm.seed_demonstration(connection, org, zone=ZONE, today=TODAY)
    found = use(org, "search_clients", query="Ana Torres")["clients"][0]
    client = found["client_id"]
    session = use(org, "view_class_schedule")["sessions"][0]["session_id"]
    lead = use(org, "search_leads")["leads"][0]["lead_id"]
    at = (NOW + timedelta(days=2)).isoformat()
    wanted: dict[str, dict[str, Any]] = {
        "view_class_schedule": {}, "search_classes": {}, "query_payments": {}, "query_subscriptions": {},
        "check_class_availability": {"session_id": session}, "view_class_bookings": {"session_id": session},
        "search_clients": {"query": "Ana"}, "search_leads": {}, "view_lead_profile": {"lead_id": lead},
        "view_client_profile": {"client_id": client}, "view_client_bookings": {"client_id": client},
        "view_client_payments": {"client_id": client}, "calculate_engagement_score": {"client_id": client},
        "generate_revenue_report": {}, "generate_churn_report": {}, "generate_ltv_report": {},
        "generate_monthly_turnover_report": {}, "calculate_mrr": {}, "calculate_arr": {},
        "analyze_payment_trends": {}, "analyze_class_attendance": {}, "analyze_member_engagement": {},
        "analyze_no_show_rates": {}, "identify_at_risk_members": {}, "generate_operations_report": {},
        "view_calendar_events": {}, "list_resources": {},
        "update_client_status": {"client_id": client, "status": "frozen"},
        "update_lead_status": {"lead_id": lead, "status": "contacted"},
        "update_client_tags": {"client_id": client, "add": ["vip"]},
        "create_support_ticket": {"subject": "Remo", "body": "x", "client_id": client},
        "create_lead_task": {"lead_id": lead, "title": "Llamar"}, "export_data": {"what": "clients"},
        "charge_client": {"client_id": client, "amount": 5, "kind": "shop"},
        "create_retention_campaign": {"name": "Otoño", "message": "Vuelve", "status": "active"},
        "schedule_social_post": {"platform": "instagram", "text": "Hola", "scheduled_at": at},
        "generate_hashtags": {"language": "es"}, "generate_social_content": {"platform": "x", "language": "es"},
        "schedule_facility_tour": {"lead_id": lead, "starts_at": at},
        "book_trial_class": {"lead_id": lead, "session_id": session},
    }  # fmt: skip
    other = str(make_row(org, "clients", name="Javier Ruiz"))
    wanted["book_class"] = {"client_id": other, "session_id": session}
    return {name: use(org, name, **arguments) for name, arguments in wanted.items()}


_ENGLISH = re.compile(
    r"\b(the|of|and|by|paid|count|with|from|left|date|day|week|month|year|class|status|name|is|not|at|on|in|visit|"
    r"booked|attended|failed|active|lost|found|done|growth|revenue|average|members|percent|report|before|total paid|"
    r"monday|tuesday|wednesday|thursday|friday|saturday|sunday|studio|pool|floor|start|end|ends|starts|payments|"
    r"subscriptions|sessions|places|whole|missed|lapsed|frozen|cancelled|refunded|pending|unlimited|student)\b",
    re.IGNORECASE,
)
_CLASS_NAMES = re.compile("|".join(row["name"] for row in CLASSES))


def told(name: str, result: Any, *, is_error: bool = False) -> str:
    """What is said of a tool's result in Spanish, without identifiers, addresses and the names of classes."""
    tool = ToolOffer(name, "", {"properties": {}})
    said = sum_up("¿Cómo vamos?", [Finding(tool, Call(name, {}, result, is_error))], [], "es")
    without_names = _CLASS_NAMES.sub("", said.replace(f"({name})", ""))
    return re.sub(r"\S+@\S+|#\w+|\d{4}-\d\d-\d\dT\S+", "", without_names)


def test_what_tools_return_is_told_in_spanish_alone(results: dict[str, Any]) -> None:
    english = {name: found for name, result in results.items() if (found := _ENGLISH.findall(told(name, result)))}
    assert english == {}


def test_little_is_left_out_of_what_is_told_in_spanish(results: dict[str, Any]) -> None:
    said = told("generate_revenue_report", results["generate_revenue_report"])
    assert "ingresos" in said
    assert "totales: 1 resultados" in said
    assert "estado congelado" in told("update_client_status", results["update_client_status"])
    short = {
        name for name, result in results.items() if result and len(told(name, result)) < len("[Ensayo] Hecho : x y")
    }
    assert short == set()


def test_a_refusal_is_told_in_spanish_alone() -> None:
    refused = told(
        "book_class", {"error": "This session is full. Offer another with view_class_schedule."}, is_error=True
    )
    assert refused.startswith("[Ensayo] No ha sido posible")
    assert not _ENGLISH.findall(refused)
