"""Operations on channels, webhooks, templates, messages and notifications. `delivery.py` sends the messages."""

import base64
import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from core.ids import new_id
from core.json_text import dump_json
from core.mailboxes import routable
from core.templates import fill
from core.vault import Vault, vault
from domain.channels import queries, whatsapp
from domain.channels.rehearsal import REFUSAL
from domain.channels.schemas import (
    Carrier,
    ChannelKind,
    ChannelView,
    EmailChannel,
    GatewaySettings,
    Letter,
    MadeWebhook,
    Message,
    MessageOutcome,
    MessagePage,
    MessageStatus,
    NewMessage,
    NewWebhook,
    Notice,
    Notification,
    Outgoing,
    Payer,
    Received,
    ReceivedBy,
    SetUpChannel,
    Template,
    TemplateFields,
    Webhook,
)
from domain.events import service as events
from domain.tenants import service as tenants
from domain.wallet import service as wallet

# ── channels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_channels(connection: Connection) -> list[ChannelView]:
    """Return the channels that are set up."""
    return queries.channels(connection)


def set_up_email(connection: Connection, org: UUID, wanted: EmailChannel) -> SetUpChannel:
    """Set up the e-mail channel. Without a password the old one is kept, if server and user name stay the same.

    Raises:
        InvalidInput: the password would be sent unencrypted, or must be given again.
    """
    _refuse_giving_away(connection, wanted)
    password = wanted.password.get_secret_value() if wanted.password else None
    row = {
        "org": org,
        "kind": "email",
        "settings": wanted.model_dump(mode="json", exclude={"password"}),
        "secret": vault().lock(password) if password else None,
    }
    queries.put_channel(connection, row)
    return _set_up(connection, org, "email", None)


_WHERE_TO = ("host", "port", "security", "username")


def _refuse_giving_away(connection: Connection, wanted: EmailChannel) -> None:
    if wanted.password is not None:
        if wanted.security == "none":
            raise InvalidInput("A password is not sent unencrypted: set security to starttls or tls.")
        return
    before = next((view for view in list_channels(connection) if view.kind == "email" and view.has_secret), None)
    if before is not None and any(before.settings[name] != getattr(wanted, name) for name in _WHERE_TO):
        raise InvalidInput("The password was given for another server or user name; give it again.")


def set_up_gateway(connection: Connection, org: UUID, kind: ChannelKind, wanted: GatewaySettings) -> SetUpChannel:
    """Set up the gateway that carries text messages. Every call makes a new signing secret."""
    secret = _new_signing_secret()
    row = {"org": org, "kind": kind, "settings": wanted.model_dump(), "secret": vault().lock(secret)}
    queries.put_channel(connection, row)
    return _set_up(connection, org, kind, secret)


def _set_up(connection: Connection, org: UUID, kind: str, secret: str | None) -> SetUpChannel:
    _try_again(connection, org, kind)
    found = next(view for view in list_channels(connection) if view.kind == kind)
    return SetUpChannel(**found.model_dump(), signing_secret=secret)


def _try_again(connection: Connection, org: UUID, receiver: str) -> None:
    """Clear the back-off of a receiver and make its waiting retries due at once, after its settings were corrected."""
    queries.note_well(connection, org, receiver)
    queries.wake_retries(connection, org, receiver)


def remove_channel(connection: Connection, kind: ChannelKind) -> None:
    """Delete a channel. Messages still queued on it will fail.

    Raises:
        NotFound: it was not set up.
    """
    if not queries.delete_channel(connection, kind):
        raise NotFound(f"There is no {kind} channel.")


def ensure_channel(connection: Connection, org: UUID, kind: Carrier) -> None:
    """Refuse to send over a channel that is not set up.

    Raises:
        Conflict: the channel was not set up.
    """
    if kind in {"email", "sms", "whatsapp"} and not queries.has_channel(connection, org, kind):
        raise Conflict(f"This organisation has no {kind} channel. Set one up: PUT /v1/channels/{kind}")


def _new_signing_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


# ── webhooks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_webhooks(connection: Connection, org: UUID) -> list[Webhook]:
    """Return the organisation's webhooks."""
    return queries.webhooks(connection, org)


