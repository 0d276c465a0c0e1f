"""ASGI middleware that runs before any route: clients behind proxies, allowed host names, pages of other origins, HEAD,
types of bodies.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from fastapi.middleware.cors import CORSMiddleware

from core.addresses import Network, is_within
from core.crypto import was_issued_here
from core.settings import Settings
from web.problems import problem

App = Callable[..., Awaitable[None]]

UPLOADS = "/v1/attachments"
"""whose bodies are files"""
_WITH_FILES = {"/openai/v1/chat/completions", "/openai/v1/responses"}
"""whose bodies may hold files in base64"""
_WITH_BODY = {"POST", "PUT", "PATCH", "DELETE"}


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def caller_address(peer: str, forwarded: Iterable[str], proxies: Sequence[Network]) -> str:
    """Return the address that a request comes from: the last X-Forwarded-For entry that a trusted proxy vouches for.

    Each proxy appends the address of its client, so the list is read from its end, for as long as the address read
    before is a trusted proxy's. Entries further left may be forged.
    """
    address = peer
    for entry in reversed([part.strip() for value in forwarded for part in value.split(",")]):
        if not is_within(address, proxies):
            break
        found = _without_port(entry)
        if found is None:
            break
        address = found
    return address


def _without_port(entry: str) -> str | None:
    """Return the address in an entry such as `1.2.3.4`, `1.2.3.4:567`, `2a00::1` or `[2a00::1]:567`, or None."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        return str(ipaddress.ip_address(entry))
    except ValueError:
        return None


class TrustProxies:
    """Takes the client's address and scheme from X-Forwarded headers, if a trusted proxy sent the request."""

    def __init__(self, app: App, proxies: Sequence[Network]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        if self._proxies and client and is_within(client[0], self._proxies):
            address = caller_address(client[0], _values(scope, b"x-forwarded-for"), self._proxies)
            if address != client[0]:
                scope["client"] = (address, 0)
            scheme = (_values(scope, b"x-forwarded-proto") or [""])[-1].rpartition(",")[2].strip().lower()
            if scheme in {"http", "https"}:
                scope["scheme"] = scheme
        await self._app(scope, receive, send)


def _values(scope: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_known_host(header: str, allowed: Sequence[str]) -> bool:
    """Whether a Host header names one of `allowed`; `*.example.com` matches every name below `example.com`."""
    host = header.strip().lower()
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    host = host.removesuffix(".")
    return any(
        host.endswith(name[1:]) and len(host) >= len(name) if name.startswith("*.") else host == name
        for name in (one.lower() for one in allowed)
    )


class KnownHosts:
    """Refuses requests to host names that are not allowed. Health is exempt: load balancers request it by address."""

    def __init__(self, app: App, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._allowed and scope["type"] in {"http", "websocket"} and not scope["path"].startswith("/health"):
            hosts = _values(scope, b"host")
            if len(hosts) != 1 or not is_known_host(hosts[0], self._allowed):
                refusal = problem(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "This server does not answer to the name in the Host header (its setting allowed_hosts).",
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


# ── pages of other origins ───────────────────────────────────────────────────────────────────────────────────────────


def is_for_visitors(scope: Any) -> bool:
    """Whether a request is for visitors only: its path, or `visitor` in the query of Socket.IO, says so."""
    path: str = scope["path"]
    if path.startswith("/socket.io/"):
        return "visitor" in parse_qs(scope["query_string"].decode("latin-1"))
    return path.startswith("/v1/visitor")


class CrossOrigin:
    """Lets browsers read answers in pages of other origins: in those of `allowed`, and in all where the request is for
    visitors. There the publishable key names the origins, which the request that a browser sends ahead does not tell.
    """

    def __init__(self, app: App, allowed: Sequence[str]) -> None:
        self._others = _cross_origin(app, allowed) if allowed else app
        self._visitors = _cross_origin(app, ["*"])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_visitors = scope["type"] == "http" and is_for_visitors(scope) and _values(scope, b"origin")
        await (self._visitors if is_visitors else self._others)(scope, receive, send)


def _cross_origin(app: App, origins: Sequence[str]) -> App:
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"])


# ── HEAD, and kinds of bodies ────────────────────────────────────────────────────────────────────────────────────────


class AnswerHead:
    """Answers HEAD like GET, without the body. A streamed response ends after its headers."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def only_head(message: Any) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        asked = scope | {"method": "GET"}
        try:
            await self._app(asked, receive, only_head)
        finally:
            scope["route"] = asked.get("route")  # for the metrics


def body_limit(config: Settings) -> Callable[[Any], int]:
    """Return the function that gives the maximum size of a request's body. JSON with files in it is held in memory
    before its key is looked up, so only a key that was issued here may send so much.
    """
    pepper = config.pepper
    with_files = config.max_body_bytes + config.max_attachments_bytes * 4 // 3

    def most(scope: Any) -> int:
        if scope["type"] == "http" and scope["path"] == UPLOADS:
            return config.max_attachment_bytes
        if scope["type"] == "http" and scope["path"] in _WITH_FILES:
            kind, _, key = "".join(_values(scope, b"authorization")).partition(" ")
            if kind.lower() == "bearer" and was_issued_here(key.strip(), pepper):
                return max(config.max_body_bytes, with_files)
        return config.max_body_bytes

    return most


class JsonBodies:
    """Refuses requests to the API whose headers declare a body that is not JSON, or is compressed."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (
            scope["type"] == "http"
            and scope["method"] in _WITH_BODY
            and scope["path"].startswith(("/v1/", "/openai/v1/"))
            and scope["path"] != UPLOADS
        ):
            headers = dict(scope["headers"])
            has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
            refusal = _unsupported(headers) if has_body else None
            if refusal is not None:
                await problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, *refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _unsupported(headers: dict[bytes, bytes]) -> tuple[str, dict[str, str]] | None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        return "The body must be JSON: send it with the header Content-Type: application/json.", {
            "accept": "application/json"
        }
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return "The body must not be compressed: send it without Content-Encoding.", {"accept-encoding": "identity"}
    return None
