"""The endpoints of the API, each described once: a function returns a `Call`, the request and how to read its response.

Both clients send calls: `rota.submit(...)` is `rota.send(calls.submit(...))`. Where a task, a conversation or an
approval is meant, pass what the API returned, or its id.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from rota_client.models import (
    Approval,
    Attachment,
    ClientTool,
    Conversation,
    EventPage,
    Feedback,
    Message,
    Sent,
    Task,
    TaskDetail,
    ToolResult,
    Turn,
    Why,
)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Id = UUID | str
TaskRef = Task | Message | Sent | Id
"""a task: itself, its id, or the answer in a conversation that it gives"""
ConversationRef = Conversation | Id
ApprovalRef = Approval | Id

MOST = 200
"""items of a page, at most"""


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request to the API, and how its response is read."""

    method: str
    path: str
    read: Callable[[Any], T]
    """turns the JSON of the response into what the caller gets"""
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    """a body that is a file, instead of JSON"""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = False
    """whether sending it twice does no more than sending it once"""
    waits: float = 0
    """seconds for which the API may hold the response back"""
    is_text: bool = False
    """whether the response is text, which `read` gets as it is, instead of JSON"""


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some items of a list."""

    items: list[T]
    next: "Call[Page[T]] | None"
    """the call for the next page; None on the last"""


def request(
    method: str,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    body: Any = None,
    idempotency_key: str | None = None,
    is_repeatable: bool | None = None,
) -> Call[Any]:
    """Call any endpoint, and return the JSON of its response as it is; None if it is empty."""
    if is_repeatable is None:
        is_repeatable = method in {"GET", "HEAD", "PUT", "PATCH"} or idempotency_key is not None
    return Call(
        method,
        path,
        _as_it_is,
        params=_set(params or {}),
        body=body,
        headers=_keyed(idempotency_key),
        is_repeatable=is_repeatable,
    )


def text(path: str, *, params: Mapping[str, Any] | None = None) -> Call[str]:
    """Return the response to a GET as text, such as an export's."""
    return Call("GET", path, str, params=_set(params or {}), is_repeatable=True, is_text=True)


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def submit(
    agent: str,
    message: str,
    *,
    context: Mapping[str, Any] | None = None,
    history: Sequence[Turn] | None = None,
    is_from_outside: bool = False,
    has_outside_context: bool = False,
    client_tools: Sequence[ClientTool] | None = None,
    priority: str | None = None,
    run_after: datetime | None = None,
    deadline: datetime | None = None,
    expires_at: datetime | None = None,
    concurrency_key: str | None = None,
    for_user: str | None = None,
    location: str | None = None,
    contact: Id | None = None,
    notify: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Task]:
    """Submit a task. It is durable when this returns.

    `agent` is a slug. `message` is what the agent should do, `context` facts beside it, `history` what was said before;
    say `is_from_outside` (or `has_outside_context`) if a customer or a stranger wrote them. `client_tools` are tools
    that you carry out yourself: see `wait`. Times are aware: the task does not start before `run_after`, expires if it
    has not started at `expires_at`, and must end by `deadline`. Tasks with the same `concurrency_key` run one after the
    other. `for_user` is an e-mail address, `location` a slug, `contact` an id, `notify` the URL of a webhook of yours.

    Without an `idempotency_key` one is made, so that a lost response does not lead to a second task. To submit the same
    task again from another process, give a key of your own.
    """
    asked = {
        "message": message,
        "context": context,
        "history": history,
        "is_from_outside": is_from_outside or None,
        "has_outside_context": has_outside_context or None,
        "client_tools": client_tools,
    }
    body = {
        "agent": agent,
        "input": _set(asked),
        "priority": priority,
        "run_after": run_after,
        "deadline": deadline,
        "expires_at": expires_at,
        "concurrency_key": concurrency_key,
        "for_user": for_user,
        "location": location,
        "contact": contact,
        "notify": notify,
    }
    return _post("/v1/tasks", Task, body, key=idempotency_key or _new_key())