def add_webhook(connection: Connection, org: UUID, wanted: NewWebhook) -> MadeWebhook:
    """Add a webhook. Its signing secret is in the returned value and cannot be read again."""
    secret, webhook_id = _new_signing_secret(), new_id()
    row = {
        "id": webhook_id,
        "org": org,
        "url": wanted.url,
        "events": wanted.events,
        "agents": wanted.agents,
        "secret": vault().lock(secret),
    }
    queries.insert_webhook(connection, row)
    return MadeWebhook(**_webhook(connection, webhook_id).model_dump(), signing_secret=secret)


def ensure_webhook(connection: Connection, org: UUID, url: str) -> None:
    """Refuse the URL of a webhook that does not exist.

    Raises:
        InvalidInput: there is no webhook with this URL.
    """
    if url not in {webhook.url for webhook in queries.webhooks(connection, org)}:
        raise InvalidInput(f"There is no webhook to {url}. Add it first: rota webhooks add {url}")


def _webhook(connection: Connection, webhook_id: UUID) -> Webhook:
    found = queries.webhook(connection, webhook_id)
    if found is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return found


def renew_webhook_secret(connection: Connection, webhook_id: UUID) -> MadeWebhook:
    """Replace a webhook's signing secret and return the new one.

    Raises:
        NotFound: there is no such webhook.
    """
    found, secret = _webhook(connection, webhook_id), _new_signing_secret()
    queries.set_webhook_secret(connection, webhook_id, vault().lock(secret))
    return MadeWebhook(**found.model_dump(), signing_secret=secret)


def remove_webhook(connection: Connection, webhook_id: UUID) -> None:
    """Delete a webhook.

    Raises:
        NotFound: there is no such webhook.
    """
    if not queries.delete_webhook(connection, webhook_id):
        raise NotFound(f"There is no webhook {webhook_id}.")


def enable_webhook(connection: Connection, org: UUID, webhook_id: UUID) -> Webhook:
    """Enable a webhook, clear its back-off and make its waiting retries due at once. Idempotent.

    Raises:
        NotFound: there is no such webhook.
    """
    _webhook(connection, webhook_id)
    queries.enable_webhook(connection, webhook_id)
    _try_again(connection, org, str(webhook_id))
    return _webhook(connection, webhook_id)


def disable_webhook(connection: Connection, org: UUID, webhook_id: UUID, because: str) -> None:
    """Disable a webhook and notify the owners and managers why. No-op if it is already disabled."""
    url = queries.disable_webhook(connection, webhook_id, because)
    if url is None:
        return
    notice = Notice(
        kind="webhook.disabled",
        title=f"The webhook to {url} was disabled",
        body=f"{because} Nothing more is posted there. Once the receiver takes posts again: rota webhooks enable "
        f"{webhook_id}, then rota webhooks send-again {webhook_id}",
        data={"webhook_id": str(webhook_id), "url": url, "because": because},
    )
    tell(connection, org, [person.id for person in tenants.holders_of(connection, org, ["owner", "manager"])], notice)


