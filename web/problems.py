"""Error handlers that turn every error into a problem document (RFC 9457)."""

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from core.errors import (
    BadRequest,
    Conflict,
    InvalidInput,
    Misconfigured,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PreconditionRequired,
    RotaError,
    TooManyRequests,
    Unavailable,
)
from core.ids import new_id
from core.logging import get_logger
from core.text import storable
from web.routing import allowed_methods, path_without_slash

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_STATUS: dict[type[RotaError], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotAuthenticated: HTTPStatus.UNAUTHORIZED,
    NotPermitted: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    PreconditionRequired: HTTPStatus.PRECONDITION_REQUIRED,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Misconfigured: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_RETRY_AFTER_SECONDS = {HTTPStatus.SERVICE_UNAVAILABLE: "2", HTTPStatus.TOO_MANY_REQUESTS: "1"}

_TOO_LARGE = (
    "The body is larger than this server takes (its settings max_body_bytes and max_attachment_bytes). Send less."
)

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:rota:problem:not-found"]},
        "title": {"type": "string", "examples": ["Not Found"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "description": "the error and its remedy"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "path of the field, separated by dots"},
                    "problem": {"type": "string", "description": "the error"},
                },
            },
        },
        "reference": {
            "type": "string",
            "format": "uuid",
            "description": "identifies an internal error in the server's log",
        },
        "retry_after": {"type": "integer", "description": "seconds to wait before the next request"},
    },
}


def describes(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problem documents that a route may answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}},
        }
        for status in statuses
    }


def problem(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a response with a problem document."""
    body = {
        "type": f"urn:rota:problem:{status.phrase.lower().replace(' ', '-')}",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
    } | more
    # The detail may quote the caller's input, which need not be valid UTF-8.
    safe = storable(json.loads(json.dumps(body, default=str)))
    return JSONResponse(safe, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Install the handlers that answer every error with a problem document."""
    app.add_exception_handler(RotaError, _on_rota_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(DataError, _on_data_error)
    app.add_exception_handler(Exception, _on_fault)


def status_of(error: RotaError) -> HTTPStatus:
    """Return the status of an error."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def brief(error: RotaError) -> dict[str, Any]:
    """Return what a client is told of an error where there is no response to a request."""
    status = status_of(error)
    return {"status": int(status), "title": status.phrase, "detail": error.message}


async def _on_rota_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RotaError):
        raise error
    status = status_of(error)
    wait = error.details.get("retry_after") or _RETRY_AFTER_SECONDS.get(status)
    headers = {"retry-after": str(wait)} if wait else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return problem(status, error.message, headers, **error.details)


# Field names are the caller's input: the answer limits their number and length.
_LONGEST_FIELD, _MOST_ERRORS = 200, 50


async def _on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {
            "field": (".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]))[:_LONGEST_FIELD],
            "problem": _in_words(one),
        }
        for one in error.errors()[:_MOST_ERRORS]
    ]
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return problem(HTTPStatus.BAD_REQUEST, "The body is not valid JSON.", errors=errors)
    detail = "; ".join(f"{one['field']}: {one['problem']}" for one in errors[:5])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _in_words(error: dict[str, Any]) -> str:
    """Return what is wrong with a value. If a text's length is checked after another validator, pydantic's message
    speaks of items; here it says characters.
    """
    message: str = error["msg"].removeprefix("Value error, ")
    if isinstance(error.get("input"), str) and error["type"] in {"too_short", "too_long"}:
        bound, length = ("least", "min_length") if error["type"] == "too_short" else ("most", "max_length")
        count = error["ctx"][length]
        return f"Text should have at {bound} {count} character{'s' * (count != 1)}"
    return message


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if status == HTTPStatus.NOT_FOUND and (path := path_without_slash(request.app, request.scope)):
        return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers={"location": path})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = ", ".join(allowed_methods(request.app, request.scope))
    known = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address. See /docs for what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"This address does not take that method, but {headers.get('allow')}.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _TOO_LARGE,
        HTTPStatus.BAD_REQUEST: "The body could not be read: it is not valid JSON, or nested too deeply.",
    }
    detail = known.get(status) or str(error.detail)
    return problem(status, detail, headers)


async def _on_data_error(_: Request, error: Exception) -> JSONResponse:
    log.info("refused by the database", error=str(error))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "A value cannot be stored: out of range, or not valid text.")


async def _on_fault(request: Request, error: Exception) -> JSONResponse:
    reference = str(new_id())
    log.error("request failed", path=request.url.path, reference=reference, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side; it was logged.", reference=reference
    )


class LimitBodies:
    """ASGI middleware: refuses bodies of more bytes than `most` allows a request, with a problem document, whether or
    not their length is announced.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], most: Callable[[Any], int]) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        announced, most = dict(scope.get("headers", [])).get(b"content-length", b"0"), self._most(scope)
        if announced.isdigit() and int(announced) > most:
            await problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)(scope, receive, send)
            return
        received = 0

        async def counting() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self._app(scope, counting, send)
