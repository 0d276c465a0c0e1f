"""All SQL about conversations. What becomes of an answer is written by a trigger on its task (migration 0024)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, CursorResult, text

from core.json_text import dump_json
from core.rows import fetch_all, fetch_one, fetch_optional
from domain.conversations.schemas import Answer, ChatMessage, Conversation, Said
from domain.tasks.schemas import TurnCall

_CONVERSATION = """
    SELECT c.id, c.agent, c.title, c.session, c.user_id, c.visitor_id, c.contact, c.location_id, c.context,
           c.preferences, c.metadata, c.head, c.created_at, c.updated_at, c.archived_at,
           coalesce(m.messages, 0) AS messages, coalesce(m.billed_cost, 0) AS billed_cost
      FROM conversations c LEFT JOIN LATERAL (
        SELECT count(*) AS messages, sum(billed_cost) AS billed_cost
          FROM conversation_messages WHERE conversation_id = c.id) m ON true
     WHERE c.deleted_at IS NULL
"""
_INSERT = text("""
    INSERT INTO conversations (id, org_id, agent, user_id, visitor_id, location_id, contact, title, session, context,
                               preferences, metadata, is_listed)
    VALUES (:id, :org, :agent, :user, :visitor, :location, :contact, :title, :session, CAST(:context AS jsonb),
            CAST(:preferences AS jsonb), CAST(:metadata AS jsonb), :is_listed)
""")


def insert_conversation(connection: Connection, row: dict[str, Any]) -> None:
    """Write a conversation."""
    given = {name: dump_json(row[name]) for name in ("context", "preferences", "metadata")}
    connection.execute(_INSERT, row | given)


_ONE = text(f"{_CONVERSATION} AND c.id = :id")


def conversation(connection: Connection, conversation_id: UUID) -> Conversation | None:
    """Return the conversation with this id, or None."""
    return fetch_optional(connection.execute(_ONE, {"id": conversation_id}), Conversation)


_PAGE = text(f"""{_CONVERSATION} AND c.is_listed
       AND (CAST(:user AS uuid) IS NULL OR c.user_id = :user)
       AND (CAST(:visitor AS uuid) IS NULL OR c.visitor_id = :visitor)
       AND (CAST(:is_visitor AS boolean) IS NULL OR (c.visitor_id IS NOT NULL) = :is_visitor)
       AND (CAST(:session AS text) IS NULL OR c.session = :session)
       AND (CAST(:agent AS text) IS NULL OR c.agent = :agent) AND (c.archived_at IS NOT NULL) = :archived
       AND (CAST(:search AS text) IS NULL OR c.folded LIKE :search OR EXISTS (
            SELECT FROM conversation_messages m WHERE m.conversation_id = c.id AND rota_fold(m.text) LIKE :search))
       AND (CAST(:before AS uuid) IS NULL OR (c.updated_at, c.id) < (
            SELECT b.updated_at, b.id FROM conversations b WHERE b.id = :before))
     ORDER BY c.updated_at DESC, c.id DESC LIMIT :limit
""")  # noqa: S608


_BARE = text("""
    SELECT id, agent, title, session, user_id, visitor_id, contact, location_id, context, preferences, metadata, head,
           created_at, updated_at, archived_at, 0 AS messages, 0 AS billed_cost
      FROM conversations WHERE id = :id AND deleted_at IS NULL
""")


def bare_conversation(connection: Connection, conversation_id: UUID) -> Conversation | None:
    """Return the conversation with this id without counting its messages, which takes longer the more there are."""
    return fetch_optional(connection.execute(_BARE, {"id": conversation_id}), Conversation)


_OF_VISITORS = text("SELECT id FROM conversations WHERE visitor_id = ANY(:visitors) AND deleted_at IS NULL")


def of_visitors(connection: Connection, visitors: list[UUID]) -> list[UUID]:
    """Return the conversations that visitors began."""
    return list(connection.execute(_OF_VISITORS, {"visitors": visitors}).scalars())


def conversations(connection: Connection, wanted: dict[str, Any]) -> list[Conversation]:
    """Return the conversations that match, latest first."""
    return fetch_all(connection.execute(_PAGE, wanted), Conversation)


_CHANGE = text("""
    UPDATE conversations
       SET title = coalesce(:title, title), agent = coalesce(:agent, agent),
           metadata = coalesce(CAST(:metadata AS jsonb), metadata),
           context = coalesce(CAST(:context AS jsonb), context),
           preferences = coalesce(CAST(:preferences AS jsonb), preferences),
           archived_at = CASE WHEN CAST(:archived AS boolean) IS NULL THEN archived_at
                              WHEN :archived THEN coalesce(archived_at, rota_now()) END
     WHERE id = :id AND deleted_at IS NULL
