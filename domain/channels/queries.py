"""All SQL about channels, templates, the outbox and notifications."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from core.db import dump_json

# ── channels, webhooks, templates ────────────────────────────────────────────────────────────────────────────────────

_CHANNEL = "kind, settings, secret IS NOT NULL AS has_secret, changed_at"


def channels(connection: Connection) -> list[RowMapping]:
    """The channels that were set up, without secrets."""
    return list(connection.execute(text(f"SELECT {_CHANNEL} FROM channels ORDER BY kind")).mappings())  # noqa: S608


def has_channel(connection: Connection, org: UUID, kind: str) -> bool:
    """Whether the organisation set the channel up."""
    statement = text("SELECT FROM channels WHERE org_id = :org AND kind = :kind")
    return connection.execute(statement, {"org": org, "kind": kind}).first() is not None


def put_channel(connection: Connection, row: dict[str, Any]) -> None:
    """Set a channel up; with no secret given, the old one stays."""
    statement = text("""
        INSERT INTO channels (org_id, kind, settings, secret) VALUES (:org, :kind, CAST(:settings AS jsonb), :secret)
        ON CONFLICT (org_id, kind) DO UPDATE SET settings = excluded.settings, changed_at = rota_now(),
               secret = coalesce(excluded.secret, channels.secret)
    """)
    connection.execute(statement, row | {"settings": dump_json(row["settings"])})


def delete_channel(connection: Connection, kind: str) -> bool:
    """Take a channel away."""
    return connection.execute(text("DELETE FROM channels WHERE kind = :kind"), {"kind": kind}).rowcount == 1


_WEBHOOK = "id, url, events, created_at, disabled_at"


def webhooks(connection: Connection, org: UUID) -> list[RowMapping]:
    """Where an organisation's events are posted, without secrets."""
    statement = text(f"SELECT {_WEBHOOK} FROM webhooks WHERE org_id = :org ORDER BY id")  # noqa: S608
    return list(connection.execute(statement, {"org": org}).mappings())


def webhook(connection: Connection, webhook_id: UUID) -> RowMapping | None:
    """One webhook, without its secret."""
    statement = text(f"SELECT {_WEBHOOK} FROM webhooks WHERE id = :id")  # noqa: S608
    return connection.execute(statement, {"id": webhook_id}).mappings().one_or_none()


def insert_webhook(connection: Connection, row: dict[str, Any]) -> None:
    """Add a webhook."""
    statement = text(
        "INSERT INTO webhooks (id, org_id, url, events, secret) VALUES (:id, :org, :url, :events, :secret)"
    )
    connection.execute(statement, row)


def set_webhook_secret(connection: Connection, webhook_id: UUID, secret: bytes) -> None:
    """Sign with another secret from now on."""
    statement = text("UPDATE webhooks SET secret = :secret, disabled_at = NULL WHERE id = :id")
    connection.execute(statement, {"id": webhook_id, "secret": secret})


def delete_webhook(connection: Connection, webhook_id: UUID) -> bool:
    """Take a webhook away."""
    return connection.execute(text("DELETE FROM webhooks WHERE id = :id"), {"id": webhook_id}).rowcount == 1


_TEMPLATE = "name, subject, body, changed_at"


def templates(connection: Connection) -> list[RowMapping]:
    """Every template."""
    return list(connection.execute(text(f"SELECT {_TEMPLATE} FROM templates ORDER BY name")).mappings())  # noqa: S608


def template(connection: Connection, name: str) -> RowMapping | None:
    """The template called `name`."""
    statement = text(f"SELECT {_TEMPLATE} FROM templates WHERE name = :name")  # noqa: S608
    return connection.execute(statement, {"name": name}).mappings().one_or_none()


