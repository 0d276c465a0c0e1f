"""Records that agents create: tickets, tasks for staff, campaigns, posts, exports, events, resources.

People and other systems read them, change their status and report their outcome.
"""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from core.errors import NotPermitted
from domain.office import campaigns, records, resources
from domain.office import service as office
from domain.office.schemas import (
    CalendarEvent,
    Campaign,
    CampaignStatus,
    EventKind,
    EventOutcome,
    EventStatus,
    ExportFile,
    Member,
    Platform,
    Post,
    PostOutcome,
    PostStatus,
    Resource,
    StaffTask,
    StaffTaskChange,
    StaffTaskStatus,
    Ticket,
    TicketChange,
    TicketPriority,
    TicketStatus,
)
from web.auth import Needs, Principal
from web.listing import LOOK, MOVE, ONE, Before, Limit, may

router = APIRouter(prefix="/v1", tags=["office"])


Client = Annotated[UUID | None, Query(description="only of this client")]
Lead = Annotated[UUID | None, Query(description="only of this lead")]
Assignee = Annotated[str | None, Query(max_length=100)]


# ── tickets, tasks for staff ─────────────────────────────────────────────────────────────────────────────────────────


@router.get("/tickets", responses=LOOK)
def list_tickets(
    caller: Annotated[Principal, may("tickets:read")],
    status: TicketStatus | None = None,
    priority: TicketPriority | None = None,
    assignee: Assignee = None,
    client: Client = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Ticket]:
    """List support tickets, newest first."""
    wanted = {"status": status, "priority": priority, "assignee": assignee, "client_id": client}
    with caller.reading() as connection:
        return records.list_records(connection, records.TICKETS, before=before, limit=limit, **wanted)


@router.get("/tickets/{ticket_id}", responses=ONE)
def get_ticket(ticket_id: UUID, caller: Annotated[Principal, may("tickets:read")]) -> Ticket:
    """Return a support ticket."""
    with caller.reading() as connection:
        return records.get_record(connection, records.TICKETS, ticket_id)


@router.patch("/tickets/{ticket_id}", responses=MOVE)
def change_ticket(ticket_id: UUID, change: TicketChange, caller: Annotated[Principal, may("tickets:write")]) -> Ticket:
    """Change a ticket's status, priority or assignee."""
    with caller.writing(**change.model_dump(mode="json", exclude_unset=True)) as connection:
        return records.change_ticket(connection, ticket_id, change)


@router.get("/staff-tasks", responses=LOOK)
def list_staff_tasks(
    caller: Annotated[Principal, may("leads:read")],
    status: StaffTaskStatus | None = None,
    assignee: Assignee = None,
    lead: Lead = None,
    client: Client = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[StaffTask]:
    """List staff tasks, newest first."""
    wanted = {"status": status, "assignee": assignee, "lead_id": lead, "client_id": client}
    with caller.reading() as connection:
        return records.list_records(connection, records.STAFF_TASKS, before=before, limit=limit, **wanted)


@router.get("/staff-tasks/{staff_task_id}", responses=ONE)
def get_staff_task(staff_task_id: UUID, caller: Annotated[Principal, may("leads:read")]) -> StaffTask:
    """Return a staff task."""
    with caller.reading() as connection:
        return records.get_record(connection, records.STAFF_TASKS, staff_task_id)


@router.patch("/staff-tasks/{staff_task_id}", responses=MOVE)
def change_staff_task(
    staff_task_id: UUID, change: StaffTaskChange, caller: Annotated[Principal, may("leads:write")]
) -> StaffTask:
    """Change the status, assignee or due date of a staff task."""
    with caller.writing(**change.model_dump(mode="json", exclude_unset=True)) as connection:
        return records.change_staff_task(connection, staff_task_id, change)


# ── campaigns ────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/campaigns", responses=LOOK)
def list_campaigns(
    caller: Annotated[Principal, may("campaigns:read")],
    status: CampaignStatus | None = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Campaign]:
    """List campaigns, newest first, with the number of members in each status."""
    with caller.reading() as connection:
        return campaigns.list_campaigns(connection, status=status, before=before, limit=limit)


@router.get("/campaigns/{campaign_id}", responses=ONE)
def get_campaign(campaign_id: UUID, caller: Annotated[Principal, may("campaigns:read")]) -> Campaign:
    """Return a campaign, with the number of members in each status."""
    with caller.reading() as connection:
        return campaigns.get_campaign(connection, campaign_id)


@router.get("/campaigns/{campaign_id}/members", responses=ONE)
def list_members(
    campaign_id: UUID,
    caller: Annotated[Principal, may("campaigns:read")],
    after: Annotated[UUID | None, Query(description="last client id of the previous page")] = None,
    limit: Limit = 50,
) -> list[Member]:
    """List the members of a campaign with the status of their messages."""
    with caller.reading() as connection:
        return campaigns.list_members(connection, campaign_id, after=after, limit=limit)


@router.post("/campaigns/{campaign_id}/launch", responses=MOVE)
def launch_campaign(campaign_id: UUID, caller: Annotated[Principal, may("campaigns:write")]) -> Campaign:
    """Send the messages of a draft. Also needs the permission `email:send`. Skips clients who have cancelled or opted
    out since. Each message is charged.
    """
    mail = caller.reach_of("email:send")
    if not mail.everywhere and (caller.reach.everywhere or not caller.reach.locations <= mail.locations):
        raise NotPermitted("Launching a campaign sends e-mail: it also needs the permission email:send.")
    with caller.writing() as connection:
        return campaigns.launch_campaign(connection, caller.org_id, campaign_id, caller.user_id)


@router.post("/campaigns/{campaign_id}/cancel", responses=MOVE)
def cancel_campaign(campaign_id: UUID, caller: Annotated[Principal, may("campaigns:write")]) -> Campaign:
    """End a campaign. Unsent messages are cancelled and refunded."""
    with caller.writing() as connection:
        return campaigns.cancel_campaign(connection, caller.org_id, campaign_id)


# ── posts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/posts", responses=LOOK)
def list_posts(
    caller: Annotated[Principal, may("social:read")],
    status: PostStatus | None = None,
    platform: Platform | None = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Post]:
    """List social posts, newest first."""
    with caller.reading() as connection:
        return records.list_records(
            connection, records.POSTS, before=before, limit=limit, status=status, platform=platform
        )


@router.get("/posts/{post_id}", responses=ONE)
def get_post(post_id: UUID, caller: Annotated[Principal, may("social:read")]) -> Post:
    """Return a social post."""
    with caller.reading() as connection:
        return records.get_record(connection, records.POSTS, post_id)


@router.post("/posts/{post_id}/outcome", responses=MOVE)
def settle_post(post_id: UUID, said: PostOutcome, caller: Annotated[Principal, may("social:write")]) -> Post:
    """Record that a post was published or cancelled. The webhook event `post.due` announces due posts."""
    with caller.writing(outcome=said.outcome, url=said.url) as connection:
        return records.settle_post(connection, post_id, said)


# ── exports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

Exporter = Annotated[Principal, may("data:export")]
_MEDIA = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


@router.get("/exports", responses=LOOK)
def list_exports(
    caller: Exporter,
    what: Annotated[str | None, Query(max_length=63, description="only exports of this kind of records")] = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[ExportFile]:
    """List exports, newest first. They are deleted after 30 days."""
    with caller.reading() as connection:
        return records.list_records(connection, records.EXPORTS, before=before, limit=limit, what=what)


@router.get("/exports/{export_id}", responses=ONE)
def get_export(export_id: UUID, caller: Exporter) -> ExportFile:
    """Return an export without its content."""
    with caller.reading() as connection:
        return records.get_record(connection, records.EXPORTS, export_id)


_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"text/csv": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "array"}}},
    }
}