""")


def change_conversation(connection: Connection, row: dict[str, Any]) -> bool:
    """Change the given fields of a conversation. Return whether it exists."""
    documents = ("context", "preferences", "metadata")
    given = {name: None if row[name] is None else dump_json(row[name]) for name in documents}
    return connection.execute(_CHANGE, row | given).rowcount == 1


_LOCK = text("""
    UPDATE conversations
       SET last_position = last_position + :more, updated_at = rota_now(), archived_at = NULL
     WHERE id = :id AND deleted_at IS NULL
    RETURNING last_position
""")


def lock_conversation(connection: Connection, conversation_id: UUID, more: int) -> int | None:
    """Lock a conversation, take its next positions, and return the last of these; None if there is no conversation."""
    found: int | None = connection.execute(_LOCK, {"id": conversation_id, "more": more}).scalar_one_or_none()
    return found


_HEAD = text("""
    UPDATE conversations
       SET head = :head, title = CASE WHEN title = '' THEN :title ELSE title END, agent = coalesce(agent, :agent)
     WHERE id = :id
""")


def set_head(connection: Connection, conversation_id: UUID, head: UUID, *, title: str = "", agent: str | None) -> None:
    """Have the conversation go on from a message. `title` and `agent` are taken where it has none."""
    connection.execute(_HEAD, {"id": conversation_id, "head": head, "title": title, "agent": agent})


_INSERT_MESSAGE = text("""
    INSERT INTO conversation_messages (id, org_id, conversation_id, position, parent_id, role, status, text, context,
                                       is_from_outside, is_untrusted, task_id, idempotency_key, options, tool_calls,
                                       call_id, attachments)
    VALUES (:id, :org, :conversation, :position, :parent, :role, :status, :text, CAST(:context AS jsonb), :outside,
            :untrusted, :task, :key, CAST(:options AS jsonb), CAST(:tool_calls AS jsonb), :call,
            CAST(:attachments AS uuid[]))
""")
_UNSET = {
    "text": "", "context": None, "outside": False, "untrusted": False, "task": None, "key": None, "options": None,
    "tool_calls": None, "call": None, "attachments": None,
}  # fmt: skip


def insert_message(connection: Connection, row: dict[str, Any]) -> None:
    """Write a message. What `row` does not name is empty."""
    whole = _UNSET | row
    documents = {name: dump_json(whole[name]) if whole[name] else None for name in ("context", "options", "tool_calls")}
    connection.execute(_INSERT_MESSAGE, whole | documents)


_SET_TASK = text("UPDATE conversation_messages SET task_id = :task WHERE id = :id")


def set_task(connection: Connection, message_id: UUID, task: UUID) -> None:
    """Name the task that answers with a message."""
    connection.execute(_SET_TASK, {"id": message_id, "task": task})


# The branch that the conversation goes on from: its head, and what that follows.
_BRANCH = """
    WITH RECURSIVE branch AS (
        SELECT m.id, m.parent_id FROM conversations c JOIN conversation_messages m ON m.id = c.head
         WHERE c.id = :conversation
         UNION ALL
        SELECT m.id, m.parent_id FROM branch b JOIN conversation_messages m ON m.id = b.parent_id
    )
