"""Channels, webhooks, templates, the outbox, and notifications to users."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import BaseModel

from core.settings import settings
from domain.channels import service as channels
from domain.channels.reachable import ensure_host_is_deliverable, ensure_url_is_deliverable
from domain.channels.schemas import (
    Carrier,
    ChannelKind,
    ChannelView,
    EmailChannel,
    FailedDeliveries,
    MadeWebhook,
    Message,
    MessageOutcome,
    MessagePage,
    MessageStatus,
    NewWebhook,
    Notification,
    SentAgain,
    SetUpChannel,
    Template,
    TemplateFields,
    Webhook,
)
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["channels"])

Reads = Annotated[Principal, Depends(Needs("channels:read"))]
Writes = Annotated[Principal, Depends(Needs("channels:write"))]
ReadsMessages = Annotated[Principal, Depends(Needs("messages:read"))]
WritesMessages = Annotated[Principal, Depends(Needs("messages:write"))]
ReadsOwn = Annotated[Principal, Depends(Needs("notifications:read", own=True))]
MarksOwn = Annotated[Principal, Depends(Needs("notifications:write", own=True))]
TemplateName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Marked(BaseModel):
    """The number of notifications that were marked as read."""

    marked: int


@router.get("/channels", responses=describes(401, 403))
def list_channels(caller: Reads) -> list[ChannelView]:
    """List the configured channels, without their secrets."""
    with caller.reading() as connection:
        return channels.list_channels(connection)


@router.put("/channels/{kind}", responses=describes(401, 403, 422))
def set_up_channel(kind: ChannelKind, body: Annotated[dict[str, Any], Body()], caller: Writes) -> SetUpChannel:
    """Set up a channel: a mail server for `email`, a gateway for signed POST requests for `sms` and `whatsapp`. An
    address that cannot be delivered to is refused.
    """
    wanted = channels.settings_of(kind, body)
    # Before the transaction: name servers may take a while to answer.
    if isinstance(wanted, EmailChannel):
        ensure_host_is_deliverable(wanted.host, wanted.port, settings().private_networks)
    else:
        ensure_url_is_deliverable(wanted.url, settings().private_networks)
    with caller.writing() as connection:
        if isinstance(wanted, EmailChannel):
            return channels.set_up_email(connection, caller.org_id, wanted)
        return channels.set_up_gateway(connection, caller.org_id, kind, wanted)


@router.delete("/channels/{kind}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_channel(kind: ChannelKind, caller: Writes) -> None:
    """Remove a channel."""
    with caller.writing() as connection:
        channels.remove_channel(connection, kind)


@router.get("/webhooks", responses=describes(401, 403))
def list_webhooks(caller: Reads) -> list[Webhook]:
    """List the webhooks."""
    with caller.reading() as connection:
        return channels.list_webhooks(connection, caller.org_id)


@router.post("/webhooks", status_code=201, responses=describes(401, 403, 422))
def add_webhook(wanted: NewWebhook, caller: Writes) -> MadeWebhook:
    """Add a webhook. Events are posted to its URL, signed as in Standard Webhooks. Only this response contains the
    secret. A URL that cannot be delivered to is refused.
    """
    ensure_url_is_deliverable(wanted.url, settings().private_networks)
    with caller.writing(url=wanted.url, events=wanted.events) as connection:
        return channels.add_webhook(connection, caller.org_id, wanted)


@router.post("/webhooks/{webhook_id}/secret", responses=describes(401, 403, 404, 422))
def renew_webhook_secret(webhook_id: UUID, caller: Writes) -> MadeWebhook:
    """Create a new secret and return it. Events are signed with it from now on."""
    with caller.writing() as connection:
        return channels.renew_webhook_secret(connection, webhook_id)


@router.post("/webhooks/{webhook_id}/enable", responses=describes(401, 403, 404, 422))
def enable_webhook(webhook_id: UUID, caller: Writes) -> Webhook:
    """Enable a webhook that was disabled by a 410, or retry at once while its receiver is in back-off."""
    with caller.writing() as connection:
        return channels.enable_webhook(connection, caller.org_id, webhook_id)


@router.get("/webhooks/{webhook_id}/deliveries", responses=describes(401, 403, 404, 422))
def list_deliveries(
    webhook_id: UUID,
    caller: ReadsMessages,
    status: MessageStatus | None = None,
    before: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> MessagePage:
    """List a webhook's deliveries, sent and pending, newest first, with the number of attempts and the last error."""
    with caller.reading() as connection:
        return channels.deliveries(connection, webhook_id, status=status, before=before, limit=limit)


