"""What both clients need: where requests go, and how a description becomes a method."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import httpx2

from rota_client import streams
from rota_client.calls import Call
from rota_client.errors import NotConfigured
from rota_client.streams import Following
from rota_client.version import VERSION


class Connection:
    """Where a client sends its requests, how often it tries, and how long it waits for a response."""

    def __init__(self, url: str | None, key: str | None, tries: int, timeout: float) -> None:
        if url is None and key is None:
            url, key = os.environ.get("ROTA_API_URL"), os.environ.get("ROTA_API_KEY")
        if not url or not key:
            raise NotConfigured
        self.url = url
        self.tries = tries
        self.timeout = timeout
        self.headers = {"authorization": f"Bearer {key}", "user-agent": f"rota-client/{VERSION}"}

    def request(self, call: Call[Any]) -> dict[str, Any]:
        """Return a call as arguments of `httpx2.Client.request`."""
        return {
            "method": call.method,
            "url": call.path,
            "params": dict(call.params),
            "json": call.body,
            "content": call.content,
            "headers": dict(call.headers),
            "timeout": httpx2.Timeout(self.timeout, read=self.timeout + call.waits),
        }

    def stream(self, following: Following) -> dict[str, Any]:
        """Return the request for what comes next of a stream, as arguments of `httpx2.Client.stream`."""
        return following.request() | {"timeout": httpx2.Timeout(self.timeout, read=streams.SILENCE)}


def as_method(method: Callable[..., Any], described: Callable[..., Any], *, skip: int = 0) -> None:
    """Give a method the signature of what it is described by, without its first `skip` parameters."""
    signature = inspect.signature(described)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [own, *list(signature.parameters.values())[skip:]]
    functools.update_wrapper(method, described)
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
