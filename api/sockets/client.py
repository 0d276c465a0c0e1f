"""One client of Socket.IO, however it is connected: what is written to it, and when it is closed."""

import asyncio
from collections.abc import Sequence
from typing import Any

from engineio.packet import NOOP, Packet

# A client that polls gets at most what is queued, and the Python client reads at most 16 packets of one answer.
_PORTION = 10
_MOST_QUEUED = 100


class Client:
    """An Engine.IO connection, which the namespaces of a client share."""

    def __init__(self, engine: Any, sid: str, patience: float) -> None:
        """`engine` is the Engine.IO server; `patience`, in seconds, is for a client that takes nothing."""
        self.connections: set[object] = set()
        """the namespaces that it is connected to"""
        self.has_valid_key = False
        self._engine = engine
        self.sid = sid
        self._patience = patience
        self._turn = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether messages can reach it."""
        socket = self._socket
        return socket is not None and not socket.closing and not socket.closed

    @property
    def is_flooding(self) -> bool:
        """Whether it has more answers to come than it takes: it sends, and does not read."""
        return self._socket is not None and self._socket.queue.qsize() > _MOST_QUEUED

    @property
    def _socket(self) -> Any:
        return self._engine.sockets.get(self.sid)

    async def write(self, packets: Sequence[str]) -> None:
        """Write packets in order, and wait until the client has taken them: Engine.IO's own queue has no bound.

        Raises:
            OSError: it is gone.
            TimeoutError: it takes nothing.
        """
        for begin in range(0, len(packets), _PORTION):
            async with self._turn, asyncio.timeout(self._patience):
                if not self.is_open:
                    raise ConnectionResetError("the client is gone")
                for packet in packets[begin : begin + _PORTION]:
                    await self._engine.send(self.sid, packet)
                await self._socket.queue.join()

    async def tell(self, packet: str) -> None:
        """Write a packet without waiting for the client: an error that ends or refuses something."""
        await self._engine.send(self.sid, packet)

    def end_poll(self) -> None:
        """Answer a poll that is under way: Engine.IO would keep it until it times out."""
        if (socket := self._socket) is not None and not socket.upgraded:
            socket.queue.put_nowait(Packet(NOOP))

    async def close(self) -> None:
        """Close the connection, whether or not the client reads. Idempotent. Official clients connect again."""
        socket = self._socket
        if socket is not None and not socket.closed:
            await socket.close(wait=False)
            await socket.queue.put(None)  # ends the writer: Engine.IO would wait for the client to close
