"""How words leave: channels, webhooks, templates, the outbox; and notifications to users."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import BaseModel

from api.auth import AnyCaller, Needs, Principal
from api.problems import describes
from domain.channels import service as channels
from domain.channels.schemas import (
    Carrier,
    ChannelKind,
    ChannelView,
    EmailChannel,
    MadeWebhook,
    Message,
    MessageOutcome,
    MessagePage,
    MessageStatus,
    NewWebhook,
    Notification,
    SetUpChannel,
    Template,
    TemplateFields,
    Webhook,
)

router = APIRouter(prefix="/v1", tags=["channels"])

Reads = Annotated[Principal, Depends(Needs("channels:read"))]
Writes = Annotated[Principal, Depends(Needs("channels:write"))]
ReadsMessages = Annotated[Principal, Depends(Needs("messages:read"))]
WritesMessages = Annotated[Principal, Depends(Needs("messages:write"))]
TemplateName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Marked(BaseModel):
    """How many notifications were unread until now."""

    marked: int


@router.get("/channels", responses=describes(401, 403))
def list_channels(caller: Reads) -> list[ChannelView]:
    """The channels that were set up, without their secrets."""
    with caller.reading() as connection:
        return channels.list_channels(connection)


@router.put("/channels/{kind}", responses=describes(401, 403, 422))
def set_up_channel(kind: ChannelKind, body: Annotated[dict[str, Any], Body()], caller: Writes) -> SetUpChannel:
    """Set a channel up: for `email` a mail server, for `sms` and `whatsapp` the gateway that takes signed posts."""
    wanted = channels.settings_of(kind, body)
    with caller.writing() as connection:
        if isinstance(wanted, EmailChannel):
            return channels.set_up_email(connection, caller.org_id, wanted)
        return channels.set_up_gateway(connection, caller.org_id, kind, wanted)


@router.delete("/channels/{kind}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_channel(kind: ChannelKind, caller: Writes) -> None:
    """Take a channel away."""
    with caller.writing() as connection:
        channels.remove_channel(connection, kind)


@router.get("/webhooks", responses=describes(401, 403))
def list_webhooks(caller: Reads) -> list[Webhook]:
    """Where events are posted."""
    with caller.reading() as connection:
        return channels.list_webhooks(connection, caller.org_id)


@router.post("/webhooks", status_code=201, responses=describes(401, 403, 422))
def add_webhook(wanted: NewWebhook, caller: Writes) -> MadeWebhook:
    """Post events to an address, signed as Standard Webhooks are. The secret is in this answer and nowhere else."""
    with caller.writing(url=wanted.url, events=wanted.events) as connection:
        return channels.add_webhook(connection, caller.org_id, wanted)


@router.post("/webhooks/{webhook_id}/secret", responses=describes(401, 403, 404, 422))
def renew_webhook_secret(webhook_id: UUID, caller: Writes) -> MadeWebhook:
    """Sign with a new secret from now on."""
    with caller.writing() as connection:
        return channels.renew_webhook_secret(connection, webhook_id)


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_webhook(webhook_id: UUID, caller: Writes) -> None:
    """Post there no more."""
    with caller.writing() as connection:
        channels.remove_webhook(connection, webhook_id)


@router.get("/templates", responses=describes(401, 403))
def list_templates(caller: Reads) -> list[Template]:
    """Templates of messages."""
    with caller.reading() as connection:
        return channels.list_templates(connection)


@router.put("/templates/{name}", responses=describes(401, 403, 422))
def put_template(name: TemplateName, fields: TemplateFields, caller: Writes) -> Template:
    """Add or change a template. `{{client.name}}` in it is filled by what is given when it is used."""
    with caller.writing() as connection:
        return channels.put_template(connection, caller.org_id, name, fields)


@router.delete("/templates/{name}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_template(name: TemplateName, caller: Writes) -> None:
    """Take a template away."""
    with caller.writing() as connection:
        channels.remove_template(connection, name)


@router.get("/messages", responses=describes(401, 403, 422))
def list_messages(
    caller: ReadsMessages,
    status: MessageStatus | None = None,
    channel: Carrier | None = None,
    task: UUID | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MessagePage:
    """The outbox, newest first."""
    with caller.reading() as connection:
        return channels.list_messages(connection, status=status, channel=channel, task=task, before=before, limit=limit)


@router.get("/messages/{message_id}", responses=describes(401, 403, 404, 422))
def get_message(message_id: UUID, caller: ReadsMessages) -> Message:
    """One message and what became of it."""
    with caller.reading() as connection:
        return channels.get_message(connection, message_id)


@router.post("/messages/{message_id}/outcome", responses=describes(401, 403, 404, 409, 422))
def settle_message(message_id: UUID, said: MessageOutcome, caller: WritesMessages) -> Message:
    """Say what became of a message whose sender died while it was being sent."""
    with caller.writing(outcome=said.outcome) as connection:
        return channels.settle_message(connection, caller.org_id, message_id, said)


@router.post("/messages/{message_id}/cancel", responses=describes(401, 403, 404, 409, 422))
def cancel_message(message_id: UUID, caller: WritesMessages) -> Message:
    """Keep a message from leaving that has not left yet. What it cost is paid back."""
    with caller.writing() as connection:
        return channels.cancel_message(connection, caller.org_id, message_id)


@router.get("/notifications", responses=describes(401, 422))
def list_notifications(
    caller: AnyCaller, unread: bool = False, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> list[Notification]:
    """Your notifications, newest first."""
    with caller.reading() as connection:
        return channels.notifications(connection, caller.user_id, unread=unread, limit=limit)


@router.post("/notifications/read", responses=describes(401))
def mark_all_read(caller: AnyCaller) -> Marked:
    """Mark all your notifications as read."""
    with caller.reading() as connection:
        return Marked(marked=channels.mark_read(connection, caller.user_id))


@router.post("/notifications/{notification_id}/read", responses=describes(401, 422))
def mark_read(notification_id: UUID, caller: AnyCaller) -> Marked:
    """Mark one of your notifications as read. Twice is fine."""
    with caller.reading() as connection:
        return Marked(marked=channels.mark_read(connection, caller.user_id, notification_id))
