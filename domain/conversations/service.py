"""Operations on conversations: begin, list, send, regenerate, stop, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from core.model_providers import Medium, media_of
from core.text import fold
from domain.agents import service as agents
from domain.attachments import service as attachments
from domain.attachments.schemas import AttachedFile
from domain.conversations import queries
from domain.conversations.schemas import (
    Answer,
    Asking,
    ChatMessage,
    ChatMessagePage,
    Conversation,
    ConversationChange,
    ConversationPage,
    Earlier,
    NewChatMessage,
    NewConversation,
    Said,
    Sent,
)
from domain.conversations.titles import title_of
from domain.conversations.window import Reading, divide, window
from domain.feedback import service as feedback
from domain.feedback.schemas import Feedback, NewFeedback
from domain.tasks import service as tasks
from domain.tasks.schemas import AttachedInput, Priority, SubmissionContext, TaskInput, TaskSubmission

_PRIORITY: Priority = "high"  # a person waits for the answer
_BATCH = 100
_FARTHEST = 200  # messages; those before are read by no agent unless they were summed up
_PLAINLY = Asking()
_PENDING = {"queued", "answering", "waiting"}
_CALLED: dict[Medium, str] = {"image": "images", "pdf": "PDF"}


def begin(
    connection: Connection,
    org: UUID,
    wanted: NewConversation,
    context: SubmissionContext,
    *,
    metadata: dict[str, str] | None = None,
    is_listed: bool = True,
    visitor: UUID | None = None,
) -> Conversation:
    """Begin a conversation at the location in `context`, for the user there or for a visitor.

    Raises:
        NotFound: there is no such agent.
    """
    if wanted.agent is not None:
        agents.get_agent(connection, wanted.agent)
    row = wanted.model_dump(exclude={"location"}) | {
        "id": new_id(), "org": org, "user": None if visitor else context.user_id, "visitor": visitor,
        "location": context.location_id, "metadata": metadata or {}, "is_listed": is_listed,
    }  # fmt: skip
    queries.insert_conversation(connection, row)
    return get(connection, row["id"])


def get(connection: Connection, conversation_id: UUID) -> Conversation:
    """Return a conversation.

    Raises:
        NotFound: there is none.
    """
    found = queries.conversation(connection, conversation_id)
    if found is None:
        raise NotFound(f"There is no conversation {conversation_id}.")
    return found


def _bare(connection: Connection, conversation_id: UUID) -> Conversation:
    found = queries.bare_conversation(connection, conversation_id)
    if found is None:
        raise NotFound(f"There is no conversation {conversation_id}.")
    return found


def speaker(connection: Connection, conversation_id: UUID) -> UUID | None:
    """Return the user who speaks in a conversation; None if a visitor does.

    Raises:
        NotFound: there is no such conversation.
    """
    return _bare(connection, conversation_id).user_id


def list_conversations(
    connection: Connection,
    *,
    user: UUID | None = None,
    visitor: UUID | None = None,
    is_visitor: bool | None = None,
    session: str | None = None,
    agent: str | None = None,
    search: str | None = None,
    is_archived: bool = False,
    before: UUID | None = None,
    limit: int = 50,
) -> ConversationPage:
    """Return a page of conversations, latest first. `search` looks into titles and messages; `is_visitor` chooses
    those of visitors, or those of users.
    """
    escaped = fold(search).replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") if search else None
    wanted = {
        "user": user, "visitor": visitor, "is_visitor": is_visitor, "session": session, "agent": agent,
        "search": escaped and f"%{escaped}%", "archived": is_archived, "before": before, "limit": limit + 1,
    }  # fmt: skip
    found = queries.conversations(connection, wanted)
    page = found[:limit]
    return ConversationPage(conversations=page, next_before=page[-1].id if len(found) > limit else None)


def ensure_session(connection: Connection, session: str) -> None:
    """Ensure that there is a conversation in a session.

    Raises:
        NotFound: there is none.
    """
    for is_archived in (False, True):
        if list_conversations(connection, session=session, is_archived=is_archived, limit=1).conversations:
            return
    raise NotFound(f"There is no session {session}. Begin a conversation in it first.")


def change(
    connection: Connection,
    conversation_id: UUID,
    changes: ConversationChange,
    *,
    metadata: dict[str, str] | None = None,
) -> Conversation:
    """Change a conversation.

    Raises:
        NotFound: there is none, or no such agent.
    """
    if changes.agent is not None:
        agents.get_agent(connection, changes.agent)
    row = changes.model_dump() | {
        "id": conversation_id, "archived": changes.is_archived, "metadata": metadata,
    }  # fmt: skip
    if not queries.change_conversation(connection, row):
        raise NotFound(f"There is no conversation {conversation_id}.")
    return get(connection, conversation_id)


def list_messages(
    connection: Connection,
    conversation_id: UUID,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 50,
    only_current: bool = False,
) -> ChatMessagePage:
    """Return messages in order: the last before a position, or the first after one; without either, the last of all.
    `only_current` leaves out those of branches that the conversation does not go on from.

    Raises:
        NotFound: there is no such conversation.
    """
    get(connection, conversation_id)
    if after is not None:
        found = queries.next_messages(connection, conversation_id, after, limit + 1, only_current=only_current)
        return ChatMessagePage(messages=found[:limit], has_more=len(found) > limit)
    found = queries.latest_messages(connection, conversation_id, before, limit + 1, only_current=only_current)
    return ChatMessagePage(messages=found[-limit:], has_more=len(found) > limit)


def send(
    connection: Connection,
    org: UUID,
    conversation_id: UUID,
    wanted: NewChatMessage,
    context: SubmissionContext,
    *,
    asking: Asking = _PLAINLY,
    idempotency_key: str | None = None,
) -> Sent:
    """Send a message: a task answers it for the user in `context`, after those before it. Idempotent for a key.

    Raises:
        NotFound: there is no such conversation, or no such message to edit.
        Conflict: no agent was chosen or it is switched off, or the key was used for another message.
        InvalidInput: the attachments are too many or too large, or the agent's model cannot read one.
    """
    position = _lock(connection, conversation_id, 2)
    if idempotency_key is not None:
        earlier = queries.message_with_key(connection, conversation_id, idempotency_key)
        if earlier is not None:
            return _sent_before(connection, earlier, wanted)
    conversation = _bare(connection, conversation_id)
    if wanted.replaces_pending:
        stop(connection, conversation_id)
    parent = asking.parent or conversation.head
    if wanted.edits is not None:
        edited = get_message(connection, conversation_id, wanted.edits)
        if edited.role != "user":
            raise Conflict("Only a message of the user can be edited. To get another answer, regenerate it.")
        parent = edited.parent_id
    message_id = new_id()
    queries.insert_message(connection, {
        "id": message_id, "org": org, "conversation": conversation_id, "position": position - 1, "parent": parent,
        "role": "user", "status": "sent", "text": wanted.text, "context": wanted.context,
        "outside": wanted.is_from_outside, "untrusted": wanted.is_from_outside or bool(wanted.attachments),
        "key": idempotency_key, "attachments": wanted.attachments or None,
    })  # fmt: skip
    attachments.send(connection, wanted.attachments, context.user_id, conversation_id, conversation.location_id)
    answer = _ask(connection, org, conversation, message_id, wanted, context, position, asking)
    return Sent(message=queries.new_message(connection, message_id), answer=queries.new_message(connection, answer))


def _sent_before(connection: Connection, earlier: ChatMessage, wanted: NewChatMessage) -> Sent:
    if (earlier.text, earlier.attachments) != (wanted.text, wanted.attachments):
        raise Conflict("This idempotency key was used for a different message. Use a new key for a new message.")
    return Sent(message=earlier, answer=queries.first_answer(connection, earlier.conversation_id, earlier.id))


def _lock(connection: Connection, conversation_id: UUID, more: int) -> int:
    position = queries.lock_conversation(connection, conversation_id, more)
    if position is None:
        raise NotFound(f"There is no conversation {conversation_id}.")
    return position


def _ask(
    connection: Connection,
    org: UUID,
    conversation: Conversation,
    message_id: UUID,
    asked: NewChatMessage,
    context: SubmissionContext,
    position: int,
    asking: Asking = _PLAINLY,
) -> UUID:
    """Submit the task that answers a message, and write the answer that is to come. Return the answer's id."""
    agent = asking.agent or conversation.agent
    if agent is None:
        raise Conflict("This conversation has no agent yet. Set `agent` with PATCH.")
    files = attachments.files(connection, asked.attachments)
    ensure_read(connection, agent, files)
    answer = new_id()
    queries.insert_message(connection, {
        "id": answer, "org": org, "conversation": conversation.id, "position": position, "parent": message_id,
        "role": "assistant", "status": "queued", "options": asking.options,
    })  # fmt: skip
    facts: dict[str, Any] = conversation.context | asked.context
    if conversation.preferences:
        facts["preferences"] = conversation.preferences
    submission = TaskSubmission(
        agent=agent,
        input=_input(asked, facts, asking, files),
        priority=_PRIORITY,
        concurrency_key=None if asking.may_overtake else f"conversation:{conversation.id}",
        contact=conversation.contact,
    )
    within = context.model_copy(update={
        "location_id": conversation.location_id, "is_streamed": True, "conversation_id": conversation.id,
        "message_id": answer,
    })  # fmt: skip
    task = tasks.submit(connection, submission, within, idempotency_key=asking.idempotency_key)
    queries.set_task(connection, answer, task.id)
    queries.set_head(connection, conversation.id, answer, title=title_of(asked.text), agent=agent)
    return answer