def task(task: TaskRef, *, wait: float = 0) -> Call[TaskDetail]:
    """Return a task with its journal. With `wait`, return it when it ends, or after that many seconds (60 at most)."""
    return _get(path_of_task(task), TaskDetail, {"wait": wait or None}, waits=wait)


def tasks(
    *,
    ids: Sequence[Id] = (),
    id_prefix: str | None = None,
    status: Sequence[str] = (),
    priority: Sequence[str] = (),
    agent: str | None = None,
    waiting_for: str | None = None,
    concurrency_key: str | None = None,
    error_kind: str | None = None,
    fingerprint: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    cursor: str | None = None,
    limit: int = MOST,
) -> Call[Page[Task]]:
    """List tasks, newest first. `limit` is the size of a page."""
    params = {
        "id": [str(one) for one in ids],
        "id_prefix": id_prefix,
        "status": list(status),
        "priority": list(priority),
        "agent": agent,
        "waiting_for": waiting_for,
        "concurrency_key": concurrency_key,
        "error_kind": error_kind,
        "fingerprint": fingerprint,
        "created_after": created_after,
        "created_before": created_before,
        "cursor": cursor,
        "limit": limit,
    }
    return _page("/v1/tasks", Task, "tasks", params, ("next_cursor", "cursor"))


def why(task: TaskRef) -> Call[Why]:
    """Explain what a task waits for."""
    return _get(f"{path_of_task(task)}/why", Why)


def cancel(task: TaskRef) -> Call[Task]:
    """Cancel a task. A running one stops within seconds."""
    return _post(f"{path_of_task(task)}/cancel", Task)


def retry(task: TaskRef, *, now: bool = False) -> Call[Task]:
    """Go on with a task that failed, expired or was cancelled, after its last finished step. With `now`, do not wait
    for its start time.
    """
    return _post(f"{path_of_task(task)}/retry", Task, {"now": now or None})


def replay(
    task: TaskRef,
    *,
    agent: str | None = None,
    message: str | None = None,
    context: Mapping[str, Any] | None = None,
    priority: str | None = None,
    concurrency_key: str | None = None,
    now: bool = False,
    idempotency_key: str | None = None,
) -> Call[Task]:
    """Submit a task that has ended once more, as a new task. A `message` replaces the whole input, with `context`."""
    asked = _set({"message": message, "context": context}) or None
    body = {
        "agent": agent,
        "input": asked,
        "priority": priority,
        "concurrency_key": concurrency_key,
        "now": now or None,
    }
    return _post(f"{path_of_task(task)}/replay", Task, body, key=idempotency_key or _new_key())


def settle(task: TaskRef, step: int, outcome: str, *, note: str | None = None) -> Call[Task]:
    """Record whether an action happened whose outcome a crash left unknown: `happened`, or `do_again` to repeat it."""
    return _post(f"{path_of_task(task)}/steps/{step}/outcome", Task, {"outcome": outcome, "note": note})


def give_results(task: TaskRef, results: Sequence[ToolResult]) -> Call[Task]:
    """Return results of client tools. The task goes on once each of its `open_calls` has one. Idempotent."""
    return _post(f"{path_of_task(task)}/tool-results", Task, {"results": results}, is_repeatable=True)


# ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def approvals(
    *,
    mine: bool = False,
    status: str | None = None,
    kind: str | None = None,
    task: TaskRef | None = None,
    before: Id | None = None,
    limit: int = MOST,
) -> Call[Page[Approval]]:
    """List approvals, newest first: the open ones, or those with another `status` (`any` for all). With `mine`, those
    that you can decide now.
    """
    params = {
        "mine": mine or None,
        "status": status,
        "kind": kind,
        "task": None if task is None else task_id(task),
        "before": before,
        "limit": limit,
    }
    return _page("/v1/approvals", Approval, "approvals", params, ("next_before", "before"))