def deliveries(
    connection: Connection,
    webhook_id: UUID,
    *,
    status: MessageStatus | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> MessagePage:
    """Return the messages that were posted to a webhook or are to be, newest first.

    Raises:
        NotFound: there is no such webhook.
    """
    _webhook(connection, webhook_id)
    return list_messages(connection, status=status, webhook=webhook_id, before=before, limit=limit)


def send_again(connection: Connection, webhook_id: UUID, message_id: UUID) -> Message:
    """Queue an event for another delivery, under its old id and with its attempts reset to 0.

    Raises:
        NotFound: there is no such webhook, or it has no such delivery.
        Conflict: the webhook is disabled, or the event is being posted at the moment.
    """
    _ensure_enabled(connection, webhook_id)
    found = get_message(connection, message_id)
    if found.webhook_id != webhook_id:
        raise NotFound(f"Webhook {webhook_id} has no delivery {message_id}.")
    if not queries.requeue(connection, webhook_id, message_id=message_id):
        raise Conflict("This event is being posted just now; look again in a minute.")
    return get_message(connection, message_id)


def send_failed_again(connection: Connection, webhook_id: UUID, since: datetime | None = None) -> int:
    """Queue all failed deliveries of a webhook again; with `since`, only those of events made from then on. Return how
    many.

    Raises:
        NotFound: there is no such webhook.
        Conflict: it is disabled.
    """
    _ensure_enabled(connection, webhook_id)
    return queries.requeue(connection, webhook_id, since=since)


def _ensure_enabled(connection: Connection, webhook_id: UUID) -> None:
    if _webhook(connection, webhook_id).disabled_at is not None:
        raise Conflict(f"This webhook is disabled. Enable it first: POST /v1/webhooks/{webhook_id}/enable")


def note_trouble(connection: Connection, message: Outgoing, error: str, pause: timedelta) -> None:
    """Record that the receiver of a message does not work, and send nothing to it for `pause`."""
    row = {"org": message.org_id, "receiver": message.receiver, "failures": 1, "error": error, "pause": pause}
    queries.note_trouble(connection, row)


def note_success(connection: Connection, message: Outgoing, *, is_slow: bool) -> None:
    """Record that a message was sent. If its receiver had failed before, the receiver's waiting retries become due."""
    if is_slow:
        row = {"org": message.org_id, "receiver": message.receiver, "failures": 0, "error": None, "pause": timedelta(0)}
        queries.note_trouble(connection, row)
    elif message.is_troubled:
        queries.note_well(connection, message.org_id, message.receiver)
    if message.receiver_failures:
        queries.wake_retries(connection, message.org_id, message.receiver)


def rotate_secrets(connection: Connection, keys: Vault) -> int:
    """Encrypt every secret again with the first key, so that the older keys can be removed. Return how many."""
    count = 0
    for table in ("channels", "webhooks"):
        for row in queries.secrets(connection, table):
            queries.set_secret(connection, table, replace(row, secret=keys.relock(row.secret)))
            count += 1
    return count


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_templates(connection: Connection) -> list[Template]:
    """Return every template."""
    return queries.templates(connection)


def put_template(connection: Connection, org: UUID, name: str, fields: TemplateFields) -> Template:
    """Add or change a template."""
    queries.put_template(connection, {"org": org, "name": name, **fields.model_dump()})
    return get_template(connection, name)


def get_template(connection: Connection, name: str) -> Template:
    """Return the template called `name`.

    Raises:
        NotFound: there is none.
    """
    found = queries.template(connection, name)
    if found is None:
        known = ", ".join(template.name for template in list_templates(connection)) or "none yet"
        raise NotFound(f"There is no template called {name!r}. There are: {known}.")
    return found


def remove_template(connection: Connection, name: str) -> None:
    """Delete a template.

    Raises:
        NotFound: there is none.
    """
    if not queries.delete_template(connection, name):
        raise NotFound(f"There is no template called {name!r}.")


def filled(connection: Connection, name: str, values: dict[str, Any]) -> tuple[str, str]:
    """Return subject and body of a template with its placeholders filled.

    Raises:
        NotFound: there is no such template.
        InvalidInput: `values` has no value for a placeholder.
    """
    template = get_template(connection, name)
    return fill(template.subject, values), fill(template.body, values)


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def now(connection: Connection) -> datetime:
    """Return the database's time, by which messages are sent."""
    return queries.now(connection)


def enqueue(connection: Connection, org: UUID, message: NewMessage, message_id: UUID | None = None) -> UUID:
    """Add a message to the outbox. It is sent after this transaction has committed, when it is due.

    Raises:
        Conflict: the organisation has no such channel.
        InvalidInput: the e-mail address cannot be used in SMTP.
        NotPermitted: the rehearsal model answered in its task, and the organisation is not a demonstration.
    """
    ensure_channel(connection, org, message.channel)
    if message.channel != "in_app":
        refuse_rehearsed(connection, org, message.writers)
    chosen, conversation = message_id or new_id(), None
    if message.channel == "whatsapp":
        conversation = whatsapp.join(connection, org, message.recipient, message.send_after)
    row = {"id": chosen, "org": org, "conversation": conversation, "writers": message.writers}
    queries.insert_message(connection, message.model_dump() | row | {"recipient": _addressable(message)})
    return chosen


def _addressable(message: NewMessage) -> str:
    if message.channel != "email":
        return message.recipient
    try:
        return routable(message.recipient)
    except ValueError as error:
        raise InvalidInput(f"This e-mail cannot be sent: {error}.") from error


def lock_recipients(connection: Connection, org: UUID, channel: Carrier, recipients: Iterable[str]) -> None:
    """Lock all recipients at once, before several messages are added to the outbox in one transaction, so that two such
    transactions cannot deadlock. Only WhatsApp needs this.
    """
    if channel == "whatsapp":
        whatsapp.lock_numbers(connection, org, recipients)


def is_to_be_paid(connection: Connection, message_id: UUID, channel: Carrier, task: UUID, seq: int) -> bool:
    """Return whether step `seq` of a task must pay for the message that it added to the outbox. For WhatsApp, make the
    message the payer of its conversation, unless the conversation is already paid for.
    """
    payer = Payer(message_id=message_id, task_id=task, seq=seq)
    return channel != "whatsapp" or whatsapp.claim_payment(connection, payer)


def note_inbound(connection: Connection, org: UUID, channel: ReceivedBy, number: str | None) -> None:
    """Record an inbound message from a contact: over WhatsApp it opens a conversation if none is open."""
    if channel == "whatsapp" and number:
        whatsapp.join(connection, org, number, None, is_ours=False)


def refuse_rehearsed(connection: Connection, org: UUID, tasks: list[UUID]) -> None:
    """Refuse output of `tasks` that would leave the organisation, if the rehearsal model answered in one of the tasks
    and the organisation is not a demonstration.

    Raises:
        NotPermitted: the message says what to do.
    """
    if tasks and queries.must_stay(connection, org, tasks):
        raise NotPermitted(REFUSAL)


def tell(
    connection: Connection, org: UUID, people: Iterable[UUID], notice: Notice, *, written_by: UUID | None = None
) -> None:
    """Notify users of something in the app and, if the channel is set up, by e-mail; post it to the webhooks that
    subscribe to it. `written_by` is the task that wrote the event's text. If the rehearsal model answered in that task
    and the organisation is not a demonstration, the notice is shown in the app only.
    """
    if not notice.is_told:
        told = {"title": notice.title} | notice.data
        events.record(connection, org, notice.kind, told, task=written_by, location=notice.location_id)
    body = notice.model_dump_json(include={"kind", "title", "body", "data"})
    stays = written_by is not None and queries.must_stay(connection, org, [written_by])
    by_email = not stays and queries.has_channel(connection, org, "email")
    for person in dict.fromkeys(people):
        note = NewMessage(
            channel="in_app", recipient=str(person), subject=notice.title, body=body, written_by=written_by
        )
        enqueue(connection, org, note)
        if by_email:
            address = tenants.get_user(connection, person).email
            mail = NewMessage(
                channel="email", recipient=address, subject=notice.title, body=notice.body, written_by=written_by
            )
            enqueue(connection, org, mail)
    if stays:
        return
    posted = dump_json({"type": notice.kind, "data": {"title": notice.title, **notice.data}})
    for webhook in list_webhooks(connection, org):
        is_theirs = webhook.agents is None or notice.data.get("agent") in webhook.agents
        fits = any(fnmatchcase(notice.kind, pattern) for pattern in webhook.events)
        if webhook.disabled_at is None and fits and is_theirs:
            wanted = NewMessage(
                channel="webhook", recipient=webhook.url, body=posted, webhook_id=webhook.id, written_by=written_by
            )
            enqueue(connection, org, wanted)


def list_messages(
    connection: Connection,
    *,
    status: str | None = None,
    channel: str | None = None,
    task: UUID | None = None,
    webhook: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> MessagePage:
    """Return a page of the outbox's messages, newest first."""
    wanted = {"status": status, "channel": channel, "task": task, "webhook": webhook, "before": before, "limit": limit}
    found = queries.messages(connection, wanted)
    return MessagePage(messages=found, next_before=found[-1].id if len(found) == limit else None)


def get_message(connection: Connection, message_id: UUID) -> Message:
    """Return a message of the outbox.

    Raises:
        NotFound: there is none.
    """
    found = queries.message(connection, message_id)
    if found is None:
        raise NotFound(f"There is no message {message_id}.")
    return found


def settle_message(connection: Connection, org: UUID, message_id: UUID, said: MessageOutcome) -> Message:
    """Set the outcome of a message whose outcome is unknown because its sender died. One that was not sent is refunded.

    Raises:
        NotFound: there is no such message.
        Conflict: its outcome is known, or it is to be sent again but was withdrawn.
    """
    to = {"sent": "sent", "send_again": "queued", "not_sent": "failed"}[said.outcome]
    found = get_message(connection, message_id)
    if to == "queued" and queries.is_unwanted(connection, message_id):
        raise Conflict("Nobody wants this message to leave any more. Say sent or not_sent.")
    if not queries.change_status(connection, message_id, was="unknown", to=to):
        raise Conflict(f"The outcome of this message is not in question; it is {found.status}.")
    if to == "failed":
        pay_back(connection, org, found.id, found.task_id, found.seq, "the message did not go out")
    return get_message(connection, message_id)


def cancel_message(connection: Connection, org: UUID, message_id: UUID) -> Message:
    """Cancel a queued message and refund what it cost.

    Raises:
        NotFound: there is no such message.
        Conflict: it is not queued any more.
    """
    found = get_message(connection, message_id)
    if not queries.change_status(connection, message_id, was="queued", to="cancelled"):
        raise Conflict(f"This message is {found.status}; only a queued one can be cancelled.")
    pay_back(connection, org, found.id, found.task_id, found.seq, "the message was cancelled")
    return get_message(connection, message_id)


def pay_back(connection: Connection, org: UUID, message_id: UUID, task: UUID | None, seq: int | None, why: str) -> None:
    """Refund the cost, if any, of a message that was not sent. The cost of a WhatsApp conversation is refunded only
    when no other message of ours is left in it.
    """
    payer = whatsapp.refund(connection, org, message_id)
    if payer is not None:
        wallet.refund(connection, org, payer.task_id, payer.seq, why, note=str(payer.message_id))
    elif task is not None and seq is not None and queries.number_of(connection, message_id) is None:
        wallet.refund(connection, org, task, seq, why, note=str(message_id))


def withdraw(connection: Connection, org: UUID, ids: list[UUID]) -> set[UUID]:
    """Cancel the queued ones of these messages, refund what they cost and return their ids. A message that is being
    sent may still arrive, but is not retried.
    """
    rows = queries.withdraw(connection, ids) if ids else []
    cancelled = [row for row in rows if row.status == "cancelled"]
    whatsapp.lock_numbers(connection, org, [row.recipient for row in cancelled if row.channel == "whatsapp"])
    for row in cancelled:
        pay_back(connection, org, row.id, row.task_id, row.seq, "the message was cancelled")
    return {row.id for row in cancelled}


def postpone(connection: Connection, message_id: UUID, to: datetime, leave_by: datetime | None = None) -> None:
    """Move a queued message to the time `to`, to be sent before `leave_by`. No-op if it is not queued any more."""
    queries.postpone(connection, message_id, to, leave_by)


def last_written_to(connection: Connection, contacts: list[UUID]) -> UUID | None:
    """Return which of these contacts the latest message was addressed to, or None if there is no message to them."""
    return queries.last_written_to(connection, contacts)


# ── received ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def receive(
    connection: Connection,
    org: UUID,
    contact: UUID,
    channel: ReceivedBy,
    body: str,
    outside_id: str | None = None,
    kind: str = "words",
) -> tuple[Received, bool]:
    """Store an inbound message of a contact. Return it, and whether it is new: a message that is delivered twice under
    the same `outside_id` is stored once.
    """
    row_id = new_id()
    row = {"id": row_id, "org": org, "contact": contact, "channel": channel, "body": body, "outside_id": outside_id}
    is_new = queries.receive(connection, row | {"kind": kind})
    if is_new or outside_id is None:
        found = queries.received(connection, row_id)
    else:
        found = queries.received_as(connection, channel, outside_id)
    return found, is_new


def list_received(
    connection: Connection, *, contact: UUID | None = None, before: UUID | None = None, limit: int = 50
) -> list[Received]:
    """Return the inbound messages, newest first."""
    return queries.all_received(connection, contact=contact, before=before, limit=limit)


def correspondence(connection: Connection, contact: UUID, limit: int = 20) -> list[Letter]:
    """Return the latest `limit` messages between the organisation and a contact, oldest first."""
    return queries.correspondence(connection, contact, limit)[::-1]


# ── notifications ────────────────────────────────────────────────────────────────────────────────────────────────────


def notifications(connection: Connection, user: UUID, *, unread: bool = False, limit: int = 50) -> list[Notification]:
    """Return a user's notifications, newest first."""
    return queries.notifications(connection, user, unread=unread, limit=limit)


def mark_read(connection: Connection, user: UUID, notification_id: UUID | None = None) -> int:
    """Mark one of a user's notifications as read, or all of them. Return how many were unread."""
    return queries.mark_read(connection, user, notification_id)


def settings_of(kind: ChannelKind, body: dict[str, Any]) -> EmailChannel | GatewaySettings:
    """Parse `body` as the settings of a channel of `kind`.

    Raises:
        InvalidInput: `body` does not fit.
    """
    try:
        return EmailChannel.model_validate(body) if kind == "email" else GatewaySettings.model_validate(body)
    except ValidationError as error:
        # Without the input: it may contain a password.
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InvalidInput(problems) from None
