"""The Socket.IO server of an API process.

It reads the feed of events of its own process, like the streams of server-sent events, so any number of processes serve
and none needs another. Nothing that a client sends is logged as an error.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import socketio
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from socketio.exceptions import ConnectionRefusedError as Refused

from api.edge import is_for_visitors
from api.routes.visitors import VISITOR
from api.sockets.client import Client
from api.sockets.connection import Connection, ensure_room
from api.sockets.rooms import (
    OF_ANYBODY,
    OF_CONVERSATIONS,
    Auth,
    Join,
    Room,
    Subscription,
    events_room,
    own_room,
    parsed,
    session_room,
    visitor_room,
)
from core.errors import NotAuthenticated, NotPermitted, RotaError, TooManyRequests
from core.logging import get_logger
from core.settings import Settings
from web.auth import Principal
from web.problems import brief, problem
from web.rate_limits import limits
from web.streams import EventStream
from web.visitors import VisitorCaller, is_visitor_token

log = get_logger(__name__)

PATH = "/socket.io"
_LARGEST = 20_000  # bytes of what a client sends at once: it only connects and joins
_BINARY = ("5", "6")  # events with attachments, of which there may be any number

# The libraries log each client that does not keep to the protocol, with a traceback.
_SILENT = logging.getLogger("rota.socketio")
_SILENT.setLevel(logging.CRITICAL + 1)

_Verb = Callable[["SocketServer", Connection, Any], Awaitable[dict[str, Any]]]


class SocketServer:
    """Socket.IO as an ASGI application."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._io = socketio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # one event of a client after the other
            cors_allowed_origins=[],  # origins are checked here, and the API's own middleware adds the headers
            max_http_buffer_size=_LARGEST,
            http_compression=False,
            logger=_SILENT,
            engineio_logger=_SILENT,
        )
        self._clients: dict[str, Client] = {}
        self._connections: dict[str, Connection] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._engine = self._io.eio
        self._protocol = dict(self._engine.handlers)
        self._engine.on("connect", self._on_open)
        self._engine.on("message", self._on_packet)
        self._engine.on("disconnect", self._on_close)
        for namespace, verbs in _VERBS.items():
            self._io.on("connect", self._connecting(namespace), namespace=namespace)
            self._io.on("disconnect", self._on_disconnect, namespace=namespace)
            for name, verb in verbs.items():
                self._io.on(name, self._answering(verb), namespace=namespace)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sid = parse_qs(scope["query_string"].decode("latin-1")).get("sid", [""])[0]
        if (refusal := self._refusal(scope, sid)) is not None:
            await problem(*refusal)(scope, receive, send)
            return
        try:
            await self._engine.handle_request(scope, receive, send)
        except Exception as error:  # noqa: BLE001  Engine.IO raises whatever a malformed packet leads to
            log.info("a Socket.IO connection broke off", reason=repr(error))
        finally:
            if scope["type"] == "websocket":
                await self._close_those_of(scope, sid)

    async def _close_those_of(self, scope: Any, sid: str) -> None:
        """Close the clients whose websocket this was: Engine.IO leaves them open if a packet was malformed."""
        opened = [one for one, environ in self._io.environ.items() if environ["asgi.scope"] is scope]
        for one in {sid, *opened}:
            if (client := self._clients.get(one)) is not None:
                await client.close()

    def _refusal(self, scope: Any, sid: str) -> tuple[HTTPStatus, str] | None:
        """Return why a request is not taken, or None."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        # The publishable key of a visitor names the origins: they are checked with the token.
        if not is_for_visitors(scope) and not self._may_come_from(headers.get(b"origin"), headers.get(b"host")):
            return HTTPStatus.FORBIDDEN, "Pages of this origin may not use the API (its setting allowed_origins)."
        announced = headers.get(b"content-length", "0")
        if announced.isdigit() and int(announced) > _LARGEST:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A message has at most {_LARGEST} bytes. Send less."
        if sid not in self._clients:  # counted until a valid key vouches for the client
            try:
                limits().take_stranger(Request({**scope, "type": "http"}))
            except TooManyRequests as error:
                return HTTPStatus.TOO_MANY_REQUESTS, error.message
            if sid:
                return HTTPStatus.BAD_REQUEST, "This Socket.IO session has ended. Connect again."
        return None

    def _may_come_from(self, origin: str | None, host: str | None) -> bool:
        """Whether pages of an origin may connect: the API's own, and those of the setting. Only browsers name one."""
        allowed = self._config.allowed_origins
        return origin is None or origin in allowed or "*" in allowed or origin.partition("://")[2] == host

    # ── Engine.IO ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _on_open(self, sid: str, environ: dict[str, Any]) -> None:
        await self._protocol["connect"](sid, environ)
        self._clients[sid] = Client(self._engine, sid, self._config.send_timeout)
        self._close_if_unused_later(sid)

    async def _on_packet(self, sid: str, data: Any) -> None:
        client = self._clients.get(sid)
        if client is None or client.is_flooding or not isinstance(data, str) or data.startswith(_BINARY):
            if client is not None:
                await client.close()
            return
        await self._protocol["message"](sid, data)

    async def _on_close(self, sid: str, reason: str) -> None:
        await self._protocol["disconnect"](sid, reason)
        if (client := self._clients.pop(sid, None)) is not None:
            client.end_poll()

    def _close_if_unused_later(self, sid: str) -> None:
        """Give a client time to connect to a namespace, with its key."""
        asyncio.get_running_loop().call_later(self._config.head_timeout, self._close_if_unused, sid)

    def _close_if_unused(self, sid: str) -> None:
        client = self._clients.get(sid)
        if client is not None and not client.connections:
            closing = asyncio.ensure_future(client.close())
            self._background.add(closing)
            closing.add_done_callback(self._background.discard)

    # ── namespaces ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _connecting(self, namespace: str) -> Callable[..., Awaitable[None]]:
        async def on_connect(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
            try:
                await self._connect(namespace, sid, environ, parsed(Auth, auth))
            except RotaError as error:
                raise Refused(error.message, brief(error)) from error
            except Exception as error:
                log.exception("a Socket.IO client could not connect")
                raise Refused("Something went wrong on our side; it was logged.") from error

        return on_connect

    async def _connect(self, namespace: str, sid: str, environ: dict[str, Any], auth: Auth) -> None:
        eio_sid = self._io.manager.eio_sid_from_sid(sid, namespace)
        client, scope = self._clients[eio_sid], environ["asgi.scope"]
        request = _request(scope, auth.token)
        is_visitor = is_visitor_token(auth.token)
        if is_for_visitors(scope) and not is_visitor:
            raise NotPermitted("Connections with `visitor` in their query are for visitors' tokens only.")
        caller: Principal | VisitorCaller = await (VISITOR if is_visitor else OF_ANYBODY)(request)
        if not client.has_valid_key:
            client.has_valid_key = True
            limits().give_back_stranger(request)
        ensure_room(caller)
        if isinstance(caller, VisitorCaller):
            rooms = await _rooms_of_visitor(caller, namespace, auth)
        else:
            rooms = await _rooms_of_key(caller, request, namespace, auth)
        if not client.is_open:
            raise NotAuthenticated("The connection was closed.")

        async def disconnect() -> None:
            await self._io.disconnect(sid, namespace=namespace)

        # From here on nothing waits, so Socket.IO sends its own answer before a room begins.
        connection = Connection(client, namespace, request, disconnect)
        try:
            for room, of_whom in rooms:
                connection.enter(room, of_whom)
        except RotaError:
            connection.leave_all()
            raise
        self._connections[sid] = connection
        client.connections.add(connection)
        EventStream.opened(connection)

    async def _on_disconnect(self, sid: str, _reason: str) -> None:
        if (connection := self._connections.pop(sid, None)) is not None:
            connection.leave_all()
            EventStream.closed(connection)
            client = connection.client
            client.connections.discard(connection)
            self._close_if_unused_later(client.sid)

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answering(self, verb: _Verb) -> Callable[..., Awaitable[dict[str, Any]]]:
        """Return a handler that answers a client's event, by an acknowledgement if the client wants one."""

        async def answer(sid: str, data: Any = None, *_: Any) -> dict[str, Any]:
            connection = self._connections[sid]
            try:
                return {"ok": True} | await verb(self, connection, data)
            except RotaError as error:
                await connection.refuse(error)
                return {"ok": False, "error": brief(error)}
            except Exception:
                log.exception("an event of a Socket.IO client failed")
                return {"ok": False, "error": {"detail": "Something went wrong on our side; it was logged."}}

        return answer

    async def join(self, connection: Connection, data: Any) -> dict[str, Any]:
        """Join a session."""
        wanted = parsed(Join, data)
        if connection.is_visitor:
            raise NotPermitted("A visitor follows its own conversations: subscribe with {conversation: id} alone.")
        caller = await OF_CONVERSATIONS(connection.request)
        room = await run_in_threadpool(session_room, caller, wanted, connection.namespace)
        connection.enter(room, caller)
        return {"room": room.shown}

    async def leave(self, connection: Connection, data: Any) -> dict[str, Any]:
        """Leave a session."""
        wanted = parsed(Join, data)
        connection.leave(f"session:{wanted.sessionId}")
        return {"room": wanted.sessionId}

    async def subscribe(self, connection: Connection, data: Any) -> dict[str, Any]:
        """Follow events under their own names."""
        wanted = parsed(Subscription, data)
        if connection.is_visitor:
            visitor = await VISITOR(connection.request)
            connection.enter(await run_in_threadpool(visitor_room, visitor, wanted), visitor)
        else:
            caller = await wanted.needs(connection.request)
            connection.enter(await run_in_threadpool(events_room, caller, wanted), caller)
        return {"room": wanted.room}

    async def unsubscribe(self, connection: Connection, data: Any) -> dict[str, Any]:
        """Follow events no more."""
        wanted = parsed(Subscription, data)
        connection.leave(f"events:{wanted.room}")
        return {"room": wanted.room}


_VERBS: dict[str, dict[str, _Verb]] = {
    "/": {"join_session": SocketServer.join, "leave_session": SocketServer.leave},
    "/events": {
        "agent:subscribe": SocketServer.join,
        "agent:unsubscribe": SocketServer.leave,
        "subscribe": SocketServer.subscribe,
        "unsubscribe": SocketServer.unsubscribe,
    },
}


_Rooms = list[tuple[Room[Any], Any]]


async def _rooms_of_key(caller: Principal, request: Request, namespace: str, auth: Auth) -> _Rooms:
    """Return the rooms in which a connection with an API key begins, each with its caller."""
    rooms: _Rooms = [(own_room(namespace, auth.after if namespace == "/" else None), caller)]
    if (wanted := _subscription(namespace, auth)) is not None:
        allowed = await wanted.needs(request)
        rooms.append((await run_in_threadpool(events_room, allowed, wanted), allowed))
    return rooms


async def _rooms_of_visitor(caller: VisitorCaller, namespace: str, auth: Auth) -> _Rooms:
    """Return the rooms in which a visitor's connection begins, each with its caller."""
    rooms: _Rooms = [(visitor_room(caller, None), caller)]
    if namespace != "/" and auth.subscribe is not None:
        rooms.append((await run_in_threadpool(visitor_room, caller, auth.subscribe), caller))
    return rooms


def _subscription(namespace: str, auth: Auth) -> Subscription | None:
    """Return the subscription that begins with the connection."""
    if namespace == "/":
        return None
    return auth.subscribe or (Subscription(after=auth.after) if auth.after else None)


def _request(scope: Any, token: str) -> Request:
    """Return a request as if the client's key had come in its header."""
    if not token:
        raise NotAuthenticated("An API key is needed: connect with `auth: {token: …}`.")
    origin = [(name, value) for name, value in scope["headers"] if name == b"origin"]
    headers = [(b"authorization", f"Bearer {token}".encode()), *origin]
    return Request({"type": "http", "client": scope.get("client"), "headers": headers, "path_params": {}})