def _input(asked: NewChatMessage, facts: dict[str, Any], asking: Asking, files: list[AttachedFile]) -> TaskInput:
    """Return what the task is asked."""
    given: dict[str, Any] = {
        "message": asked.text, "context": facts, "is_from_outside": asked.is_from_outside,
        "client_tools": asking.client_tools,
    }  # fmt: skip
    return AttachedInput(**given, attachments=files) if files else TaskInput(**given)


def ensure_read(connection: Connection, agent: str, files: Sequence[AttachedFile]) -> None:
    """Raise InvalidInput if the model of an agent cannot read one of these files; the message names agents that can."""
    media = {file.medium for file in files if file.medium is not None}
    model = agents.get_agent(connection, agent).model if media else ""
    for medium in sorted(media):
        if media_of(model).tokens(medium) is None:
            able = [one.slug for one in agents.list_agents(connection) if media_of(one.model).tokens(medium)]
            those = (
                f"Agents here whose model does: {', '.join(able)}." if able else "No agent here has a model that does."
            )
            raise InvalidInput(f"The model of {agent}, {model}, does not read {_CALLED[medium]}. {those}")


def append(
    connection: Connection, org: UUID, conversation_id: UUID, earlier: Sequence[Earlier], after: UUID | None = None
) -> list[UUID]:
    """Add messages that were said elsewhere, in order, after the message `after`, or after the last one. Nothing
    answers them. Return their ids.

    Raises:
        NotFound: there is no such conversation, or no such attachment of its user.
        InvalidInput: the attachments of a message are too many or too large.
    """
    if not earlier:
        return []
    position = _lock(connection, conversation_id, len(earlier)) - len(earlier)
    conversation = _bare(connection, conversation_id)
    parent = after or conversation.head
    ids = []
    for said in earlier:
        attachments.send(connection, said.attachments, conversation.user_id, conversation_id, conversation.location_id)
        ids.append(new_id())
        position += 1
        queries.insert_message(connection, {
            "id": ids[-1], "org": org, "conversation": conversation_id, "position": position, "parent": parent,
            "role": said.role, "status": "sent" if said.role == "user" else "answered", "text": said.text,
            # The caller cannot know what an answer was based on.
            "untrusted": said.role != "user" or bool(said.attachments), "call": said.call_id,
            "attachments": list(said.attachments) or None,
            "tool_calls": [call.model_dump() for call in said.tool_calls],
        })  # fmt: skip
        parent = ids[-1]
    queries.set_head(connection, conversation_id, ids[-1], agent=None)
    return ids