"""
_MESSAGE = """
    SELECT m.id, m.conversation_id, m.position, m.parent_id, m.role, m.status, m.text, m.context, m.is_from_outside,
           m.task_id, m.error, m.billed_cost, m.created_at, m.ended_at, m.tool_calls, m.call_id,
           coalesce(m.attachments, '{}') AS attachments, EXISTS (
               SELECT FROM branch b WHERE b.id = m.id) AS is_current, (
               SELECT f.rating FROM feedback f WHERE f.task_id = m.task_id ORDER BY f.given_at DESC LIMIT 1) AS rating
      FROM conversation_messages m WHERE m.conversation_id = :conversation
"""
_MESSAGE_BY_ID = text(f"{_BRANCH} {_MESSAGE} AND m.id = :id")
_MESSAGE_BY_KEY = text(f"{_BRANCH} {_MESSAGE} AND m.idempotency_key = :key")
_ANSWERS_TO = text(f"{_BRANCH} {_MESSAGE} AND m.parent_id = :parent ORDER BY m.position LIMIT 1")
_IF_CURRENT = "(NOT :only_current OR m.id IN (SELECT id FROM branch))"
_LATEST = text(f"""
    {_BRANCH} SELECT * FROM ({_MESSAGE} AND {_IF_CURRENT} AND (CAST(:before AS bigint) IS NULL OR m.position < :before)
                              ORDER BY m.position DESC LIMIT :limit) AS latest ORDER BY position
""")  # noqa: S608
_NEXT = text(f"{_BRANCH} {_MESSAGE} AND {_IF_CURRENT} AND m.position > :after ORDER BY m.position LIMIT :limit")


_NEW = text("""
    SELECT id, conversation_id, position, parent_id, role, status, text, context, is_from_outside, task_id, error,
           billed_cost, created_at, ended_at, tool_calls, call_id, coalesce(attachments, '{}') AS attachments,
           true AS is_current, NULL AS rating
      FROM conversation_messages WHERE id = :id
""")


def new_message(connection: Connection, message_id: UUID) -> ChatMessage:
    """Return a message that was just sent: it is on the branch that the conversation goes on from."""
    return fetch_one(connection.execute(_NEW, {"id": message_id}), ChatMessage)


def message(connection: Connection, conversation_id: UUID, message_id: UUID) -> ChatMessage | None:
    """Return a message of a conversation, or None."""
    values = {"conversation": conversation_id, "id": message_id}
    return fetch_optional(connection.execute(_MESSAGE_BY_ID, values), ChatMessage)


def message_with_key(connection: Connection, conversation_id: UUID, key: str) -> ChatMessage | None:
    """Return the message that was sent with an idempotency key, or None."""
    values = {"conversation": conversation_id, "key": key}
    return fetch_optional(connection.execute(_MESSAGE_BY_KEY, values), ChatMessage)


def first_answer(connection: Connection, conversation_id: UUID, parent: UUID) -> ChatMessage:
    """Return the first answer to a message."""
    values = {"conversation": conversation_id, "parent": parent}
    return fetch_one(connection.execute(_ANSWERS_TO, values), ChatMessage)


def latest_messages(
    connection: Connection, conversation_id: UUID, before: int | None, limit: int, *, only_current: bool
) -> list[ChatMessage]:
    """Return the last `limit` messages before a position, in order."""
    values = {"conversation": conversation_id, "before": before, "limit": limit, "only_current": only_current}
    return fetch_all(connection.execute(_LATEST, values), ChatMessage)


def next_messages(
    connection: Connection, conversation_id: UUID, after: int, limit: int, *, only_current: bool
) -> list[ChatMessage]:
    """Return the first `limit` messages after a position, in order."""
    values = {"conversation": conversation_id, "after": after, "limit": limit, "only_current": only_current}
    return fetch_all(connection.execute(_NEXT, values), ChatMessage)


_HISTORY = text("""
    WITH RECURSIVE before AS (
        SELECT m.id, m.parent_id, m.role, m.text, m.is_from_outside, m.is_untrusted, m.tool_calls, m.call_id,
               m.attachments, 0 AS distance
          FROM conversation_messages m WHERE m.id = :message
         UNION ALL
        SELECT m.id, m.parent_id, m.role, m.text, m.is_from_outside, m.is_untrusted, m.tool_calls, m.call_id,
               m.attachments, b.distance + 1
          FROM before b JOIN conversation_messages m ON m.id = b.parent_id
         WHERE b.distance <= :limit AND (b.distance < 2 OR NOT EXISTS (
               SELECT FROM conversation_summaries s WHERE s.message_id = b.id))
    )
    SELECT b.id, CASE WHEN s.message_id IS NULL THEN b.role ELSE 'summary' END AS role,
           coalesce(s.text, b.text) AS text,
           s.message_id IS NULL AND b.is_from_outside AS is_from_outside,
           coalesce(s.is_untrusted, b.is_untrusted) AS is_untrusted,
           CASE WHEN s.message_id IS NULL THEN b.tool_calls END AS tool_calls, b.call_id,
           CASE WHEN s.message_id IS NULL THEN b.attachments END AS attachments
      FROM before b LEFT JOIN conversation_summaries s ON s.message_id = b.id
     WHERE b.distance > 1 ORDER BY b.distance