def put_template(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a template."""
    statement = text("""
        INSERT INTO templates (org_id, name, subject, body) VALUES (:org, :name, :subject, :body)
        ON CONFLICT (org_id, name) DO UPDATE
           SET subject = excluded.subject, body = excluded.body, changed_at = rota_now()
    """)
    connection.execute(statement, row)


def delete_template(connection: Connection, name: str) -> bool:
    """Take a template away."""
    return connection.execute(text("DELETE FROM templates WHERE name = :name"), {"name": name}).rowcount == 1


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_SECRETS = {"channels": ("org_id", "kind"), "webhooks": ("org_id", "id")}


def secrets(connection: Connection, table: str) -> list[RowMapping]:
    """Every secret of `table`, locked, with what identifies its row."""
    names = ", ".join(_SECRETS[table])
    statement = text(f"SELECT {names}, secret FROM {table} WHERE secret IS NOT NULL FOR UPDATE")  # noqa: S608
    return list(connection.execute(statement).mappings())


def set_secret(connection: Connection, table: str, row: dict[str, Any]) -> None:
    """Replace a secret."""
    where = " AND ".join(f"{name} = :{name}" for name in _SECRETS[table])
    connection.execute(text(f"UPDATE {table} SET secret = :secret WHERE {where}"), row)  # noqa: S608


# ── the outbox ───────────────────────────────────────────────────────────────────────────────────────────────────────

_INSERT = text("""
    INSERT INTO outbox (id, org_id, channel, recipient, contact, subject, body, webhook_id, send_after, leave_by,
                        task_id, seq)
    VALUES (:id, :org, :channel, :recipient, :contact, :subject, :body, :webhook_id,
            coalesce(CAST(:send_after AS timestamptz), rota_now()), :leave_by, :task_id, :seq)
""")
_MESSAGE = """
    SELECT id, channel, recipient, contact, subject, body, status, send_after, attempts, error, task_id, seq,
           created_at, sent_at FROM outbox
"""
_PAGE = text(f"""{_MESSAGE}
     WHERE channel <> 'in_app' AND (CAST(:before AS uuid) IS NULL OR id < :before)
       AND (CAST(:status AS text) IS NULL OR status = :status)
       AND (CAST(:channel AS text) IS NULL OR channel = :channel)
       AND (CAST(:task AS uuid) IS NULL OR task_id = :task)
     ORDER BY id DESC LIMIT :limit
""")
_ONE = text(f"{_MESSAGE} WHERE id = :id AND channel <> 'in_app'")


def insert_message(connection: Connection, row: dict[str, Any]) -> None:
    """Put a message into the outbox."""
    connection.execute(_INSERT, row)


def messages(connection: Connection, wanted: dict[str, Any]) -> list[RowMapping]:
    """Messages that match, newest first."""
    return list(connection.execute(_PAGE, wanted).mappings())


def message(connection: Connection, message_id: UUID) -> RowMapping | None:
    """One message."""
    return connection.execute(_ONE, {"id": message_id}).mappings().one_or_none()


# One at a time: what a sender takes in hand it begins to send at once, so `sending` means just that.
_TAKE = text("""
    WITH taken AS (
        UPDATE outbox SET status = 'sending', sending_since = rota_now(), attempts = attempts + 1
         WHERE id = (SELECT id FROM outbox o
                      WHERE status = 'queued' AND send_after <= rota_now()
                        AND (leave_by IS NULL OR leave_by > rota_now())
                        AND (SELECT count(*) FROM outbox s WHERE s.org_id = o.org_id AND s.status = 'sending')
                            < :of_one
                      ORDER BY send_after LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING *
    )
    SELECT m.id, m.org_id, m.channel, m.recipient, m.subject, m.body, m.attempts, m.webhook_id, m.task_id, m.seq,
           c.settings, coalesce(c.secret, w.secret) AS secret, w.url
      FROM taken m
      LEFT JOIN channels c ON c.org_id = m.org_id AND c.kind = m.channel
      LEFT JOIN webhooks w ON w.org_id = m.org_id AND w.id = m.webhook_id AND w.disabled_at IS NULL
""")


def take_due(connection: Connection, of_one: int) -> RowMapping | None:
    """The next message that is due, marked as being sent, with what its channel needs; passing over organisations that
    have `of_one` messages in hand.
    """
    return connection.execute(_TAKE, {"of_one": of_one}).mappings().one_or_none()


_RESULT = text("""
    UPDATE outbox SET status = CASE WHEN :status = 'queued' AND is_unwanted THEN 'cancelled' ELSE :status END,
           error = :error, sending_since = NULL,
           send_after = coalesce(rota_now() + CAST(:delay AS interval), send_after),
           sent_at = CASE WHEN :status = 'sent' THEN rota_now() END
     WHERE id = :id AND status = 'sending' AND attempts = :attempts
    RETURNING status
""")


def note_result(connection: Connection, row: dict[str, Any]) -> str | None:
    """Note what became of a message in hand. Returns its status: one to be sent again that nobody wants any more is
    cancelled. None where it is not in this hand any more.
    """
    found: str | None = connection.execute(_RESULT, {"error": None, "delay": None} | row).scalar_one_or_none()
    return found


_LEFT_BEHIND = text("""
    UPDATE outbox SET sending_since = NULL, error = 'Its sender died while it was being sent.',
           status = CASE WHEN channel = ANY(:harmless) AND NOT is_unwanted THEN 'queued' ELSE 'unknown' END
     WHERE status = 'sending' AND sending_since < rota_now() - CAST(:lease AS interval)
    RETURNING id, org_id, status
""")


def take_back_left_behind(connection: Connection, lease: timedelta, harmless: list[str]) -> list[RowMapping]:
    """Messages whose sender died: queued again on channels that know a repetition, else of unknown outcome."""
    return list(connection.execute(_LEFT_BEHIND, {"lease": lease, "harmless": harmless}).mappings())


_CHANGE = text("UPDATE outbox SET status = :to, sent_at = CASE WHEN :to = 'sent' THEN rota_now() END "
               "WHERE id = :id AND status = :was")  # fmt: skip


def change_status(connection: Connection, message_id: UUID, *, was: str, to: str) -> bool:
    """Move a message from one status to another. False where it is in neither."""
    return connection.execute(_CHANGE, {"id": message_id, "was": was, "to": to}).rowcount == 1


# ── notifications ────────────────────────────────────────────────────────────────────────────────────────────────────

_NOTIFY = text("""
    INSERT INTO notifications (id, org_id, user_id, kind, title, body, data)
    SELECT :id, :org, CAST(:user AS uuid), event ->> 'kind', event ->> 'title', event ->> 'body',
           coalesce(event -> 'data', '{}')
      FROM CAST(:event AS jsonb) AS event
    ON CONFLICT (id) DO NOTHING
""")


def insert_notification(connection: Connection, row_id: UUID, org: UUID, user: str, event: str) -> None:
    """Write a notification. Twice is once."""
    connection.execute(_NOTIFY, {"id": row_id, "org": org, "user": user, "event": event})


_NOTIFICATIONS = text("""
    SELECT id, kind, title, body, data, created_at, read_at FROM notifications
     WHERE user_id = :user AND (NOT :unread OR read_at IS NULL) ORDER BY id DESC LIMIT :limit
""")


def notifications(connection: Connection, user: UUID, *, unread: bool, limit: int) -> list[RowMapping]:
    """A user's notifications, newest first."""
    return list(connection.execute(_NOTIFICATIONS, {"user": user, "unread": unread, "limit": limit}).mappings())


def mark_read(connection: Connection, user: UUID, notification_id: UUID | None) -> int:
    """Mark one notification of a user as read, or all. Returns how many were unread."""
    statement = text(
        "UPDATE notifications SET read_at = rota_now() WHERE user_id = :user AND read_at IS NULL "
        "AND (CAST(:id AS uuid) IS NULL OR id = :id)"
    )
    return connection.execute(statement, {"user": user, "id": notification_id}).rowcount


def now(connection: Connection) -> datetime:
    """The database's time."""
    found: datetime = connection.execute(text("SELECT rota_now()")).scalar_one()
    return found


# ── received ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_RECEIVE = text("""
    INSERT INTO inbox (id, org_id, contact, channel, body, outside_id)
    VALUES (:id, :org, :contact, :channel, :body, :outside_id)
    ON CONFLICT (org_id, channel, outside_id) WHERE outside_id IS NOT NULL DO NOTHING
""")
_RECEIVED = "SELECT id, contact, channel, body, outside_id, received_at FROM inbox"
_CORRESPONDENCE = text("""
    (SELECT 'sent' AS direction, channel, coalesce(sent_at, send_after) AS at, subject, body FROM outbox
      WHERE contact = :contact AND status IN ('queued', 'sending', 'sent', 'unknown')
      ORDER BY created_at DESC LIMIT :limit)
     UNION ALL
    (SELECT 'received', channel, received_at, '', body FROM inbox
      WHERE contact = :contact ORDER BY received_at DESC LIMIT :limit)
      ORDER BY at DESC LIMIT :limit
""")
_POSTPONE = text("UPDATE outbox SET send_after = :to, leave_by = :leave_by WHERE id = :id AND status = 'queued'")
_WITHDRAW = text("""
    UPDATE outbox SET status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END, is_unwanted = true
     WHERE id IN (SELECT id FROM outbox WHERE id = ANY(:ids) AND status IN ('queued', 'sending', 'unknown')
                   ORDER BY id FOR UPDATE)
    RETURNING id, status, task_id, seq
""")


def receive(connection: Connection, row: dict[str, Any]) -> bool:
    """Keep words that were received. Whether they were not there before."""
    return connection.execute(_RECEIVE, row).rowcount == 1


def received(connection: Connection, row_id: UUID) -> RowMapping | None:
    """Words that were received."""
    return connection.execute(text(f"{_RECEIVED} WHERE id = :id"), {"id": row_id}).mappings().one_or_none()


def received_as(connection: Connection, channel: str, outside_id: str) -> RowMapping | None:
    """What was delivered under an id from outside."""
    statement = text(f"{_RECEIVED} WHERE channel = :channel AND outside_id = :id")
    return connection.execute(statement, {"channel": channel, "id": outside_id}).mappings().one_or_none()


def all_received(connection: Connection, *, contact: UUID | None, before: UUID | None, limit: int) -> list[RowMapping]:
    """What was received, the latest first."""
    conditions = [*(["contact = :contact"] if contact else []), *(["id < :before"] if before else [])]
    wanted = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(f"{_RECEIVED} {wanted} ORDER BY id DESC LIMIT :limit")
    return list(connection.execute(statement, {"contact": contact, "before": before, "limit": limit}).mappings())


def correspondence(connection: Connection, contact: UUID, limit: int) -> list[RowMapping]:
    """What was sent to a contact and received from them, the latest first."""
    return list(connection.execute(_CORRESPONDENCE, {"contact": contact, "limit": limit}).mappings())


def postpone(connection: Connection, message_id: UUID, to: datetime, leave_by: datetime | None) -> None:
    """Let a message leave later, where it is still queued."""
    connection.execute(_POSTPONE, {"id": message_id, "to": to, "leave_by": leave_by})


def withdraw(connection: Connection, ids: list[UUID]) -> list[RowMapping]:
    """Cancel what is queued of these messages; what is being sent, or may have been, is not sent again."""
    return list(connection.execute(_WITHDRAW, {"ids": ids}).mappings())


def is_unwanted(connection: Connection, message_id: UUID) -> bool:
    """Whether a message was withdrawn too late."""
    statement = text("SELECT is_unwanted FROM outbox WHERE id = :id")
    return bool(connection.execute(statement, {"id": message_id}).scalar_one_or_none())


def last_written_to(connection: Connection, contacts: list[UUID]) -> UUID | None:
    """The one of these contacts to whom the latest message went."""
    statement = text("SELECT contact FROM outbox WHERE contact = ANY(:ids) ORDER BY created_at DESC LIMIT 1")
    found: UUID | None = connection.execute(statement, {"ids": contacts}).scalar_one_or_none()
    return found
