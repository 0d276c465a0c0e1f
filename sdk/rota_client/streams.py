"""Streams of events: where to read them, how far they were read, and what to do when a connection ends. Reads and
writes nothing itself: the clients carry the bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx2

from rota_client import retries
from rota_client.calls import (
    ConversationRef,
    TaskRef,
    conversation_id,
    path_of_conversation,
    path_of_task,
    task_id,
)
from rota_client.errors import NotReachable, UnexpectedResponse, refusal
from rota_client.models import Event
from rota_client.retries import Reply
from rota_client.text import Text

SILENCE = 45.0
"""seconds; the API sends something at least every 15"""
MEDIA_TYPE = "text/event-stream"
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
_RETRIED = {
    HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where events are read, from which cursor on, and whether they end with a task."""

    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    after: str | None = None
    ends_with_task: bool = False


def follow(task: TaskRef, *, types: Sequence[str] = (), after: str | None = None) -> Source:
    """Follow a task from its first event to its end. `types` are types or patterns, such as `message.*`; with `after`,
    go on after an event, by its id.

    The stream connects again by itself and goes on where it was: no event is missing, and none comes twice.
    """
    return Source(f"{path_of_task(task)}/events", _params(type=types), after, ends_with_task=True)


def follow_conversation(
    conversation: ConversationRef, *, types: Sequence[str] = (), after: str | None = None
) -> Source:
    """Follow the messages and answers of a conversation, and the tasks that give them, from now on."""
    return Source(f"{path_of_conversation(conversation)}/events", _params(type=types), after)


def follow_all(
    *,
    types: Sequence[str] = (),
    agent: str | None = None,
    task: TaskRef | None = None,
    conversation: ConversationRef | None = None,
    session: str | None = None,
    after: str | None = None,
) -> Source:
    """Follow what happens in the organisation, from now on. Begins with the event `ready`. `session` is the id of your
    own that conversations were begun with.
    """
    only = None if task is None else task_id(task)
    talk = None if conversation is None else conversation_id(conversation)
    params = _params(type=types, agent=agent, task=only, conversation=talk, session=session)
    return Source("/v1/events", params, after, ends_with_task=task is not None)


def _params(*, type: Sequence[str], **more: str | None) -> dict[str, Any]:  # noqa: A002  the parameter's name
    found = {name: value for name, value in more.items() if value is not None}
    return found | {"type": list(type)} if type else found


class Following:
    """How far a stream was read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._failures = 0
        self._text = Text()
        self.cursor = source.after
        """id of the last event: pass it as `after` to go on after it"""
        self.has_ended = False
        """whether the task has ended, so that nothing more comes"""

    def text(self, task: str | None = None) -> str:
        """What was said so far: of the task that was heard last, or of another one, by its id."""
        return self._text.of(task)

    def goes_on(self) -> bool:
        """Whether more may come."""
        return not self.has_ended

    def request(self) -> dict[str, Any]:
        """Return the request for what comes next, as arguments of `httpx2.Client.stream`."""
        headers = {"accept": MEDIA_TYPE} | ({} if self.cursor is None else {"last-event-id": self.cursor})
        return {"method": "GET", "url": self._source.path, "params": dict(self._source.params), "headers": headers}

    def begin(self, response: httpx2.Response) -> bool:
        """Take the head of a response. Return whether events follow; if not, read its body for `pause_after`."""
        if response.status_code == HTTPStatus.NO_CONTENT:
            self.has_ended = True
        if response.status_code != HTTPStatus.OK:
            return False
        if not response.headers.get("content-type", "").startswith(MEDIA_TYPE):
            raise UnexpectedResponse(response, "is not a stream of events, so it is not Rota's API.")
        return True

    def take(self, message: httpx2.ServerSentEvent) -> list[Event]:
        """Take a message, and return the event in it; none if it has no data."""
        if not message.data:
            return []
        event = read(message)
        self.cursor, self._failures = event.id or self.cursor, 0
        self._text.hear(event)
        if event.type == "task.ended" and self._source.ends_with_task:
            self.has_ended = True
        return [event]

    def pause_after(self, reply: Reply) -> float:
        """Return the seconds to wait before connecting again; 0 if nothing more comes. `reply` is why the connection
        ended: a response (of success if it was a stream that ended), or an error.

        Raises:
            NotReachable: there was no response, several times in a row.
            Refused: the API refuses the stream, or is overloaded for long.
        """
        if not self.goes_on():
            return 0.0
        self._failures += 1
        is_last = self._failures > len(_PAUSES)
        pause = _PAUSES[min(self._failures, len(_PAUSES)) - 1]
        if isinstance(reply, httpx2.RequestError):
            if is_last:
                raise NotReachable(reply.request, reply) from reply
            return pause
        if reply.is_success:  # the server restarts, or a proxy ended a quiet connection
            return pause
        if reply.status_code not in _RETRIED or is_last:
            raise refusal(reply)
        asked = retries.retry_after(reply.headers, datetime.now(UTC)) or 0.0
        return min(max(asked, pause), retries.LONGEST_PAUSE)


def read(message: httpx2.ServerSentEvent) -> Event:
    """Return the event in a message of a stream."""
    data: dict[str, Any] = json.loads(message.data)
    at = data.pop("at", None)
    return Event(id=message.id, type=message.event, at=at, data=data)