@router.get("/exports/{export_id}/content", response_class=Response, responses=ONE | _CONTENT)
def fetch_export(export_id: UUID, caller: Exporter) -> Response:
    """Return the content of an export. The download is recorded in the audit log."""
    with caller.writing() as connection:
        found = office.view_export(connection, export_id)
    name = f"{found.what}-{found.created_at:%Y-%m-%d}.{found.format}"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(found.content, media_type=_MEDIA[found.format], headers=headers)


@router.delete("/exports/{export_id}", status_code=204, responses=ONE)
def remove_export(export_id: UUID, caller: Exporter) -> None:
    """Delete an export."""
    with caller.writing() as connection:
        records.remove_record(connection, records.EXPORTS, export_id)


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


# ── calendar ───────────────────────────────────────────────────────────────────────────────────────


@router.get("/calendar-events", responses=LOOK)
def list_events(
    caller: Annotated[Principal, may("calendar:read")],
    status: EventStatus | None = None,
    kind: EventKind | None = None,
    lead: Lead = None,
    client: Client = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[CalendarEvent]:
    """List calendar events, latest created first."""
    wanted = {"status": status, "kind": kind, "lead_id": lead, "client_id": client}
    with caller.reading() as connection:
        return records.list_records(connection, records.EVENTS, before=before, limit=limit, **wanted)


@router.get("/calendar-events/{event_id}", responses=ONE)
def get_event(event_id: UUID, caller: Annotated[Principal, may("calendar:read")]) -> CalendarEvent:
    """Return a calendar event."""
    with caller.reading() as connection:
        return records.get_record(connection, records.EVENTS, event_id)


@router.post("/calendar-events/{event_id}/outcome", responses=MOVE)
def settle_event(
    event_id: UUID, said: EventOutcome, caller: Annotated[Principal, may("calendar:write")]
) -> CalendarEvent:
    """Record the outcome of an event: held, no-show or cancelled."""
    with caller.writing(outcome=said.outcome) as connection:
        return records.settle_event(connection, event_id, said)


# ── resources ────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/resources", responses=LOOK)
def list_resources(
    caller: Annotated[Principal, Depends(Needs("resources:read"))],
    kind: Annotated[str | None, Query(max_length=63)] = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Resource]:
    """List free-form records, newest first."""
    with caller.reading() as connection:
        return records.list_records(connection, records.RESOURCES, before=before, limit=limit, kind=kind)


@router.get("/resources/{resource_id}", responses=ONE)
def get_resource(resource_id: UUID, caller: Annotated[Principal, Depends(Needs("resources:read"))]) -> Resource:
    """Return a free-form record."""
    with caller.reading() as connection:
        return records.get_record(connection, records.RESOURCES, resource_id)


@router.delete("/resources/{resource_id}", status_code=204, responses=ONE)
def remove_resource(resource_id: UUID, caller: Annotated[Principal, Depends(Needs("resources:delete"))]) -> None:
    """Delete a free-form record. Its name can then be used again."""
    with caller.writing() as connection:
        resources.delete_resource(connection, resource_id)
