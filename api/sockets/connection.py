"""A client in one namespace, and the rooms that it is in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request

from api.sockets.client import Client
from api.sockets.packets import Packets, packet
from api.sockets.rooms import Room
from core.errors import NotAuthenticated, NotPermitted, RotaError, TooManyRequests
from core.logging import get_logger
from web.feed import feed
from web.following import Follower, Reader
from web.problems import brief
from web.streams import HEARTBEAT
from web.visitors import VisitorCaller, is_visitor_token

log = get_logger(__name__)

_MOST_ROOMS = 50
_Reader = TypeVar("_Reader", bound=Reader)


class Connection:
    """A client in one namespace. Each room that it is in is a stream of its own, which ends with the connection."""

    def __init__(
        self, client: Client, namespace: str, request: Request, disconnect: Callable[[], Awaitable[None]]
    ) -> None:
        """`request` holds the client's key; `disconnect` ends the connection in this namespace."""
        self.client = client
        self.namespace = namespace
        self.request = request
        self.is_visitor = is_visitor_token(request.headers.get("authorization", "").removeprefix("Bearer "))
        self._disconnect = disconnect
        self._rooms: dict[str, asyncio.Task[None]] = {}

    def enter(self, room: Room[_Reader], caller: _Reader) -> None:
        """Begin to follow a room. If the client is in it already, it begins anew.

        Raises:
            TooManyRequests: the organisation has as many streams as it may, or the connection as many rooms.
        """
        if room.name not in self._rooms:
            if len(self._rooms) >= _MOST_ROOMS:
                raise TooManyRequests(f"A connection can be in {_MOST_ROOMS} rooms. Leave some.")
            ensure_room(caller)
        packets = Packets(self.namespace, room.shown, room.words)
        follower = Follower(self.request, room.needs, caller, room.who, room.after, packets)
        self.leave(room.name)
        self._rooms[room.name] = asyncio.create_task(self._follow(room.name, follower))

    def leave(self, room: str) -> None:
        """Follow a room no more. Idempotent."""
        if (following := self._rooms.pop(room, None)) is not None and following is not asyncio.current_task():
            following.cancel()

    def leave_all(self) -> None:
        """Follow nothing more: the connection has ended."""
        for room in [*self._rooms]:
            self.leave(room)

    def cancel(self) -> None:
        """End the connection because the server stops: the client connects again, elsewhere or later."""
        self._closing = asyncio.create_task(self.client.close())

    async def refuse(self, error: RotaError) -> None:
        """Tell the client of an error, by the name that clients of NestJS expect."""
        told = {"status": "error", "message": error.message, "error": brief(error)}
        await self.client.tell(packet(self.namespace, "exception", told))

    async def _follow(self, name: str, follower: Follower[Any]) -> None:
        try:
            await follower.follow(self._write)
        except (NotAuthenticated, NotPermitted) as error:
            await self._end(error)
        except (RotaError, OSError) as error:  # the database is away, the client is gone or reads nothing
            log.info("a Socket.IO stream ended", reason=str(error))
            await self.client.close()
        except Exception:
            log.exception("a Socket.IO stream failed")
            await self.client.close()
        finally:
            if self._rooms.get(name) is asyncio.current_task():
                del self._rooms[name]

    async def _write(self, chunk: bytes) -> None:
        if chunk != HEARTBEAT:  # Engine.IO has its own
            await self.client.write([line for line in chunk.decode().split("\n") if line])

    async def _end(self, error: RotaError) -> None:
        """Tell the client why, and disconnect it for good: official clients do not connect again by themselves."""
        await self.refuse(error)
        await self._disconnect()


def ensure_room(caller: Reader) -> None:
    """Raises TooManyRequests: the caller's organisation, or the visitor, has as many streams as it may."""
    if isinstance(caller, VisitorCaller):
        feed.ensure_room_for_visitor(caller.org_id, caller.id)
    else:
        feed.ensure_room(caller.org_id)
