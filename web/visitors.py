"""Authentication of web pages and their visitors: a publishable key admits a visitor, a visitor's token opens the
visitor's own conversations. API keys are not accepted in their place, nor they in the place of API keys.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from core import db
from core.crypto import PUBLISHABLE_KEY, VISITOR_TOKEN, secret_digest, was_issued_here
from core.errors import NotAuthenticated, NotPermitted
from core.settings import settings
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.tasks.schemas import SubmissionContext
from domain.tenants.permissions import Reach
from domain.visitors import service as visitors
from domain.visitors.schemas import Admission, Visitor
from web.rate_limits import limits

# What was looked up counts for this long, so a key that is revoked may remain usable for up to that time.
_TRUSTED_SECONDS = 5.0
_MOST_TRUSTED = 10_000
_Found = TypeVar("_Found")


class _LookUp(Generic[_Found]):
    """Looks up keys of one kind. Caches what was found, or that nothing was, for a few seconds."""

    def __init__(self, prefix: str, what: str, find: Callable[[str], _Found | None]) -> None:
        self._prefix = prefix
        self._what = what
        self._find = find
        self._known: dict[bytes, tuple[float, _Found | None]] = {}

    async def find(self, request: Request, credentials: HTTPAuthorizationCredentials | None) -> _Found:
        """Return what a key opens. What is not valid counts as a stranger's request, and what was not issued here is
        not looked up.

        Raises:
            NotAuthenticated: there is no key, or it is not valid.
            NotPermitted: it is a key of another kind.
        """
        found = await self._look_up(credentials.credentials) if credentials else None
        if found is not None:
            return found
        limits().take_stranger(request)
        if credentials is not None and not credentials.credentials.startswith(f"{self._prefix}_"):
            raise NotPermitted(f"This takes {self._what} ({self._prefix}_…), and nothing else (docs/visitors.md).")
        raise NotAuthenticated(f"{self._what.capitalize()} is needed that is valid: send it as `Bearer …`.")

    async def _look_up(self, text: str) -> _Found | None:
        pepper = settings().pepper
        digest = secret_digest(text, pepper)
        until, found = self._known.get(digest, (0.0, None))
        if until > time.monotonic():
            return found
        if not was_issued_here(text, pepper, self._prefix):
            return None
        found = await run_in_threadpool(self._find, text)
        if len(self._known) >= _MOST_TRUSTED:
            self.forget()
        self._known[digest] = (time.monotonic() + _TRUSTED_SECONDS, found)
        return found

    def forget(self) -> None:
        """Forget what was found."""
        self._known.clear()


_keys = _LookUp[Admission](PUBLISHABLE_KEY, "a publishable key", visitors.find_admission)
_tokens = _LookUp[Visitor](
    VISITOR_TOKEN, "a visitor's token", lambda text: visitors.authenticate(text, settings().pepper)
)


def forget_visitors() -> None:
    """Clear the caches: a publishable key was revoked, or a visitor deleted."""
    _keys.forget()
    _tokens.forget()


def is_visitor_token(text: str) -> bool:
    """Whether a text has the form of a visitor's token."""
    return text.startswith(f"{VISITOR_TOKEN}_")


def _refuse_origin(request: Request, allowed: list[str], *, is_required: bool) -> None:
    """Refuse the pages of other origins. Browsers name the origin with every POST, and with requests to other origins;
    programs can name any, so this protects no secret: it keeps other pages from using the key.
    """
    origin = request.headers.get("origin")
    if allowed and origin not in allowed and (is_required or origin is not None):
        raise NotPermitted("Pages of this origin may not use this key. Add the origin to a key of yours.")