def approval(approval: ApprovalRef) -> Call[Approval]:
    """Return an approval as it is now."""
    return _get(_approval(approval), Approval)


def approve(
    approval: ApprovalRef,
    *,
    digest: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    words: str | None = None,
) -> Call[Approval]:
    """Vote for an action; with `arguments`, for an edited one: give all of them. `words` are advice to the agent.

    The vote is for what was seen: pass the `Approval` that you showed, or its `digest`. If the action was edited
    meanwhile, the API answers with `Conflict`, whose `problem["changed"]` tells what changed.
    """
    body = {"digest": _digest(approval, digest), "arguments": arguments, "words": words}
    return _post(f"{_approval(approval)}/approve", Approval, body, is_repeatable=True)


def reject(approval: ApprovalRef, reason: str, *, digest: str | None = None) -> Call[Approval]:
    """Vote against an action. The agent is told the reason. The vote is for what was seen, as in `approve`."""
    body = {"digest": _digest(approval, digest), "reason": reason}
    return _post(f"{_approval(approval)}/reject", Approval, body, is_repeatable=True)


# ── conversations ────────────────────────────────────────────────────────────────────────────────────────────────────


def begin(
    agent: str,
    *,
    title: str | None = None,
    session: str | None = None,
    contact: Id | None = None,
    location: str | None = None,
    context: Mapping[str, Any] | None = None,
    preferences: Mapping[str, Any] | None = None,
) -> Call[Conversation]:
    """Begin a conversation with an agent. `session` is an id of your own, such as a visit's."""
    body = {
        "agent": agent,
        "title": title,
        "session": session,
        "contact": contact,
        "location": location,
        "context": context,
        "preferences": preferences,
    }
    return _post("/v1/conversations", Conversation, body)


def conversation(conversation: ConversationRef) -> Call[Conversation]:
    """Return a conversation, with what it cost."""
    return _get(path_of_conversation(conversation), Conversation)


def conversations(
    *,
    user: Id | None = None,
    visitor: Id | None = None,
    is_visitor: bool | None = None,
    session: str | None = None,
    agent: str | None = None,
    search: str | None = None,
    is_archived: bool = False,
    before: Id | None = None,
    limit: int = MOST,
) -> Call[Page[Conversation]]:
    """List conversations, latest first."""
    params = {
        "user": user,
        "visitor": visitor,
        "is_visitor": is_visitor,
        "session": session,
        "agent": agent,
        "search": search,
        "is_archived": is_archived or None,
        "before": before,
        "limit": limit,
    }
    return _page("/v1/conversations", Conversation, "conversations", params, ("next_before", "before"))


def change_conversation(
    conversation: ConversationRef,
    *,
    title: str | None = None,
    is_archived: bool | None = None,
    context: Mapping[str, Any] | None = None,
    preferences: Mapping[str, Any] | None = None,
) -> Call[Conversation]:
    """Rename a conversation, archive it, or replace its facts or preferences."""
    body = {"title": title, "is_archived": is_archived, "context": context, "preferences": preferences}
    path = path_of_conversation(conversation)
    return Call("PATCH", path, Conversation.model_validate, body=_set(body), is_repeatable=True)


def delete_conversation(conversation: ConversationRef) -> Call[None]:
    """Delete a conversation and its words. What it cost stays on the bill."""
    return Call("DELETE", path_of_conversation(conversation), _nothing)