def find_answer(connection: Connection, answer_id: UUID) -> Answer | None:
    """Return an answer with what it was asked for, of a deleted conversation too; None if there is none."""
    return queries.answer(connection, answer_id)


def answer_of_task(connection: Connection, task_id: UUID) -> Answer | None:
    """Return the answer that a task gives, or None if it gives none."""
    return queries.answer_of_task(connection, task_id)


def asked_with(connection: Connection, answer: Answer) -> list[Said]:
    """Return the question of an answer and the messages that the caller sent along with it, in order."""
    return queries.asked_with(connection, answer.parent_id)


def hide(connection: Connection, conversation_id: UUID) -> None:
    """Hide a conversation from its beginning: it is deleted for good once its tasks have ended."""
    queries.mark_deleted(connection, conversation_id)


def delete_answer(connection: Connection, org: UUID, answer: Answer) -> None:
    """Delete an answer and its question, with their words. What it cost stays billed.

    Raises:
        Conflict: other messages follow it, or a visitor began the conversation.
    """
    if queries.is_followed(connection, answer.id):
        raise Conflict("Other messages follow this one. Delete those first, or the whole conversation.")
    if answer.user_id is None:
        raise Conflict("This is an answer to a visitor. Delete the whole conversation.")
    context = SubmissionContext(user_id=answer.user_id, location_id=answer.location_id)
    grave = begin(connection, org, NewConversation(), context, is_listed=False)
    queries.move_answer(connection, answer, grave.id)
    moved = queries.attachments_only_there(connection, grave.id, answer.conversation_id)
    attachments.move(connection, moved, grave.id)
    delete(connection, grave.id)
    if not answer.is_listed and not queries.has_answers(connection, answer.conversation_id):
        hide(connection, answer.conversation_id)  # what came along with the request would be left, unseen


