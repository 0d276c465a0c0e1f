"""The command line's client of the API."""

import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import typer

from embedded.state import find_running

_RETRIED_STATUSES = {429, 503}
_TRIES = 5


class Api:
    """A connection to the API that ROTA_API_URL and ROTA_API_KEY name, or to the `rota up` that runs on this host."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        try:
            self._http = httpx2.Client(
                base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False
            )
        except (httpx2.InvalidURL, ValueError) as error:
            fail(f"ROTA_API_URL or ROTA_API_KEY is not valid: {error}")
        weakref.finalize(self, self._http.close)

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
        wanted = {name: value for name, value in query.items() if value not in (None, [], ())}
        return self._send("GET", path, params=wanted)

    def look(self, path: str, **query: Any) -> Any:
        """Return the answer to a GET, or None if the API refuses or does not answer. For details that a command can do
        without.
        """
        try:
            answer = self._http.get(path, params=query)
            return answer.json() if answer.is_success else None
        except (httpx2.HTTPError, ValueError):
            return None

    def text(self, path: str, **query: Any) -> str:
        """Return the answer to a GET as text."""
        return str(self._send("GET", path, params=query, as_text=True))

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Return the answer to a POST; with an idempotency key the request is safe to send again."""
        return self._send("POST", path, json=body, headers={"idempotency-key": key} if key else {})

    def put(self, path: str, body: Any) -> Any:
        """Return the answer to a PUT."""
        return self._send("PUT", path, json=body)

    def patch(self, path: str, body: Any) -> Any:
        """Return the answer to a PATCH."""
        return self._send("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """Send a DELETE."""
        self._send("DELETE", path)

    def _send(self, method: str, path: str, **more: Any) -> Any:
        as_text = more.pop("as_text", False)
        is_safe = method == "GET" or bool(more.get("headers"))
        for attempt in range(_TRIES):
            is_last = attempt == _TRIES - 1
            try:
                answer = self._http.request(method, path, **more)
            except httpx2.HTTPError as error:
                if is_last or not is_safe:
                    fail(f"{self.url} does not answer ({type(error).__name__}). Is Rota running? See `rota doctor`.")
            else:
                if answer.status_code not in _RETRIED_STATUSES or is_last:
                    return answer.text if as_text and answer.is_success else _content(answer)
            time.sleep(0.2 * 2**attempt)
        raise AssertionError("unreachable: the last try returns or leaves")


def _content(answer: httpx2.Response) -> Any:
    if answer.is_success:
        try:
            return answer.json() if answer.content else None
        except ValueError:
            fail(f"The response of {answer.url} is not JSON, so it is not Rota's API. Check ROTA_API_URL.")
    try:
        fail(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        fail(f"The API returned HTTP status {answer.status_code}.")


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