def say(
    conversation: ConversationRef,
    text: str,
    *,
    context: Mapping[str, Any] | None = None,
    attachments: Sequence[Attachment | Id] = (),
    is_from_outside: bool = False,
    edits: Message | Id | None = None,
    replaces_pending: bool = False,
    idempotency_key: str | None = None,
) -> Call[Sent]:
    """Send a message. Pass the result to `follow` to hear the answer, or to `wait` for its end.

    `attachments` are what `upload` returned, or their ids. Their content counts as strangers' words.

    With `edits` it replaces an earlier message of the user, and a new branch begins. With `replaces_pending`, what is
    being answered is stopped; without it the message waits for its turn.
    """
    body = {
        "text": text,
        "context": context,
        "attachments": [_id(one) for one in attachments],
        "is_from_outside": is_from_outside or None,
        "edits": edits.id if isinstance(edits, Message) else edits,
        "replaces_pending": replaces_pending or None,
    }
    return _post(f"{path_of_conversation(conversation)}/messages", Sent, body, key=idempotency_key or _new_key())


def upload(
    content: bytes, name: str, *, media_type: str = "application/octet-stream", location: str | None = None
) -> Call[Attachment]:
    """Upload a file to send with a message: text, CSV, Markdown, JSON, an image or a PDF. Without a `media_type`, the
    content and the name say what it is. A file that is not sent within a day is deleted.
    """
    return Call(
        "POST",
        "/v1/attachments",
        Attachment.model_validate,
        params=_set({"name": name, "location": location}),
        content=content,
        headers={"content-type": media_type},
        is_repeatable=True,  # what a lost response leaves is deleted within a day
    )


def attachment(attachment: Attachment | Id) -> Call[Attachment]:
    """Return an attachment, with an address from which it can be downloaded for some minutes."""
    return _get(f"/v1/attachments/{quote(_id(attachment), safe='')}", Attachment)


def delete_attachment(attachment: Attachment | Id) -> Call[None]:
    """Delete an attachment and its content."""
    return Call("DELETE", f"/v1/attachments/{quote(_id(attachment), safe='')}", _nothing)


def edit(message: Message, text: str) -> Call[Sent]:
    """Replace the text of an earlier message of the user: a new branch begins, and the agent answers it."""
    return say(message.conversation_id, text, edits=message, attachments=message.attachments)


def regenerate(answer: Message) -> Call[Message]:
    """Have an answer given anew, and return the one that is to come. The old one is kept beside it."""
    return _post(f"{path_of_conversation(answer.conversation_id)}/messages/{answer.id}/regenerate", Message)


def rate(task: TaskRef, rating: str, comment: str = "") -> Call[Feedback]:
    """Say what you think of an answer, `up` or `down`, in place of what you said before."""
    return Call(
        "PUT",
        f"{path_of_task(task)}/feedback",
        Feedback.model_validate,
        body={"rating": rating, "comment": comment},
        is_repeatable=True,
    )


def stop(conversation: ConversationRef) -> Call[int]:
    """Stop the answers that are being given or wait for their turn, and return how many. What was said stays."""
    return Call("POST", f"{path_of_conversation(conversation)}/stop", lambda answer: int(answer["stopped"]))


def messages(conversation: ConversationRef, *, after: int = 0, limit: int = MOST) -> Call[Page[Message]]:
    """List the messages of a conversation after a position, in order, of all branches (see `is_current`)."""

    def read(answer: Any) -> Page[Message]:
        items = _items(Message, answer["messages"])
        more = bool(answer["has_more"] and items)
        return Page(items, messages(conversation, after=items[-1].position, limit=limit) if more else None)

    return _messages(conversation, read, after=after, limit=limit)


def latest_messages(
    conversation: ConversationRef, *, before: int | None = None, limit: int = 50
) -> Call[list[Message]]:
    """Return the last messages of a conversation, or the last ones before a position, in order."""
    return _messages(conversation, lambda answer: _items(Message, answer["messages"]), before=before, limit=limit)


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def events(
    after: str | None = None,
    *,
    types: Sequence[str] = (),
    agent: str | None = None,
    task: TaskRef | None = None,
    conversation: ConversationRef | None = None,
    session: str | None = None,
    limit: int = 100,
) -> Call[EventPage]:
    """Return a page of events after a cursor, or from the oldest that is kept. For systems that follow at their own
    pace: keep `next_after` in the transaction in which you apply the page. To hear events as they happen, see `follow`.
    """
    params = {
        "after": after,
        "type": list(types),
        "agent": agent,
        "task": None if task is None else task_id(task),
        "conversation": None if conversation is None else conversation_id(conversation),
        "session": session,
        "limit": limit,
    }
    return dataclasses.replace(_get("/v1/events", EventPage, params), headers={"accept": "application/json"})