class TakesPublishableKey(HTTPBearer):
    """A dependency that returns the publishable key of a request."""

    def __init__(self) -> None:
        super().__init__(scheme_name="PublishableKey", description="A publishable key: `rotapub_…`", auto_error=False)

    # This is the security scheme itself: if it depended on one, FastAPI would resolve that separately.
    async def __call__(self, request: Request) -> Admission:  # type: ignore[override]
        """Raises:
        NotAuthenticated: there is no publishable key, or it is not valid.
        NotPermitted: it is a key of another kind, or pages of the origin may not use it.
        TooManyRequests: the address sent too many requests, or the key admitted too many visitors.
        """
        limits().take_stranger(request)  # also with a valid key: it is no secret
        found = await _keys.find(request, await super().__call__(request))
        _refuse_origin(request, found.origins, is_required=True)
        limits().take((f"visitors:{found.id}", found.limits.visitors_per_minute, "New visitors of this page"))
        return found


@dataclass(frozen=True)
class VisitorCaller:
    """An authenticated visitor. It is no user: it has no roles and no permissions."""

    visitor: Visitor
    route: str = ""
    subject: str = ""

    @property
    def org_id(self) -> UUID:
        """The organisation of the visitor's publishable key."""
        return self.visitor.org_id

    @property
    def id(self) -> UUID:
        """The visitor."""
        return self.visitor.id

    @property
    def user_id(self) -> None:
        """No user."""
        return

    def reach_of(self, permission: str) -> Reach:  # noqa: ARG002  whichever it is
        """Return where the visitor has a permission: nowhere."""
        return Reach()

    @property
    def context(self) -> SubmissionContext:
        """What the tasks of the visitor run under: at most the permissions that its publishable key lists."""
        of = self.visitor
        return SubmissionContext(user_id=of.user_id, location_id=of.location_id, scopes=of.permissions)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction of the visitor's organisation, limited to the location of its publishable key."""
        location = self.visitor.location_id
        with db.transaction(self.org_id, (location,) if location else ()) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction for a change: as `reading`, and at its end the change is written into the audit log."""
        with self.reading() as connection:
            yield connection
            actor = Actor(org_id=self.org_id, visitor_id=self.id)
            audit.record(connection, actor, AuditEvent(self.route, self.subject))

    def take_message(self) -> None:
        """Count a message against the limits of a minute. Raises TooManyRequests, and counts nothing, if one is
        reached.
        """
        of, most = self.visitor, self.visitor.limits
        limits().take(
            (f"visitor:{of.id}:messages", most.messages_per_minute, "A visitor"),
            (f"visitors:{of.publishable_key_id}:messages", most.messages_per_minute_in_all, "The visitors together"),
        )


class NeedsVisitor(HTTPBearer):
    """A dependency that returns the visitor whose token the request has."""

    def __init__(self) -> None:
        super().__init__(scheme_name="VisitorToken", description="A visitor's token: `rotavis_…`", auto_error=False)

    async def __call__(self, request: Request) -> VisitorCaller:  # type: ignore[override]
        """Raises:
        NotAuthenticated: there is no token, or it is not valid.
        NotPermitted: it is a key of another kind, or pages of the origin may not use it.
        TooManyRequests: the visitor, or the visitors of its key, exceeded their rate limit.
        """
        caller = await self.again(request)
        config, of = settings(), caller.visitor
        limits().take(
            (f"visitor:{of.id}", config.requests_per_minute_visitor, "A visitor"),
            # Not the organisation's own count: a flood of visitors must not block its programs.
            (f"visitors:{of.publishable_key_id}:all", config.requests_per_minute_organisation, "The visitors together"),
        )
        return caller

    async def again(self, request: Request) -> VisitorCaller:
        """Authenticate the visitor of a response that is still being sent. The request is not counted again.

        Raises:
            NotAuthenticated: the token is not valid any more.
            NotPermitted: it is a key of another kind, or pages of the origin may not use it.
        """
        visitor = await _tokens.find(request, await super().__call__(request))
        _refuse_origin(request, visitor.origins, is_required=False)
        return VisitorCaller(visitor, _route(request), "/".join(str(one) for one in request.path_params.values()))


def _route(request: Request) -> str:
    name: Any = getattr(request.scope.get("route"), "name", "")
    return str(name)
