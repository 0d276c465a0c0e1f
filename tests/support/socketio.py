"""A client of Socket.IO that keeps what it hears: python-socketio's, in threads."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import socketio

from tests.support.servers import wait_until

Heard = tuple[str, Any]


class Caller:
    """A connected client in one namespace."""

    def __init__(self, client: socketio.Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.heard: list[Heard] = []
        self.reasons: list[str] = []
        self._lock = threading.Lock()
        client.on("*", self._keep, namespace=namespace)
        client.on("disconnect", self._gone, namespace=namespace)

    def _keep(self, name: str, data: Any = None) -> None:
        with self._lock:
            self.heard.append((name, data))

    def _gone(self, reason: str) -> None:
        self.reasons.append(reason)

    def call(self, name: str, data: Any = None) -> Any:
        """The acknowledgement of an event."""
        return self.client.call(name, data, namespace=self.namespace, timeout=20)

    def named(self, name: str) -> list[Any]:
        """What was heard under a name."""
        with self._lock:
            return [data for heard, data in self.heard if heard == name]

    def until(self, name: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """What is told under a name, once it is."""
        return wait_until(
            lambda: next((data for data in self.named(name) if fits(data)), None), what=f"{name}: {self.heard}"
        )

    def until_number(self, name: str, number: int) -> None:
        """Wait until so many messages of a name were heard."""
        wait_until(lambda: len(self.named(name)) >= number, what=f"{number} of {name}")


@contextlib.contextmanager
def connected(
    url: str, key: str | None, namespace: str = "/events", *, transports: list[str] | None = None, **auth: Any
) -> Iterator[Caller]:
    """A client that is connected, with a key and whatever else it says to begin with."""
    client = socketio.Client(reconnection=False)
    caller = Caller(client, namespace)
    given = ({"token": key} if key else {}) | auth
    try:
        client.connect(url, auth=given, namespaces=[namespace], transports=transports or ["websocket"], wait_timeout=20)
        yield caller
    finally:
        client.disconnect()
        client.eio.http and client.eio.http.close()
