"""Responses of server-sent events that go on until their source ends, the client leaves or the server stops."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from starlette.responses import Response

from core.errors import RotaError
from core.logging import get_logger

log = get_logger(__name__)

Write = Callable[[bytes], Awaitable[None]]
"""sends bytes, and waits while the client is slow to read"""

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b":\n\n"
"""a comment, which clients ignore: proxies and clients see that the connection is alive"""


class Stream(Protocol):
    """Something that goes on until its client leaves or the server stops."""

    def cancel(self) -> object:
        """End it."""


class EventStream(Response):
    """A stream of server-sent events (WHATWG HTML, section 9.2) that `follow` writes.

    On current ASGI servers a response finds out that its client has left only when sending fails, so a quiet stream
    would never end: this one also waits for the client's disconnect.
    """

    media_type = MEDIA_TYPE
    _open: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, set[Stream]]] = WeakKeyDictionary()

    def __init__(self, follow: Callable[[Write], Awaitable[None]], headers: Mapping[str, str] | None = None) -> None:
        self._follow = follow
        self.background = None
        self.status_code = 200
        # No proxy may buffer, transform or cache what is to arrive as it happens.
        self.init_headers({"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"} | dict(headers or {}))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  ASGI passes it
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def write(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        following = asyncio.create_task(self._run(write))
        leaving = asyncio.create_task(_disconnected(receive))
        self.opened(following)
        try:
            await asyncio.wait({following, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.closed(following)
            leaving.cancel()
            while not following.done():  # whatever it waits for must not make it outlive its client
                following.cancel()
                await asyncio.wait({following}, timeout=1)
        with contextlib.suppress(OSError):  # the client has left
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, write: Write) -> None:
        try:
            await self._follow(write)
        except (RotaError, OSError) as error:  # the key was revoked, the database is away, the client left
            log.info("a stream ended", reason=str(error))
        except Exception:
            log.exception("a stream failed")

    @classmethod
    def opened(cls, stream: Stream) -> None:
        """End this stream, too, when the server stops."""
        cls._open.setdefault(asyncio.get_running_loop(), set()).add(stream)

    @classmethod
    def closed(cls, stream: Stream) -> None:
        """Forget a stream: it has ended. Idempotent."""
        cls._open.get(asyncio.get_running_loop(), set()).discard(stream)

    @classmethod
    def end_all(cls, loop: asyncio.AbstractEventLoop) -> None:
        """End all streams on an event loop: the server stops. Their clients connect again, elsewhere or later."""
        for stream in cls._open.get(loop, set()):
            stream.cancel()


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
