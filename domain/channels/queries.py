"""All SQL about channels, webhooks, templates, the outbox, the inbox and notifications."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.channels.schemas import (
    ChannelView,
    FeedWebhook,
    Letter,
    Message,
    MessageStatus,
    Notification,
    Outgoing,
    Payer,
    Received,
    Room,
    StoredSecret,
    Template,
    Webhook,
    Withdrawn,
)

# ── channels, webhooks, templates ────────────────────────────────────────────────────────────────────────────────────

_CHANNEL = "kind, settings, secret IS NOT NULL AS has_secret, changed_at"


def channels(connection: Connection) -> list[ChannelView]:
    """Return the channels that are set up, without secrets."""
    statement = text(f"SELECT {_CHANNEL} FROM channels ORDER BY kind")  # noqa: S608
    return fetch_all(connection.execute(statement), ChannelView)


def has_channel(connection: Connection, org: UUID, kind: str) -> bool:
    """Whether the organisation has set up the channel."""
    statement = text("SELECT FROM channels WHERE org_id = :org AND kind = :kind")
    return connection.execute(statement, {"org": org, "kind": kind}).first() is not None


def put_channel(connection: Connection, row: dict[str, Any]) -> None:
    """Set up a channel. If no secret is given, the old one is kept."""
    statement = text("""
        INSERT INTO channels (org_id, kind, settings, secret) VALUES (:org, :kind, CAST(:settings AS jsonb), :secret)
        ON CONFLICT (org_id, kind) DO UPDATE SET settings = excluded.settings, changed_at = rota_now(),
               secret = coalesce(excluded.secret, channels.secret)
    """)
    connection.execute(statement, row | {"settings": dump_json(row["settings"])})


def delete_channel(connection: Connection, kind: str) -> bool:
    """Delete a channel. Return False if there was none."""
    return connection.execute(text("DELETE FROM channels WHERE kind = :kind"), {"kind": kind}).rowcount == 1


_WEBHOOK = """
    SELECT w.id, w.url, w.events, w.agents, w.created_at, w.disabled_at, w.disabled_because,
           CASE WHEN t.failures > 0 THEN t.since END AS failing_since, t.error AS last_error,
           CASE WHEN t.failures > 0 THEN t.retry_at END AS retry_at
      FROM webhooks w LEFT JOIN troubled_receivers t ON t.org_id = w.org_id AND t.receiver = w.id::text
"""
_WEBHOOKS = text(f"{_WEBHOOK} WHERE w.org_id = :org ORDER BY w.id")
_ONE_WEBHOOK = text(f"{_WEBHOOK} WHERE w.id = :id")


def webhooks(connection: Connection, org: UUID) -> list[Webhook]:
    """Return an organisation's webhooks, without secrets."""
    return fetch_all(connection.execute(_WEBHOOKS, {"org": org}), Webhook)


def webhook(connection: Connection, webhook_id: UUID) -> Webhook | None:
    """Return one webhook, without its secret."""
    return fetch_optional(connection.execute(_ONE_WEBHOOK, {"id": webhook_id}), Webhook)


def insert_webhook(connection: Connection, row: dict[str, Any]) -> None:
    """Add a webhook."""
    statement = text(
        "INSERT INTO webhooks (id, org_id, url, events, agents, secret) "
        "VALUES (:id, :org, :url, :events, :agents, :secret)"
    )
    connection.execute(statement, row)


_BEHIND = text("""
    SELECT w.id FROM webhooks w
     WHERE w.disabled_at IS NULL AND (w.cursor_xid > pg_snapshot_xmax(pg_current_snapshot()) OR EXISTS (
           SELECT FROM events e
            WHERE e.org_id = w.org_id AND (e.xid, e.seq) > (w.cursor_xid, w.cursor_seq)
              AND e.xid < pg_snapshot_xmin(pg_current_snapshot())))
     ORDER BY w.cursor_xid LIMIT 200
""")