""")


def before_answer(connection: Connection, answer: UUID, limit: int) -> list[Said]:
    """Return up to `limit` messages before the one that an answer is to, latest first. Where messages were summed up,
    the last is their summary, with the id of the latest of them.
    """
    return _all_said(connection.execute(_HISTORY, {"message": answer, "limit": limit}))


def _all_said(result: CursorResult[Any]) -> list[Said]:
    return [
        replace(
            one,
            tool_calls=tuple(TurnCall.model_validate(call) for call in one.tool_calls or ()),
            attachments=tuple(one.attachments or ()),
        )
        for one in fetch_all(result, Said)
    ]


_SAID = text("""
    SELECT id, role, text, is_from_outside, is_untrusted, tool_calls, call_id, attachments
      FROM conversation_messages WHERE id = ANY(:ids)
""")


def said(connection: Connection, ids: list[UUID]) -> list[Said]:
    """Return messages by their ids, in no order."""
    return _all_said(connection.execute(_SAID, {"ids": ids}))


_IS_FIRST = text("""
    SELECT NOT c.is_listed AND NOT EXISTS (
           SELECT FROM conversation_messages m
            WHERE m.conversation_id = a.conversation_id AND m.task_id IS NOT NULL AND m.position < a.position)
      FROM conversation_messages a JOIN conversations c ON c.id = a.conversation_id WHERE a.id = :answer
""")


def is_first_of_program(connection: Connection, answer: UUID) -> bool:
    """Whether an answer is the first in the conversation of a program's response: what came before is the request's."""
    return bool(connection.execute(_IS_FIRST, {"answer": answer}).scalar_one())


_SUMMARY = text("""
    SELECT message_id AS id, 'summary' AS role, text, false AS is_from_outside, is_untrusted
      FROM conversation_summaries WHERE message_id = :message
""")
_KEEP_SUMMARY = text("""
    INSERT INTO conversation_summaries (message_id, org_id, text, is_untrusted)
    SELECT m.id, m.org_id, :text, :is_untrusted FROM conversation_messages m WHERE m.id = :message
    ON CONFLICT (message_id) DO NOTHING
""")


def summary(connection: Connection, message_id: UUID) -> Said | None:
    """Return the summary of the messages up to one, or None."""
    return fetch_optional(connection.execute(_SUMMARY, {"message": message_id}), Said)


def keep_summary(connection: Connection, made: Said) -> None:
    """Keep a summary of the messages up to the one whose id it has. An earlier one, or a deleted message, stays so."""
    values = {"message": made.id, "text": made.text, "is_untrusted": made.is_untrusted}
    connection.execute(_KEEP_SUMMARY, values)


_UNENDED = text("""
    SELECT id FROM tasks WHERE conversation_id = :conversation AND status IN ('queued', 'running', 'waiting')
