"""CRM tools about leads, people who may become members."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.registry import Parameters, ToolContext, Wording, reading_tool, tool
from business.crm import service as crm
from business.crm.schemas import LeadStatus
from domain.office.times import in_zone


class SearchLeads(Parameters):
    """Whom to look for."""

    query: Annotated[
        str | None, Field(max_length=200, description="The lead's name, e-mail, phone or interest, or part")
    ] = None
    status: Annotated[LeadStatus | None, Field(description="Only leads at this stage of the pipeline")] = None
    source: Annotated[
        str | None, Field(max_length=100, description="Only leads from this source, such as instagram")
    ] = None
    limit: Annotated[int, Field(ge=1, le=100, description="At most so many rows")] = 20


class OneLead(Parameters):
    """Which lead."""

    lead_id: Annotated[UUID, Field(description="The lead's id, as search_leads returns it")]


class UpdateLeadStatus(OneLead):
    """The new stage."""

    status: Annotated[LeadStatus, Field(description="The new stage of the pipeline")]
    note: Annotated[str | None, Field(max_length=500, description="What happened, for the lead's record")] = None


@reading_tool("search_leads", category="crm", parameters=SearchLeads, permission="leads:read")
def search_leads(context: ToolContext, wanted: SearchLeads) -> dict[str, Any]:
    """Search leads (prospects, people interested in joining) by name, e-mail, phone, interest, stage or source, newest
    first. Returns lead_id, name, contact details, interest, source and pipeline status of each lead found.
    """
    found = crm.search_leads(
        context.connection, wanted.query, status=wanted.status, source=wanted.source, limit=wanted.limit
    )
    return {"leads": [in_zone(lead, context.zone) for lead in found], "count": len(found)}


@reading_tool("view_lead_profile", category="crm", parameters=OneLead, permission="leads:read")
def view_lead_profile(context: ToolContext, wanted: OneLead) -> dict[str, Any]:
    """View one lead's profile (prospect details): contact data, interest, source, pipeline status and notes."""
    return in_zone(crm.view_lead(context.connection, wanted.lead_id), context.zone)


@tool(
    "update_lead_status",
    category="crm",
    parameters=UpdateLeadStatus,
    permission="leads:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    wording=Wording(
        "mark|update|set|move|change|actualiz~|marc~|cambi~|pas~|pon~ "
        "status|stage|lead|contacted|won|lost|converted|estado|contactad*|ganad*|perdid*, convert",
        values={
            "contacted": "contacted, called, contactad*, llamad*",
            "won": "won, joined, convert, converted, ganad*",
            "lost": "lost, perdid*",
            "trial_booked": "trial book*, prueba reserv*",
            "trial_done": "trial done, prueba hecha",
        },
        prose="note",
    ),
)
def update_lead_status(context: ToolContext, wanted: UpdateLeadStatus) -> dict[str, Any]:
    """Update one lead's stage in the sales pipeline: mark a lead as new, contacted, trial_booked, trial_done,
    won (converted, joined) or lost. The note goes on the lead's record.
    """
    return crm.update_lead_status(context.connection, wanted.lead_id, wanted.status, wanted.note)


LEAD_TOOLS = [search_leads, view_lead_profile, update_lead_status]