def webhooks_behind(connection: Connection) -> list[UUID]:
    """Return the webhooks with new events in the feed of their organisation, those that are furthest behind first."""
    return list(connection.execute(_BEHIND).scalars())


_LOCK_FEED_WEBHOOK = text("""
    SELECT id, org_id, url, events, agents, CAST(CAST(cursor_xid AS text) AS bigint) AS cursor_xid, cursor_seq
      FROM webhooks WHERE id = :id AND disabled_at IS NULL FOR UPDATE SKIP LOCKED
""")


def lock_feed_webhook(connection: Connection, webhook_id: UUID) -> FeedWebhook | None:
    """Lock a webhook, and return it with its cursor; None if it is disabled or locked."""
    return fetch_optional(connection.execute(_LOCK_FEED_WEBHOOK, {"id": webhook_id}), FeedWebhook)


_SET_CURSOR = text("""
    UPDATE webhooks SET cursor_xid = CAST(CAST(:xid AS text) AS xid8), cursor_seq = :seq WHERE id = :id
""")


def set_webhook_cursor(connection: Connection, webhook_id: UUID, cursor: tuple[int, int]) -> None:
    """Note up to where events were put into the outbox."""
    connection.execute(_SET_CURSOR, {"id": webhook_id, "xid": str(cursor[0]), "seq": cursor[1]})


_NOTIFIED = text("SELECT id, notify FROM tasks WHERE id = ANY(:tasks) AND notify IS NOT NULL")


def notified_tasks(connection: Connection, tasks: Sequence[UUID | None]) -> dict[UUID | None, str]:
    """Return the URLs that the submissions of these tasks name, by task."""
    return {row.id: row.notify for row in connection.execute(_NOTIFIED, {"tasks": [one for one in tasks if one]})}


def set_webhook_secret(connection: Connection, webhook_id: UUID, secret: bytes) -> None:
    """Replace the signing secret of a webhook."""
    statement = text("UPDATE webhooks SET secret = :secret WHERE id = :id")
    connection.execute(statement, {"id": webhook_id, "secret": secret})


# What happened while it was disabled is not posted afterwards: it would be old news, and only in part.
_ENABLE = text("""
    UPDATE webhooks
       SET cursor_xid = CASE WHEN disabled_at IS NULL THEN cursor_xid
                             ELSE pg_snapshot_xmin(pg_current_snapshot()) END,
           cursor_seq = CASE WHEN disabled_at IS NULL THEN cursor_seq ELSE 0 END,
           disabled_at = NULL, disabled_because = NULL
     WHERE id = :id
""")
_DISABLE = text("""
    UPDATE webhooks SET disabled_at = rota_now(), disabled_because = :because WHERE id = :id AND disabled_at IS NULL
    RETURNING url
""")


def enable_webhook(connection: Connection, webhook_id: UUID) -> None:
    """Enable a webhook."""
    connection.execute(_ENABLE, {"id": webhook_id})


def disable_webhook(connection: Connection, webhook_id: UUID, because: str) -> str | None:
    """Disable a webhook. Return its URL, or None if it was already disabled or does not exist."""
    url: str | None = connection.execute(_DISABLE, {"id": webhook_id, "because": because}).scalar_one_or_none()
    return url


def delete_webhook(connection: Connection, webhook_id: UUID) -> bool:
    """Delete a webhook and its record of failures. Return False if there was none."""
    connection.execute(text("DELETE FROM troubled_receivers WHERE receiver = :id"), {"id": str(webhook_id)})
    return connection.execute(text("DELETE FROM webhooks WHERE id = :id"), {"id": webhook_id}).rowcount == 1


_TEMPLATE = "name, subject, body, changed_at"


def templates(connection: Connection) -> list[Template]:
    """Return every template."""
    statement = text(f"SELECT {_TEMPLATE} FROM templates ORDER BY name")  # noqa: S608
    return fetch_all(connection.execute(statement), Template)


