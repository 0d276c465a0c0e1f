"""The command line's reader of event streams: it connects again by itself, with the cursor of the last event."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx2

from cli.client import Api, fail

ALL = "/v1/events"
"""the stream of the organisation, which does not end with a task"""
_SILENCE = 45.0  # seconds; the server sends something at least every 15
_PAUSES = (0.2, 0.5, 1, 2, 5)
_RETRIED = {429, 503}


@dataclass(frozen=True)
class Message:
    """A message of a stream."""

    id: str
    event: str
    data: dict[str, Any]


def follow(api: Api, path: str, *, after: str | None = None, **query: Any) -> Iterator[Message]:
    """Yield the messages of a stream until `task.ended`, or for ever. Exits with a message if the API refuses, or does
    not answer for long.
    """
    wanted = {name: value for name, value in query.items() if value not in (None, [], ())}
    failures = 0
    with httpx2.Client(base_url=api.url, timeout=_SILENCE, trust_env=False) as client:
        while True:
            try:
                for message in _once(api, client, path, after, wanted):
                    failures, after = 0, message.id
                    yield message
                    if message.event == "task.ended" and (path != ALL or wanted.get("task")):
                        return
            except _Over:
                return
            except httpx2.HTTPError as error:
                if failures == len(_PAUSES):
                    fail(f"{api.url} does not answer ({type(error).__name__}). Is Rota running? See `rota doctor`.")
            time.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            failures += 1


class _Over(Exception):
    """The task has ended, and its end was read."""


def _once(api: Api, client: httpx2.Client, path: str, after: str | None, query: dict[str, Any]) -> Iterator[Message]:
    """Yield the messages of one connection."""
    headers = {"authorization": f"Bearer {api.key}", "accept": "text/event-stream"}
    if after is not None:
        headers["last-event-id"] = after
    with client.stream("GET", path, headers=headers, params=query) as response:
        if response.status_code == HTTPStatus.NO_CONTENT:
            raise _Over
        if response.status_code in _RETRIED:
            return
        if not response.is_success:
            response.read()
            fail(_refusal(response))
        yield from messages(response.iter_lines())


def _refusal(response: httpx2.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The API returned HTTP status {response.status_code}."


def messages(lines: Iterator[str]) -> Iterator[Message]:
    """Yield the messages in the lines of a stream (WHATWG HTML, section 9.2.6). Comments are skipped."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line and name:
            fields[name] = value.removeprefix(" ")
        elif not line and "data" in fields:
            yield Message(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}
