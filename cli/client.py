"""The command line's client of the API: the client library, with errors told as messages for people."""

import contextlib
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import typer

from embedded.state import find_running
from rota_client import Attachment, Call, Event, NotReachable, Refused, Rota, RotaError, UnexpectedResponse, calls


class Api:
    """A connection to the API that ROTA_API_URL and ROTA_API_KEY name, or to the `rota up` that runs on this host."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        try:
            self._rota = Rota(url, key, trust_env=False)
        except (httpx2.InvalidURL, ValueError) as error:
            fail(f"ROTA_API_URL or ROTA_API_KEY is not valid: {error}")
        weakref.finalize(self, self._rota.close)

    @classmethod
    def find(cls) -> "Api":
        """Return the API to use; exit with a hint if there is none."""
        url, key = os.environ.get("ROTA_API_URL"), os.environ.get("ROTA_API_KEY")
        if url and key:
            return cls(url, key)
        if url or key:
            fail("Set both ROTA_API_URL and ROTA_API_KEY, or neither: a key is only sent to its own API.")
        state = find_running(Path.cwd())
        if state is None:
            fail("No running Rota found. Start one here with `rota up`, or set ROTA_API_URL and ROTA_API_KEY.")
        return cls(state.running.api, state.running.api_key)

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET."""
        return self._send(calls.request("GET", path, params=query))

    def look(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET, or None if the API refuses or does not answer. For details that a command can do
        without.
        """
        try:
            return self._rota.send(calls.request("GET", path, params=query), tries=1)
        except RotaError:
            return None

    def text(self, path: str, **query: Any) -> str:
        """Return the answer to a GET as text."""
        return str(self._send(calls.text(path, params=query)))

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Return the answer to a POST; with an idempotency key the request is safe to send again."""
        return self._send(calls.request("POST", path, body=body, idempotency_key=key))

    def put(self, path: str, body: Any) -> Any:
        """Return the answer to a PUT."""
        return self._send(calls.request("PUT", path, body=body))

    def patch(self, path: str, body: Any) -> Any:
        """Return the answer to a PATCH."""
        return self._send(calls.request("PATCH", path, body=body))

    def upload(self, content: bytes, name: str) -> Attachment:
        """Upload a file, and return the attachment."""
        made: Attachment = self._send(calls.upload(content, name))
        return made

    def delete(self, path: str) -> None:
        """Send a DELETE."""
        self._send(calls.request("DELETE", path))

    def follow(self, task: str) -> Iterator[Event]:
        """Yield the events of a task until it ends."""
        with self._failing(), self._rota.follow(task) as events:
            yield from events

    def follow_all(self, **wanted: Any) -> Iterator[Event]:
        """Yield what happens in the organisation, as `Rota.follow_all` does."""
        with self._failing(), self._rota.follow_all(**wanted) as events:
            yield from events

    def _send(self, call: Call[Any]) -> Any:
        with self._failing():
            return self._rota.send(call)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Context in which an error ends the command with one message."""
        try:
            yield
        except NotReachable as error:
            reason = type(error.reason).__name__
            fail(f"{self.url} does not answer ({reason}). Is Rota running? See `rota doctor`.")
        except UnexpectedResponse as error:
            fail(f"{error} Check ROTA_API_URL.")
        except Refused as error:
            fail(error.detail)


def say(message: str) -> None:
    """Print a message for people on standard error, apart from the command's output."""
    typer.secho(f"rota: {message}", err=True)


def fail(message: str) -> NoReturn:
    """Print what is wrong on standard error and exit with status 1."""
    typer.secho(f"rota: {message}", fg=typer.colors.RED, err=True)
    raise typer.Exit(1)


def match_agent(api: Api, prefix: str) -> str:
    """Return the agent's slug that begins with `prefix`; exit with a message if none or several do."""
    known = [agent["slug"] for agent in api.get("/v1/agents")]
    matches = [prefix] if prefix in known else [slug for slug in known if slug.startswith(prefix)]
    if len(matches) == 1:
        return str(matches[0])
    if matches:
        fail(f"{prefix!r} matches several agents: {', '.join(matches)}. Write more of it.")
    fail(f"There is no agent {prefix!r}. The agents here: {', '.join(known) or 'none'}.")


def chunks(items: list[str], size: int) -> Iterator[list[str]]:
    """Yield `items` in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
