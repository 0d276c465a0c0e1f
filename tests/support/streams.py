"""Reading streams of server-sent events, as a client does."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True)
class Message:
    """A message of a stream."""

    id: str
    event: str
    data: Any


class Stream:
    """An open stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[Message]:
        """The messages until the stream ends."""
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(":")
            if line and name:
                fields[name] = value.removeprefix(" ")
            elif not line and "data" in fields:
                yield Message(fields["id"], fields["event"], json.loads(fields["data"]))
                fields = {}

    def until(self, event: str) -> list[Message]:
        """The messages up to the first of this name, included."""
        found = []
        for message in self:
            found.append(message)
            if message.event == event:
                return found
        raise AssertionError(f"the stream ended without {event}: {found}")


@contextlib.contextmanager
def stream(url: str, key: str, *, after: str | None = None, **parameters: Any) -> Iterator[Stream]:
    """A stream at `url`. A test fails if nothing at all comes for 30 s."""
    headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
    if after is not None:
        headers["last-event-id"] = after
    with (
        httpx2.Client(timeout=30, trust_env=False, verify=False) as client,
        client.stream("GET", url, headers=headers, params=parameters) as response,
    ):
        if response.status_code != 200:
            response.read()
        yield Stream(response)