def template(connection: Connection, name: str) -> Template | None:
    """Return the template called `name`."""
    statement = text(f"SELECT {_TEMPLATE} FROM templates WHERE name = :name")  # noqa: S608
    return fetch_optional(connection.execute(statement, {"name": name}), Template)


def put_template(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a template."""
    statement = text("""
        INSERT INTO templates (org_id, name, subject, body) VALUES (:org, :name, :subject, :body)
        ON CONFLICT (org_id, name) DO UPDATE
           SET subject = excluded.subject, body = excluded.body, changed_at = rota_now()
    """)
    connection.execute(statement, row)


def delete_template(connection: Connection, name: str) -> bool:
    """Delete a template. Return False if there was none."""
    return connection.execute(text("DELETE FROM templates WHERE name = :name"), {"name": name}).rowcount == 1


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_KEYS = {"channels": "kind", "webhooks": "id"}


def secrets(connection: Connection, table: str) -> list[StoredSecret]:
    """Return every secret of `table` with the key of its row, and lock the rows."""
    key = _KEYS[table]
    statement = text(f"SELECT org_id, {key} AS key, secret FROM {table} WHERE secret IS NOT NULL FOR UPDATE")  # noqa: S608
    return fetch_all(connection.execute(statement), StoredSecret)


def set_secret(connection: Connection, table: str, row: StoredSecret) -> None:
    """Replace a secret."""
    statement = text(f"UPDATE {table} SET secret = :secret WHERE org_id = :org_id AND {_KEYS[table]} = :key")  # noqa: S608
    connection.execute(statement, asdict(row))


# ── the outbox ───────────────────────────────────────────────────────────────────────────────────────────────────────

# Both tables are needed: steps are deleted with their task after some days while usage is kept, and a reply from the
# cache has no usage.
_IS_REHEARSED = """
    (EXISTS (SELECT FROM steps s WHERE s.task_id = ANY(CAST(:writers AS uuid[])) AND s.stage = 'decide'
                AND s.output ->> 'is_rehearsal' = 'true')
     OR EXISTS (SELECT FROM usage u WHERE u.task_id = ANY(CAST(:writers AS uuid[])) AND u.is_rehearsal))
"""
_INSERT = text(f"""
    INSERT INTO outbox (id, org_id, channel, recipient, contact, subject, body, webhook_id, send_after, leave_by,
                        task_id, seq, conversation_id, is_rehearsal)
    VALUES (:id, :org, :channel, :recipient, :contact, :subject, :body, :webhook_id,
            coalesce(CAST(:send_after AS timestamptz), rota_now()), :leave_by, :task_id, :seq, :conversation,
            {_IS_REHEARSED})
""")  # noqa: S608
_MUST_STAY = text(f"""
    SELECT NOT is_demonstration AND {_IS_REHEARSED} FROM organisations WHERE id = :org
""")  # noqa: S608
_REHEARSED = text("""
    SELECT s.task_id FROM steps s
     WHERE s.task_id = ANY(:tasks) AND s.stage = 'decide' AND s.output ->> 'is_rehearsal' = 'true'
       AND NOT (SELECT is_demonstration FROM organisations WHERE id = :org)
     UNION
    SELECT u.task_id FROM usage u
     WHERE u.task_id = ANY(:tasks) AND u.is_rehearsal
       AND NOT (SELECT is_demonstration FROM organisations WHERE id = :org)
""")
_MESSAGE = """
    SELECT id, channel, recipient, contact, webhook_id, is_rehearsal, subject, body, status, send_after, attempts,
           error, task_id, seq, created_at, sent_at FROM outbox
"""
_PAGE = text(f"""{_MESSAGE}
     WHERE channel <> 'in_app' AND (CAST(:before AS uuid) IS NULL OR id < :before)
       AND (CAST(:status AS text) IS NULL OR status = :status)
       AND (CAST(:channel AS text) IS NULL OR channel = :channel)
       AND (CAST(:task AS uuid) IS NULL OR task_id = :task)
       AND (CAST(:webhook AS uuid) IS NULL OR webhook_id = :webhook)
     ORDER BY id DESC LIMIT :limit
""")
_ONE = text(f"{_MESSAGE} WHERE id = :id AND channel <> 'in_app'")


def insert_message(connection: Connection, row: dict[str, Any]) -> None:
    """Add a message to the outbox."""
    connection.execute(_INSERT, row)


def must_stay(connection: Connection, org: UUID, writers: list[UUID]) -> bool:
    """Whether the rehearsal model answered in one of these tasks and the organisation is not a demonstration."""
    return bool(connection.execute(_MUST_STAY, {"org": org, "writers": writers}).scalar_one())


def rehearsed(connection: Connection, org: UUID, tasks: list[UUID]) -> set[UUID]:
    """Return the tasks in which the rehearsal model answered, unless the organisation is a demonstration."""
    return set(connection.execute(_REHEARSED, {"org": org, "tasks": tasks}).scalars())


def messages(connection: Connection, wanted: dict[str, Any]) -> list[Message]:
    """Return the messages that match, newest first."""
    return fetch_all(connection.execute(_PAGE, wanted), Message)


def message(connection: Connection, message_id: UUID) -> Message | None:
    """Return one message."""
    return fetch_optional(connection.execute(_ONE, {"id": message_id}), Message)


# A lane is the queue of one receiver. The recursion reads one index entry per lane (a loose index scan), so neither a
# backlog nor a receiver in back-off hides the lanes behind it. Takers hold an advisory lock: two concurrent ones would
# count the same messages in hand and exceed the limits.
_TAKE_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('rota.outbox'))")
_TAKE = text("""
    WITH RECURSIVE lane AS (
        (SELECT org_id, receiver, channel FROM outbox WHERE status = 'queued' ORDER BY org_id, receiver LIMIT 1)
         UNION ALL
        SELECT n.* FROM lane l, LATERAL (
            SELECT org_id, receiver, channel FROM outbox
             WHERE status = 'queued' AND (org_id, receiver) > (l.org_id, l.receiver)
             ORDER BY org_id, receiver LIMIT 1) n
    ), in_hand AS (
        SELECT org_id, receiver, count(*) AS number FROM outbox
         WHERE status = 'sending' AND channel = ANY(:channels) GROUP BY 1, 2
    ), head AS (
        SELECT h.id, h.send_after, l.org_id, t.receiver IS NOT NULL AS is_troubled, coalesce(t.failures, 0) AS failures,
               coalesce((SELECT sum(number) FROM in_hand i WHERE i.org_id = l.org_id), 0) AS of_organisation,
               coalesce((SELECT number FROM in_hand i WHERE i.org_id = l.org_id AND i.receiver = l.receiver), 0)
               AS of_receiver
          FROM lane l
          LEFT JOIN troubled_receivers t ON t.org_id = l.org_id AND t.receiver = l.receiver
         CROSS JOIN LATERAL (
            SELECT id, send_after FROM outbox
             WHERE status = 'queued' AND org_id = l.org_id AND receiver = l.receiver AND send_after <= rota_now()
               AND (leave_by IS NULL OR leave_by > rota_now())
             ORDER BY send_after LIMIT 1) h
         WHERE l.channel = ANY(:channels) AND (t.retry_at IS NULL OR t.retry_at <= rota_now())
    ), turn AS (
        SELECT *, row_number() OVER (PARTITION BY org_id ORDER BY is_troubled, send_after) AS number FROM head
         WHERE of_receiver < CASE WHEN is_troubled THEN 1 ELSE :of_receiver END
    ), place AS (
        SELECT *, row_number() OVER (PARTITION BY is_troubled
                                     ORDER BY number, array_position(CAST(:served AS uuid[]), org_id) NULLS FIRST,
                                              send_after) AS place
          FROM turn WHERE of_organisation + number <= :of_organisation
    ), chosen AS (
        SELECT * FROM place WHERE NOT is_troubled OR place <= :to_troubled ORDER BY is_troubled, place LIMIT :messages
    ), taken AS (
        UPDATE outbox o SET status = 'sending', sending_since = rota_now(), attempts = attempts + 1
          FROM chosen c WHERE o.id = c.id AND o.status = 'queued'
        RETURNING o.*, c.is_troubled, c.failures
    )
    SELECT m.id, m.org_id, m.channel, m.recipient, m.subject, m.body, m.attempts, m.webhook_id, m.task_id, m.seq,
           m.receiver, m.failures AS receiver_failures, m.is_troubled, m.is_rehearsal, o.is_demonstration,
           c.settings, coalesce(c.secret, w.secret) AS secret, w.url
      FROM taken m
      JOIN organisations o ON o.id = m.org_id
      LEFT JOIN channels c ON c.org_id = m.org_id AND c.kind = m.channel
      LEFT JOIN webhooks w ON w.org_id = m.org_id AND w.id = m.webhook_id AND w.disabled_at IS NULL
""")


def take_due(connection: Connection, room: Room) -> list[Outgoing]:
    """Mark the next due messages as being sent and return them with what their channels need. Every organisation gets
    one message before any gets a second; organisations whose last turn is longest ago come first.
    """
    connection.execute(_TAKE_LOCK)
    return fetch_all(connection.execute(_TAKE, asdict(room)), Outgoing)


_TROUBLE = text("""
    INSERT INTO troubled_receivers AS t (org_id, receiver, failures, error, retry_at)
    VALUES (:org, :receiver, :failures, :error, rota_now() + CAST(:pause AS interval))
    ON CONFLICT (org_id, receiver) DO UPDATE
       SET since = CASE WHEN t.failures = 0 THEN rota_now() ELSE t.since END,
           failures = CASE WHEN :failures = 0 THEN 0 ELSE t.failures + 1 END,
           error = excluded.error, retry_at = excluded.retry_at
""")
_WELL_AGAIN = text("DELETE FROM troubled_receivers WHERE org_id = :org AND receiver = :receiver")
_WAKE = text("""
    UPDATE outbox SET send_after = rota_now()
     WHERE org_id = :org AND receiver = :receiver AND status = 'queued' AND attempts > 0 AND send_after > rota_now()
""")


def note_trouble(connection: Connection, row: dict[str, Any]) -> None:
    """Record that a receiver failed and how long nothing is sent to it; with `failures` 0, that it was slow."""
    connection.execute(_TROUBLE, row)


def note_well(connection: Connection, org: UUID, receiver: str) -> None:
    """Delete the record of a receiver's failures: it works again."""
    connection.execute(_WELL_AGAIN, {"org": org, "receiver": receiver})


def wake_retries(connection: Connection, org: UUID, receiver: str) -> None:
    """Make the waiting retries of a receiver due at once."""
    connection.execute(_WAKE, {"org": org, "receiver": receiver})


_RESULT = text("""
    UPDATE outbox SET status = CASE WHEN :status = 'queued' AND is_unwanted THEN 'cancelled' ELSE :status END,
           error = :error, sending_since = NULL,
           send_after = coalesce(rota_now() + CAST(:delay AS interval), send_after),
           sent_at = CASE WHEN :status = 'sent' THEN rota_now() END
     WHERE id = :id AND status = 'sending' AND attempts = :attempts
    RETURNING status
""")


def note_result(connection: Connection, row: dict[str, Any]) -> str | None:
    """Record the result of an attempt to send a message and return the message's status. A message that would be
    retried but was withdrawn is cancelled. Return None if the message is not in this attempt any more.
    """
    found: str | None = connection.execute(_RESULT, {"error": None, "delay": None} | row).scalar_one_or_none()
    return found


_LEFT_BEHIND = text("""
    UPDATE outbox SET sending_since = NULL, error = 'Its sender died while it was being sent.',
           status = CASE WHEN channel = ANY(:harmless) AND NOT is_unwanted THEN 'queued' ELSE 'unknown' END
     WHERE status = 'sending' AND sending_since < rota_now() - CAST(:lease AS interval)
    RETURNING id, status
""")


def reclaim_left_behind(connection: Connection, lease: timedelta, harmless: list[str]) -> dict[UUID, MessageStatus]:
    """Reclaim the messages whose sender died and return their new statuses: queued on the `harmless` channels, where
    receivers recognise duplicates, unless withdrawn; otherwise unknown.
    """
    rows = connection.execute(_LEFT_BEHIND, {"lease": lease, "harmless": harmless})
    return {row.id: row.status for row in rows}


_CHANGE = text("UPDATE outbox SET status = :to, sent_at = CASE WHEN :to = 'sent' THEN rota_now() END "
               "WHERE id = :id AND status = :was")  # fmt: skip


def change_status(connection: Connection, message_id: UUID, *, was: str, to: str) -> bool:
    """Move a message from status `was` to `to`. Return False if its status is not `was`."""
    return connection.execute(_CHANGE, {"id": message_id, "was": was, "to": to}).rowcount == 1


_REQUEUE = text("""
    UPDATE outbox SET status = 'queued', send_after = rota_now(), attempts = 0, is_unwanted = false, sent_at = NULL
     WHERE webhook_id = :webhook AND status <> 'sending'
       AND (id = :message OR CAST(:message AS uuid) IS NULL AND status = 'failed')
       AND (CAST(:since AS timestamptz) IS NULL OR created_at >= :since)
""")


def requeue(
    connection: Connection, webhook: UUID, *, message_id: UUID | None = None, since: datetime | None = None
) -> int:
    """Queue one delivery of a webhook again, or all that failed. Return how many."""
    return connection.execute(_REQUEUE, {"webhook": webhook, "message": message_id, "since": since}).rowcount


# ── notifications ────────────────────────────────────────────────────────────────────────────────────────────────────

_NOTIFY = text("""
    INSERT INTO notifications (id, org_id, user_id, kind, title, body, data)
    SELECT :id, :org, CAST(:user AS uuid), event ->> 'kind', event ->> 'title', event ->> 'body',
           coalesce(event -> 'data', '{}')
      FROM CAST(:event AS jsonb) AS event
    ON CONFLICT (id) DO NOTHING
""")


def insert_notification(connection: Connection, row_id: UUID, org: UUID, user: str, event: str) -> None:
    """Add a notification. Idempotent."""
    connection.execute(_NOTIFY, {"id": row_id, "org": org, "user": user, "event": event})


_NOTIFICATIONS = text("""
    SELECT id, kind, title, body, data, created_at, read_at FROM notifications
     WHERE user_id = :user AND (NOT :unread OR read_at IS NULL) ORDER BY id DESC LIMIT :limit
""")


def notifications(connection: Connection, user: UUID, *, unread: bool, limit: int) -> list[Notification]:
    """Return a user's notifications, newest first."""
    bound = {"user": user, "unread": unread, "limit": limit}
    return fetch_all(connection.execute(_NOTIFICATIONS, bound), Notification)


def mark_read(connection: Connection, user: UUID, notification_id: UUID | None) -> int:
    """Mark one notification of a user as read, or all of them. Return how many were unread."""
    statement = text(
        "UPDATE notifications SET read_at = rota_now() WHERE user_id = :user AND read_at IS NULL "
        "AND (CAST(:id AS uuid) IS NULL OR id = :id)"
    )
    return connection.execute(statement, {"user": user, "id": notification_id}).rowcount


def now(connection: Connection) -> datetime:
    """Return the database's time."""
    found: datetime = connection.execute(text("SELECT rota_now()")).scalar_one()
    return found


# ── WhatsApp conversations ───────────────────────────────────────────────────────────────────────────────────────────

_LOCK_NUMBERS = text("""
    SELECT pg_advisory_xact_lock(key)
      FROM (SELECT DISTINCT hashtextextended(:org || ' ' || number, 24) AS key
              FROM unnest(CAST(:numbers AS text[])) AS number ORDER BY key) AS keys
""")
# `rota_now()` is the start of the transaction. A transaction that waited for the lock may have started before the one
# that opened the conversation, so the time passed since its start is added.
_THEN = "coalesce(CAST(:at AS timestamptz), rota_now() + (clock_timestamp() - now()))"
_OPEN_CONVERSATION = text(f"""
    SELECT id FROM whatsapp_conversations
     WHERE org_id = :org AND number = :number AND opened_at <= {_THEN} AND opened_at > {_THEN} - interval '24 hours'
     ORDER BY opened_at DESC LIMIT 1
""")  # noqa: S608
_INSERT_CONVERSATION = text(f"""
    INSERT INTO whatsapp_conversations (id, org_id, number, opened_by, opened_at)
    VALUES (:id, :org, :number, :opened_by, {_THEN})
""")  # noqa: S608
_CLAIM_PAYMENT = text("""
    UPDATE whatsapp_conversations c SET message_id = :message_id, task_id = :task_id, seq = :seq
      FROM outbox o WHERE o.id = :message_id AND c.id = o.conversation_id AND c.message_id IS NULL
""")
_UNCLAIM_PAYMENT = text("""
    WITH paid AS (
        SELECT c.id, c.message_id, c.task_id, c.seq
          FROM outbox o JOIN whatsapp_conversations c ON c.id = o.conversation_id
         WHERE o.id = :message AND c.message_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM outbox other
                            WHERE other.conversation_id = c.id AND other.id <> :message
                              AND other.status IN ('queued', 'sending', 'sent', 'unknown'))
    ), unpaid AS (
        UPDATE whatsapp_conversations c SET message_id = NULL, task_id = NULL, seq = NULL FROM paid WHERE c.id = paid.id
    )
    SELECT message_id, task_id, seq FROM paid
""")
_NUMBER_OF = text("""
    SELECT c.number FROM outbox o JOIN whatsapp_conversations c ON c.id = o.conversation_id WHERE o.id = :message
""")


def lock_numbers(connection: Connection, org: UUID, numbers: list[str]) -> None:
    """Lock the conversations with these numbers until the transaction ends, in a fixed order."""
    connection.execute(_LOCK_NUMBERS, {"org": str(org), "numbers": numbers})


def open_conversation(connection: Connection, org: UUID, number: str, at: datetime | None) -> UUID | None:
    """Return the conversation with a number that is open at `at`, or now if `at` is None."""
    found: UUID | None = connection.execute(
        _OPEN_CONVERSATION, {"org": org, "number": number, "at": at}
    ).scalar_one_or_none()
    return found


def insert_conversation(connection: Connection, row: dict[str, Any]) -> None:
    """Open a conversation."""
    connection.execute(_INSERT_CONVERSATION, row)


def claim_payment(connection: Connection, payer: Payer) -> bool:
    """Record what pays for the conversation of a message. Return False if it is already paid for."""
    return connection.execute(_CLAIM_PAYMENT, payer.model_dump()).rowcount == 1


def unclaim_payment(connection: Connection, message_id: UUID) -> Payer | None:
    """Mark the conversation of a message as unpaid if no other message of ours is left in it. Return what had paid."""
    return fetch_optional(connection.execute(_UNCLAIM_PAYMENT, {"message": message_id}), Payer)


def number_of(connection: Connection, message_id: UUID) -> str | None:
    """Return the number of a message's conversation, or None if the message belongs to no conversation."""
    found: str | None = connection.execute(_NUMBER_OF, {"message": message_id}).scalar_one_or_none()
    return found


# ── received ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_RECEIVE = text("""
    INSERT INTO inbox (id, org_id, contact, channel, body, outside_id, kind)
    VALUES (:id, :org, :contact, :channel, :body, :outside_id, :kind)
    ON CONFLICT (org_id, channel, outside_id) WHERE outside_id IS NOT NULL DO NOTHING
""")
_RECEIVED = "SELECT id, contact, channel, body, outside_id, received_at, kind FROM inbox"
_CORRESPONDENCE = text("""
    (SELECT 'sent' AS direction, channel, coalesce(sent_at, send_after) AS at, subject, body FROM outbox
      WHERE contact = :contact AND status IN ('queued', 'sending', 'sent', 'unknown')
      ORDER BY created_at DESC LIMIT :limit)
     UNION ALL
    (SELECT 'received', channel, received_at, '', body FROM inbox
      WHERE contact = :contact AND kind <> 'bounce' ORDER BY received_at DESC LIMIT :limit)
      ORDER BY at DESC LIMIT :limit
""")
_POSTPONE = text("UPDATE outbox SET send_after = :to, leave_by = :leave_by WHERE id = :id AND status = 'queued'")
_WITHDRAW = text("""
    UPDATE outbox SET status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END, is_unwanted = true
     WHERE id IN (SELECT id FROM outbox WHERE id = ANY(:ids) AND status IN ('queued', 'sending', 'unknown')
                   ORDER BY id FOR UPDATE)
    RETURNING id, status, task_id, seq, channel, recipient
""")


def receive(connection: Connection, row: dict[str, Any]) -> bool:
    """Store an inbound message. Return False if it was stored before."""
    return connection.execute(_RECEIVE, row).rowcount == 1


def received(connection: Connection, row_id: UUID) -> Received:
    """Return an inbound message."""
    return fetch_one(connection.execute(text(f"{_RECEIVED} WHERE id = :id"), {"id": row_id}), Received)


def received_as(connection: Connection, channel: str, outside_id: str) -> Received:
    """Return the inbound message that was delivered under an external id."""
    statement = text(f"{_RECEIVED} WHERE channel = :channel AND outside_id = :id")
    return fetch_one(connection.execute(statement, {"channel": channel, "id": outside_id}), Received)


def all_received(connection: Connection, *, contact: UUID | None, before: UUID | None, limit: int) -> list[Received]:
    """Return the inbound messages, newest first."""
    conditions = [*(["contact = :contact"] if contact else []), *(["id < :before"] if before else [])]
    wanted = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(f"{_RECEIVED} {wanted} ORDER BY id DESC LIMIT :limit")
    bound = {"contact": contact, "before": before, "limit": limit}
    return fetch_all(connection.execute(statement, bound), Received)


def correspondence(connection: Connection, contact: UUID, limit: int) -> list[Letter]:
    """Return the messages sent to a contact and received from them, newest first."""
    return fetch_all(connection.execute(_CORRESPONDENCE, {"contact": contact, "limit": limit}), Letter)


def postpone(connection: Connection, message_id: UUID, to: datetime, leave_by: datetime | None) -> None:
    """Change the time to send a message. No-op if it is not queued any more."""
    connection.execute(_POSTPONE, {"id": message_id, "to": to, "leave_by": leave_by})


def withdraw(connection: Connection, ids: list[UUID]) -> list[Withdrawn]:
    """Cancel the queued ones of these messages. Those that are being sent, or may have been sent, are marked so that
    they are not sent again. Return both.
    """
    return fetch_all(connection.execute(_WITHDRAW, {"ids": ids}), Withdrawn)


def is_unwanted(connection: Connection, message_id: UUID) -> bool:
    """Whether a message has been withdrawn, even if it was already being sent."""
    statement = text("SELECT is_unwanted FROM outbox WHERE id = :id")
    return bool(connection.execute(statement, {"id": message_id}).scalar_one_or_none())


def last_written_to(connection: Connection, contacts: list[UUID]) -> UUID | None:
    """Return which of these contacts the latest message was addressed to."""
    statement = text("SELECT contact FROM outbox WHERE contact = ANY(:ids) ORDER BY created_at DESC LIMIT 1")
    found: UUID | None = connection.execute(statement, {"ids": contacts}).scalar_one_or_none()
    return found
