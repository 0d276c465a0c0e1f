"""The errors that the client raises.

RotaError
├── NotConfigured             the address or the key is missing
├── NotReachable              no response arrived
├── UnexpectedResponse        the response is not one of Rota's API
├── NotEnded                  the time to wait is over, and the task goes on
├── InvalidSignature          a webhook's body is not signed with your secret
└── Refused                   the API answered with an error
    ├── InvalidRequest        400, 413, 415, 422
    ├── NotAuthenticated      401
    ├── NotPermitted          403
    ├── NotFound              404
    ├── Conflict              409
    ├── PreconditionRequired  428
    ├── TooManyRequests       429
    ├── Unavailable           502, 503, 504
    └── ServerFault           500
"""

from http import HTTPStatus
from typing import Any, ClassVar

import httpx2

from rota_client import retries
from rota_client.models import TaskDetail


class RotaError(Exception):
    """Something went wrong."""


class NotConfigured(RotaError):
    """The address or the key of the API is missing."""

    def __init__(self) -> None:
        super().__init__(
            "Pass both url and key, or set both ROTA_API_URL and ROTA_API_KEY: a key is only sent to its own API. "
            'On the machine of a `rota up`: eval "$(rota env)"'
        )


class NotReachable(RotaError):
    """No response arrived. The request may have been carried out; it was repeated if that was safe."""

    def __init__(self, request: httpx2.Request, reason: Exception) -> None:
        self.reason = reason
        super().__init__(f"{request.method} {request.url}: no response ({type(reason).__name__}). Is Rota running?")


class UnexpectedResponse(RotaError):
    """The response is not one of Rota's API, or of a version that this client cannot read."""

    def __init__(self, response: httpx2.Response, problem: str) -> None:
        self.response = response
        super().__init__(f"The response of {response.url} {problem}")


class NotEnded(RotaError):
    """The time to wait is over, and the task goes on."""

    def __init__(self, task: TaskDetail, seconds: float) -> None:
        self.task = task
        state = f"waits for {task.waiting_for}" if task.waiting_for else f"is {task.status}"
        super().__init__(f"After {seconds:g} s the task {task.id} {state}. It goes on: wait again, or cancel it.")


class InvalidSignature(RotaError):
    """The body of a webhook is not signed with this secret, or too old. Answer 400 and do not use it."""


class Refused(RotaError):
    """The API answered with an error."""

    advice: ClassVar[str] = ""

    def __init__(self, response: httpx2.Response) -> None:
        self.status: int = response.status_code
        self.problem: dict[str, Any] = _problem_in(response)
        """the problem document (RFC 9457), {} if the response has none"""
        self.detail: str = self.problem.get("detail") or f"The API returned HTTP status {self.status}."
        self.retry_after: float | None = retries.retry_after(response.headers)
        """seconds after which the API asks to be asked again"""
        super().__init__(f"{self.detail} {self.advice}".rstrip())

    @property
    def fields(self) -> dict[str, str]:
        """What is wrong with each field of the request, by its path."""
        return {one["field"]: one["problem"] for one in self.problem.get("errors", [])}

    @property
    def reference(self) -> str | None:
        """The id under which the server logged an error of its own."""
        return self.problem.get("reference")


class InvalidRequest(Refused):
    """The request cannot be accepted: `fields` tells which value is wrong."""


class NotAuthenticated(Refused):
    """The key is not valid."""

    advice = "Check that the key is whole, was not revoked, and belongs to this address."


class NotPermitted(Refused):
    """The key is valid, but does not permit this."""

    advice = "Use a key of a user with the permission, or ask for it."


class NotFound(Refused):
    """There is no such thing where this key may look."""


class Conflict(Refused):
    """The present state forbids it."""

    advice = "Read its present state, then decide again."


class PreconditionRequired(Refused):
    """The request must name the version that it refers to."""

    advice = "Pass the Approval as you showed it, or its digest."


class TooManyRequests(Refused):
    """A limit of requests or streams was exceeded, and waiting did not help."""

    advice = "Send fewer requests at once, or try again later."


class Unavailable(Refused):
    """The API, or a server that it needs, does not work at the moment."""

    advice = "Try again later."


class ServerFault(Refused):
    """The API failed. Its log has the details under `reference`."""

    advice = "Report it to the operator, with the error's `reference`."


_KINDS: dict[int, type[Refused]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequest,
    HTTPStatus.UNAUTHORIZED: NotAuthenticated,
    HTTPStatus.FORBIDDEN: NotPermitted,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: InvalidRequest,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: InvalidRequest,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequest,
    HTTPStatus.PRECONDITION_REQUIRED: PreconditionRequired,
    HTTPStatus.TOO_MANY_REQUESTS: TooManyRequests,
    HTTPStatus.INTERNAL_SERVER_ERROR: ServerFault,
    HTTPStatus.BAD_GATEWAY: Unavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Unavailable,
}


def refusal(response: httpx2.Response) -> Refused:
    """Return the error that a response other than success stands for."""
    return _KINDS.get(response.status_code, Refused)(response)


def _problem_in(response: httpx2.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
