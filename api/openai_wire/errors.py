"""Our problem documents as errors of OpenAI's API."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

PREFIX = "/openai/v1"
_PROBLEM = b"application/problem+json"
_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error",
}  # fmt: skip


def error_of(problem: dict[str, Any]) -> dict[str, Any]:
    """Return a problem document as an error of OpenAI's API."""
    status = int(problem["status"])
    kind = _TYPES.get(status) or (
        "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    )
    field = next((one["field"] for one in problem.get("errors", [])), None)
    code = str(problem["type"]).rpartition(":")[2].replace("-", "_")
    return {"error": {"message": problem["detail"], "type": kind, "param": field, "code": code}}


class OpenAIErrors:
    """ASGI middleware: under OpenAI's prefix, every problem document is answered as an error of OpenAI's API."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{PREFIX}/"):
            await self._app(scope, receive, send)
            return
        begun: list[Any] = []

        async def translating(message: Any) -> None:
            if message["type"] == "http.response.start" and dict(message["headers"]).get(b"content-type") == _PROBLEM:
                begun.append(message)
            elif begun and message["body"]:
                await _send_error(begun.pop(), message["body"], send)
            elif begun:  # refused before HEAD was answered as GET
                await send(begun.pop())
                await send(message)
            else:
                await send(message)

        await self._app(scope, receive, translating)


async def _send_error(start: Any, body: bytes, send: Any) -> None:
    content = json.dumps(error_of(json.loads(body)), ensure_ascii=False).encode()
    replaced = {b"content-type": b"application/json", b"content-length": str(len(content)).encode()}
    headers = [(name, replaced.get(name, value)) for name, value in start["headers"]]
    await send(start | {"headers": headers})
    await send({"type": "http.response.body", "body": content})