""")


def unended_tasks(connection: Connection, conversation_id: UUID) -> list[UUID]:
    """Return the tasks of a conversation that have not ended."""
    return list(connection.execute(_UNENDED, {"conversation": conversation_id}).scalars())


_MARK_DELETED = text("UPDATE conversations SET deleted_at = rota_now() WHERE id = :id AND deleted_at IS NULL")


def mark_deleted(connection: Connection, conversation_id: UUID) -> bool:
    """Hide a conversation from everyone. Return whether it was there."""
    return connection.execute(_MARK_DELETED, {"id": conversation_id}).rowcount == 1


# No answer is under way, and none ended since.
_IS_QUIET = """
    NOT EXISTS (SELECT FROM conversation_messages m WHERE m.conversation_id = c.id
                   AND (m.status IN ('queued', 'answering', 'waiting') OR m.ended_at >= rota_now() - {kept}))
"""
_WITH_IDLE = text(f"""
    SELECT k.org FROM unnest(CAST(:orgs AS uuid[]), CAST(:kept AS interval[])) AS k (org, kept)
     WHERE EXISTS (SELECT FROM conversations c
                    WHERE c.org_id = k.org AND c.deleted_at IS NULL AND c.updated_at < rota_now() - k.kept
                      AND {_IS_QUIET.format(kept="k.kept")})
""")  # noqa: S608
_MARK_IDLE = text(f"""
    UPDATE conversations SET deleted_at = rota_now() WHERE id IN (
        SELECT c.id FROM conversations c
         WHERE c.org_id = :org AND c.deleted_at IS NULL AND c.updated_at < rota_now() - CAST(:kept AS interval)
           AND {_IS_QUIET.format(kept="CAST(:kept AS interval)")}
         ORDER BY c.updated_at LIMIT :batch FOR UPDATE SKIP LOCKED)
    RETURNING id
""")  # noqa: S608


def organisations_with_idle(connection: Connection, kept: Mapping[UUID, timedelta]) -> list[UUID]:
    """Return which of the organisations have conversations that have been idle for longer than each keeps them."""
    values = {"orgs": list(kept), "kept": list(kept.values())}
    return list(connection.execute(_WITH_IDLE, values).scalars())


def mark_idle_deleted(connection: Connection, org: UUID, kept: timedelta, batch: int) -> list[UUID]:
    """Hide up to `batch` conversations that have been idle for longer than `kept`. Return their ids."""
    return list(connection.execute(_MARK_IDLE, {"org": org, "kept": kept, "batch": batch}).scalars())


_ANSWER = """
    SELECT m.id, m.conversation_id, m.parent_id, m.task_id, c.user_id, c.location_id, c.is_listed,
           c.deleted_at IS NOT NULL AS is_deleted, coalesce(m.options, '{}') AS options, m.created_at
      FROM conversation_messages m JOIN conversations c ON c.id = m.conversation_id
     WHERE m.role = 'assistant'
"""
_ANSWER_BY_ID = text(f"{_ANSWER} AND m.id = :id AND m.task_id IS NOT NULL")
_ANSWER_OF_TASK = text(f"""{_ANSWER} AND m.task_id = :task
       AND m.conversation_id = (SELECT t.conversation_id FROM tasks t WHERE t.id = :task)
""")  # noqa: S608


def answer(connection: Connection, message_id: UUID) -> Answer | None:
    """Return the answer with this id, or None."""
    return fetch_optional(connection.execute(_ANSWER_BY_ID, {"id": message_id}), Answer)


def answer_of_task(connection: Connection, task: UUID) -> Answer | None:
    """Return the answer that a task gives, or None."""
    return fetch_optional(connection.execute(_ANSWER_OF_TASK, {"task": task}), Answer)


_ASKED_WITH = text("""
    WITH RECURSIVE asked AS (
        SELECT m.id, m.parent_id, m.role, m.text, m.is_from_outside, m.is_untrusted, m.tool_calls, m.call_id,
               m.attachments, m.position
          FROM conversation_messages m WHERE m.id = :question
         UNION ALL
        SELECT m.id, m.parent_id, m.role, m.text, m.is_from_outside, m.is_untrusted, m.tool_calls, m.call_id,
               m.attachments, m.position
          FROM asked a JOIN conversation_messages m ON m.id = a.parent_id
         WHERE m.task_id IS NULL
    )
    SELECT id, role, text, is_from_outside, is_untrusted, tool_calls, call_id, attachments FROM asked ORDER BY position