def regenerate(
    connection: Connection, org: UUID, conversation_id: UUID, message_id: UUID, context: SubmissionContext
) -> ChatMessage:
    """Have an answer given anew. The old one is kept beside it, and the conversation goes on from the new one.

    Raises:
        NotFound: there is no such conversation or message.
        Conflict: it is no answer, or it is still being given.
    """
    position = _lock(connection, conversation_id, 1)
    old = get_message(connection, conversation_id, message_id)
    if old.role != "assistant" or old.parent_id is None:
        raise Conflict("This is no answer. Edit a message of yours instead.")
    if old.status in _PENDING:
        raise Conflict("This answer is still being given. Stop it first.")
    asked = get_message(connection, conversation_id, old.parent_id)
    again = NewChatMessage(
        text=asked.text, context=asked.context or {}, is_from_outside=asked.is_from_outside,
        attachments=asked.attachments,
    )  # fmt: skip
    answer = _ask(connection, org, _bare(connection, conversation_id), asked.id, again, context, position)
    return queries.new_message(connection, answer)


def get_message(connection: Connection, conversation_id: UUID, message_id: UUID) -> ChatMessage:
    """Return a message of a conversation.

    Raises:
        NotFound: there is none.
    """
    found = queries.message(connection, conversation_id, message_id)
    if found is None:
        raise NotFound(f"There is no message {message_id} in this conversation.")
    return found


def task_of(connection: Connection, conversation_id: UUID, answer_id: UUID) -> UUID:
    """Return the task that gave an answer; it may have been cleaned up.

    Raises:
        NotFound: there is no such conversation or message.
        Conflict: it is no answer of an agent.
    """
    _bare(connection, conversation_id)
    message = get_message(connection, conversation_id, answer_id)
    if message.role != "assistant" or message.task_id is None:
        raise Conflict("Only answers of agents can be rated.")
    return message.task_id


def rate(
    connection: Connection, org: UUID, conversation_id: UUID, answer_id: UUID, user: UUID, wanted: NewFeedback
) -> Feedback:
    """Keep what a user thinks of an answer, in place of what they thought before.

    Raises:
        NotFound: there is no such conversation or message.
        Conflict: it is no answer of an agent, or it is still being given.
    """
    task = task_of(connection, conversation_id, answer_id)
    if get_message(connection, conversation_id, answer_id).status in _PENDING:
        raise Conflict("This answer is still being given. Rate it when it has ended.")
    conversation, known = _bare(connection, conversation_id), tasks.find_task(connection, task)
    agent = (known.agent if known else conversation.agent) or ""
    return feedback.give(
        connection, org, user, wanted, task=task, agent=agent, location=conversation.location_id,
        conversation=conversation_id, message=answer_id,
    )  # fmt: skip


