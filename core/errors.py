"""The errors that Rota raises on purpose. A class's docstring is its default message; `web/problems.py` maps the tree
to HTTP.

RotaError
├── InvalidInput          what was sent cannot be accepted
│   └── BadRequest        … and would not be in any other state of things
├── NotAuthenticated      there is no API key, or it is not valid here
├── NotPermitted          the key is valid, but does not permit this
├── NotFound              this organisation has no such thing
├── Conflict              the present state forbids it
├── PreconditionRequired  the request must name the version it refers to
├── TooManyRequests       a rate limit was exceeded
├── Unavailable           a server that is needed does not answer
└── Misconfigured         a setting is missing or wrong
"""

from typing import Any


class RotaError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)


class InvalidInput(RotaError):
    """The input cannot be accepted."""


class BadRequest(InvalidInput):
    """The request asks for something that is not done here."""


class NotAuthenticated(RotaError):
    """An API key is needed: send it as `Authorization: Bearer …`."""


class NotPermitted(RotaError):
    """This API key does not permit that."""


class NotFound(RotaError):
    """There is no such thing."""


class Conflict(RotaError):
    """That does not fit the present state."""


class PreconditionRequired(RotaError):
    """This request must say which version of the thing it means."""


class TooManyRequests(RotaError):
    """Too many requests; try again after the given time."""


class Unavailable(RotaError):
    """A server that is needed does not answer."""


class Misconfigured(RotaError):
    """The configuration is not usable."""