@router.post("/webhooks/{webhook_id}/deliveries/send-again", responses=describes(401, 403, 404, 409, 422))
def send_failed_again(webhook_id: UUID, wanted: FailedDeliveries, caller: WritesMessages) -> SentAgain:
    """Retry all failed deliveries, with the original ids of their events."""
    with caller.writing() as connection:
        return SentAgain(queued=channels.send_failed_again(connection, webhook_id, wanted.since))


@router.post("/webhooks/{webhook_id}/deliveries/{message_id}/send-again", responses=describes(401, 403, 404, 409, 422))
def send_again(webhook_id: UUID, message_id: UUID, caller: WritesMessages) -> Message:
    """Send one delivery again, whatever its status, with the original id of its event."""
    with caller.writing() as connection:
        return channels.send_again(connection, webhook_id, message_id)


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_webhook(webhook_id: UUID, caller: Writes) -> None:
    """Remove a webhook. No more events are posted to it."""
    with caller.writing() as connection:
        channels.remove_webhook(connection, webhook_id)


@router.get("/templates", responses=describes(401, 403))
def list_templates(caller: Reads) -> list[Template]:
    """List the templates."""
    with caller.reading() as connection:
        return channels.list_templates(connection)


@router.put("/templates/{name}", responses=describes(401, 403, 422))
def put_template(name: TemplateName, fields: TemplateFields, caller: Writes) -> Template:
    """Add or change a template. Placeholders such as `{{client.name}}` are replaced when the template is used."""
    with caller.writing() as connection:
        return channels.put_template(connection, caller.org_id, name, fields)


@router.delete("/templates/{name}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_template(name: TemplateName, caller: Writes) -> None:
    """Remove a template."""
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
    """List the messages of the outbox, newest first."""
    with caller.reading() as connection:
        return channels.list_messages(connection, status=status, channel=channel, task=task, before=before, limit=limit)


@router.get("/messages/{message_id}", responses=describes(401, 403, 404, 422))
def get_message(message_id: UUID, caller: ReadsMessages) -> Message:
    """Return one message and its status."""
    with caller.reading() as connection:
        return channels.get_message(connection, message_id)


@router.post("/messages/{message_id}/outcome", responses=describes(401, 403, 404, 409, 422))
def settle_message(message_id: UUID, said: MessageOutcome, caller: WritesMessages) -> Message:
    """Record the outcome of a message whose sender died while sending it."""
    with caller.writing(outcome=said.outcome) as connection:
        return channels.settle_message(connection, caller.org_id, message_id, said)


@router.post("/messages/{message_id}/cancel", responses=describes(401, 403, 404, 409, 422))
def cancel_message(message_id: UUID, caller: WritesMessages) -> Message:
    """Cancel an unsent message. Its charge is refunded."""
    with caller.writing() as connection:
        return channels.cancel_message(connection, caller.org_id, message_id)


@router.get("/notifications", responses=describes(401, 422))
def list_notifications(
    caller: ReadsOwn, unread: bool = False, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> list[Notification]:
    """List your notifications, newest first."""
    with caller.reading() as connection:
        return channels.notifications(connection, caller.user_id, unread=unread, limit=limit)


@router.post("/notifications/read", responses=describes(401))
def mark_all_read(caller: MarksOwn) -> Marked:
    """Mark all your notifications as read."""
    with caller.reading() as connection:
        return Marked(marked=channels.mark_read(connection, caller.user_id))


@router.post("/notifications/{notification_id}/read", responses=describes(401, 422))
def mark_read(notification_id: UUID, caller: MarksOwn) -> Marked:
    """Mark one of your notifications as read. Idempotent."""
    with caller.reading() as connection:
        return Marked(marked=channels.mark_read(connection, caller.user_id, notification_id))