def stop(connection: Connection, conversation_id: UUID) -> int:
    """Stop the answers that are being given or wait for their turn; what was said stays. Return how many."""
    unended = queries.unended_tasks(connection, conversation_id)
    tasks.cancel_unended(connection, unended)
    return len(unended)


def unended_tasks(connection: Connection, conversation_id: UUID) -> list[UUID]:
    """Return the tasks of a conversation that have not ended."""
    return queries.unended_tasks(connection, conversation_id)


def delete(connection: Connection, conversation_id: UUID) -> None:
    """Delete a conversation: at once for everyone, and its words for good within seconds. What it cost stays billed.

    Raises:
        NotFound: there is none.
    """
    if not queries.mark_deleted(connection, conversation_id):
        raise NotFound(f"There is no conversation {conversation_id}.")
    stop(connection, conversation_id)


def get_of_visitor(connection: Connection, conversation_id: UUID, visitor: UUID) -> Conversation:
    """Return a conversation that a visitor began, without counting its messages.

    Raises:
        NotFound: there is none, or another visitor or a user began it.
    """
    found = _bare(connection, conversation_id)
    if found.visitor_id != visitor:
        raise NotFound(f"There is no conversation {conversation_id}.")
    return found


def delete_of_visitors(connection: Connection, visitors: list[UUID]) -> None:
    """Delete all conversations that visitors began."""
    for conversation in queries.of_visitors(connection, visitors):
        if queries.mark_deleted(connection, conversation):  # another request may have done so meanwhile
            stop(connection, conversation)


def organisations_with_idle(connection: Connection, kept: Mapping[UUID, timedelta]) -> list[UUID]:
    """Return which of the organisations have conversations whose last message is older than each keeps them."""
    return queries.organisations_with_idle(connection, kept)


def delete_idle(connection: Connection, org: UUID, kept: timedelta) -> int:
    """Delete conversations whose last message is older than `kept`, as `delete` does; at most 100 per call. Return how
    many.
    """
    deleted = queries.mark_idle_deleted(connection, org, kept, _BATCH)
    for conversation_id in deleted:
        stop(connection, conversation_id)
    return len(deleted)


def purge_deleted(connection: Connection) -> int:
    """Delete the words of conversations that were deleted; at most 100 conversations per call. Return how many."""
    return queries.purge_deleted(connection, _BATCH)


def history(connection: Connection, answer: UUID) -> Reading:
    """Return the earlier messages of which the agent reads before it answers, as they are or summed up."""
    messages = _with_files(connection, queries.before_answer(connection, answer, _FARTHEST))
    reading = divide(messages)
    if reading.to_sum_up and queries.is_first_of_program(connection, answer):
        return Reading(window(messages))  # it is sent again with each request: a summary would be read once
    return reading


def _with_files(connection: Connection, messages: Sequence[Said]) -> list[Said]:
    """Return messages with what there is to know of their attachments."""
    wanted = [one for message in messages for one in message.attachments]
    known = {file.id: file for file in attachments.files(connection, wanted)}
    return [
        replace(message, files=tuple(known[one] for one in message.attachments if one in known))
        if message.attachments
        else message
        for message in messages
    ]


def summary(connection: Connection, message_id: UUID) -> Said | None:
    """Return the summary of the messages up to one, or None if there is none."""
    return queries.summary(connection, message_id)


def keep_summary(connection: Connection, made: Said) -> None:
    """Keep a summary: later answers read it instead of the messages up to the one whose id it has."""
    queries.keep_summary(connection, made)


def said(connection: Connection, ids: list[UUID]) -> list[Said]:
    """Return messages by their ids, in the order of the ids; those that were deleted are left out."""
    found = {message.id: message for message in _with_files(connection, queries.said(connection, ids))}
    return [found[one] for one in ids if one in found]