""")


def asked_with(connection: Connection, question: UUID) -> list[Said]:
    """Return a message and those before it that no task answered or gave, in order: what came with one request."""
    return _all_said(connection.execute(_ASKED_WITH, {"question": question}))


_MOVE = text("""
    UPDATE conversation_messages SET conversation_id = :to
     WHERE id = :answer OR (id = :question AND NOT EXISTS (
           SELECT FROM conversation_messages o WHERE o.parent_id = :question AND o.id <> :answer))
""")
_MOVE_TASK = text("UPDATE tasks SET conversation_id = :to WHERE id = :task")
_STEP_BACK = text("""
    UPDATE conversations SET head = (SELECT q.parent_id FROM conversation_messages q WHERE q.id = :question)
     WHERE id = :conversation AND head = :answer
""")


def move_answer(connection: Connection, answer: Answer, conversation_id: UUID) -> None:
    """Move an answer, and its question unless that has others, to another conversation."""
    connection.execute(
        _STEP_BACK,
        {"conversation": answer.conversation_id, "answer": answer.id, "question": answer.parent_id},
    )
    connection.execute(_MOVE, {"to": conversation_id, "answer": answer.id, "question": answer.parent_id})
    connection.execute(_MOVE_TASK, {"to": conversation_id, "task": answer.task_id})


_ONLY_THERE = text("""
    SELECT DISTINCT one AS id FROM conversation_messages m, unnest(m.attachments) AS one
     WHERE m.conversation_id = :conversation AND NOT EXISTS (
           SELECT FROM conversation_messages o WHERE o.conversation_id = :other AND o.attachments @> ARRAY[one])
""")


def attachments_only_there(connection: Connection, conversation_id: UUID, other: UUID) -> list[UUID]:
    """Return the attachments that messages of a conversation have, and none of another one."""
    values = {"conversation": conversation_id, "other": other}
    return list(connection.execute(_ONLY_THERE, values).scalars())


_HAS_ANSWERS = text("""
    SELECT EXISTS (SELECT FROM conversation_messages WHERE conversation_id = :conversation AND task_id IS NOT NULL)
""")


def has_answers(connection: Connection, conversation_id: UUID) -> bool:
    """Whether a conversation has an answer that a task gave or gives."""
    return bool(connection.execute(_HAS_ANSWERS, {"conversation": conversation_id}).scalar_one())


_FOLLOWED = text("""
    SELECT EXISTS (SELECT FROM conversation_messages m JOIN conversation_messages later
                       ON later.parent_id = m.id AND later.conversation_id = m.conversation_id
                    WHERE m.id = :id)
""")


def is_followed(connection: Connection, message_id: UUID) -> bool:
    """Whether other messages of its conversation follow a message. Those that were deleted are in another one."""
    return bool(connection.execute(_FOLLOWED, {"id": message_id}).scalar_one())


# The client of a response that is not to be kept reads its end: so that one stays for a minute.
# The words of its tasks are in their journals. Usage rows and wallet entries stay: bills refer to them.
_PURGE = text("""
    WITH chosen AS (
        SELECT c.id FROM conversations c
         WHERE c.deleted_at IS NOT NULL AND NOT EXISTS (
               SELECT FROM tasks t WHERE t.conversation_id = c.id
                   AND (t.status IN ('queued', 'running', 'waiting')
                        OR NOT c.is_listed AND t.finished_at > rota_now() - interval '1 minute'))
         ORDER BY c.deleted_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ), journals AS (
        DELETE FROM tasks t USING tasks answer
         WHERE answer.conversation_id IN (SELECT id FROM chosen)
           AND (t.id = answer.id OR (t.origin_id = answer.id AND t.finished_at IS NOT NULL))
    )
    DELETE FROM conversations WHERE id IN (SELECT id FROM chosen)
""")


def purge_deleted(connection: Connection, batch: int) -> int:
    """Delete up to `batch` hidden conversations with their messages and tasks. Return how many."""
    return connection.execute(_PURGE, {"batch": batch}).rowcount