# ── references ───────────────────────────────────────────────────────────────────────────────────────────────────────


def task_id(task: TaskRef) -> str:
    """Return the id of the task that is meant.

    Raises:
        ValueError: it is the message of a user, which no task gives.
    """
    if isinstance(task, Sent):
        task = task.answer
    if isinstance(task, Message):
        if task.task_id is None:
            raise ValueError(f"The message {task.id} is a user's: no task gives it. Pass the answer to it.")
        return str(task.task_id)
    return _id(task)


def path_of_task(task: TaskRef) -> str:
    """Return the path of a task."""
    return f"/v1/tasks/{quote(task_id(task), safe='')}"


def conversation_id(conversation: ConversationRef) -> str:
    """Return the id of the conversation that is meant."""
    return _id(conversation)


def path_of_conversation(conversation: ConversationRef) -> str:
    """Return the path of a conversation."""
    return f"/v1/conversations/{quote(conversation_id(conversation), safe='')}"


def _approval(approval: ApprovalRef) -> str:
    return f"/v1/approvals/{quote(_id(approval), safe='')}"


def _id(thing: Task | Conversation | Approval | Attachment | Id) -> str:
    return str(thing) if isinstance(thing, UUID | str) else str(thing.id)


def _digest(approval: ApprovalRef, digest: str | None) -> str | None:
    return digest or (approval.digest if isinstance(approval, Approval) else None)


# ── building ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _get(path: str, model: type[M], params: Mapping[str, Any] | None = None, *, waits: float = 0) -> Call[M]:
    return Call("GET", path, model.model_validate, params=_set(params or {}), is_repeatable=True, waits=waits)


def _post(
    path: str, model: type[M], body: Mapping[str, Any] | None = None, *, key: str | None = None,
    is_repeatable: bool = False,
) -> Call[M]:  # fmt: skip
    return Call(
        "POST",
        path,
        model.model_validate,
        body=None if body is None else _set(body),
        headers=_keyed(key),
        is_repeatable=is_repeatable or key is not None,
    )


def _page(path: str, model: type[M], name: str, params: Mapping[str, Any], cursor: tuple[str, str]) -> Call[Page[M]]:
    """Return the call for a page. `cursor` names the field with the cursor of the next page, and its parameter."""
    field_name, parameter = cursor

    def read(answer: Any) -> Page[M]:
        following = answer[field_name]
        more = _page(path, model, name, {**params, parameter: following}, cursor) if following else None
        return Page(_items(model, answer[name]), more)

    return Call("GET", path, read, params=_set(params), is_repeatable=True)


def _messages(conversation: ConversationRef, read: Callable[[Any], T], **params: Any) -> Call[T]:
    return Call("GET", f"{path_of_conversation(conversation)}/messages", read, _set(params), is_repeatable=True)


def _items(model: type[M], found: list[Any]) -> list[M]:
    return [model.model_validate(one) for one in found]


def _as_it_is(answer: Any) -> Any:
    return answer


def _nothing(_: Any) -> None:
    return None


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are set, as JSON: what is left out has the API's default."""
    return _json({name: value for name, value in values.items() if value is not None and value != []})


def _json(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = to_jsonable_python(values, exclude_none=True)
    return found


def _keyed(key: str | None) -> dict[str, str]:
    return {} if key is None else {"idempotency-key": key}


def _new_key() -> str:
    return uuid4().hex
