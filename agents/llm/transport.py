"""The HTTP transport under both SDKs: httpx2's own, on sockets whose waits an interrupt can end."""

import contextlib
import functools
import ssl
import urllib.request
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import httpcore2
import httpx2

from agents.interrupt import attached_interrupt

# One connection for each task in flight; idle ones are kept for the next turn of the same task.
MAX_CONNECTIONS = 1_000
_KEPT_ALIVE = 200
_CONNECT_SECONDS = 5.0
_KEEPALIVE_SECONDS = 30.0


def make_client(headers: dict[str, str]) -> httpx2.Client:
    """The HTTP client that an SDK is given: proxies from the environment, interruptible; calls say their time-outs."""
    return httpx2.Client(
        transport=None if _has_proxy() else InterruptibleTransport(),
        headers=headers,
        follow_redirects=False,
    )


def call_timeout(whole: timedelta) -> httpx2.Timeout:
    """Time-outs of one call: at most five seconds to connect, and no silence longer than the call may take.

    A server that keeps dribbling is ended by the call's interrupt, which watches the whole.
    """
    seconds = whole.total_seconds()
    return httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))


def _has_proxy() -> bool:
    # A proxied client builds its own transports; its calls end by time-out instead of by interrupt.
    return bool(set(urllib.request.getproxies()) & {"http", "https", "all"})


@functools.cache
def _tls() -> ssl.SSLContext:
    """One context for all: reading the certificates takes longer than a call."""
    return ssl.create_default_context()


class InterruptibleTransport(httpx2.HTTPTransport):
    """httpx2's transport with our own network backend under its connection pool."""

    def __init__(self) -> None:
        super().__init__(verify=_tls())
        # httpx2 offers no argument for the backend; the pool is the one attribute its transport stands on.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=_tls(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=_KEPT_ALIVE,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=_Backend(),
        )


class _Backend(httpcore2.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with self._watched():
            return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._watched():
            self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _watched(self) -> AbstractContextManager[None]:
        interrupt = attached_interrupt()
        return interrupt.watching(self.get_extra_info("socket")) if interrupt else contextlib.nullcontext()
