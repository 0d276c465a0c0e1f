"""Authentication and permissions: a bearer key names a user, the user's roles grant permissions, and the key's scopes
narrow them.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from core import db
from core.crypto import PUBLISHABLE_KEY, VISITOR_TOKEN, secret_digest, was_issued_here
from core.errors import NotAuthenticated, NotPermitted
from core.settings import settings
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.tenants import keys, permissions
from domain.tenants.permissions import Grant, Reach
from domain.tenants.schemas import KeyOwner
from web.rate_limits import limits

# A valid key is cached for this long, so a revoked key may remain usable for up to that time.
_TRUSTED_SECONDS = 5.0
_MOST_TRUSTED = 10_000
_OF_VISITORS = (f"{PUBLISHABLE_KEY}_", f"{VISITOR_TOKEN}_")
ANYTHING = ""
"""stands for no particular permission: a valid key is enough"""


@dataclass(frozen=True)
class _Known:
    until: float
    owner: KeyOwner
    grants: tuple[Grant, ...]


_trusted: dict[bytes, _Known] = {}
# Digests of keys that were vouched for but found invalid, and the time until which they count as strangers' keys.
_refused: dict[bytes, float] = {}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Principal:
    """An authenticated caller that has the route's permission, at least at some location."""

    owner: KeyOwner
    grants: tuple[Grant, ...] = field(repr=False)
    reach: Reach
    route: str = ""
    subject: str = ""

    @property
    def org_id(self) -> UUID:
        """The caller's organisation."""
        return self.owner.org_id

    @property
    def user_id(self) -> UUID:
        """The user that the caller's key belongs to."""
        return self.owner.user_id

    @property
    def scopes(self) -> list[str] | None:
        """The scopes of the caller's key, which also limit what agents do on its behalf; None for all."""
        return None if "*" in self.owner.scopes else self.owner.scopes

    def reach_of(self, permission: str) -> Reach:
        """Return where the caller has another permission."""
        return _reach(self.owner, self.grants, permission)

    @property
    def voter(self) -> UUID:
        """The user, if the key may be used to decide on what agents propose.

        Raises:
            NotPermitted: the key's scopes do not include `approvals:decide`.
        """
        if not permissions.covers(self.owner.scopes, "approvals:decide"):
            raise NotPermitted("This key's scopes do not include approvals:decide.")
        return self.user_id

    @property
    def own(self) -> list[Grant]:
        """The grants that the caller can pass on: the user's grants, narrowed to the key's scopes."""
        return permissions.narrowed(self.grants, self.owner.scopes)

    def may(self, permission: str) -> bool:
        """Whether the caller has another permission, at least at some location."""
        return not _reach(self.owner, self.grants, permission).is_nowhere

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction of the caller's organisation, limited to the locations that the permission covers."""
        with db.transaction(self.org_id, () if self.reach.everywhere else self.reach.locations) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, **details: Any) -> Iterator[Connection]:
        """Open a transaction for a change: as `reading`, and at its end the change is written into the audit log."""
        with self.reading() as connection:
            yield connection
            self.note(connection, **details)

    def note(self, connection: Connection, **details: Any) -> None:
        """Write into the audit log that the caller performed this route's action."""
        actor = Actor(org_id=self.org_id, user_id=self.user_id, key_id=self.owner.key_id)
        audit.record(connection, actor, AuditEvent(self.route, self.subject, details))


class Needs(HTTPBearer):
    """A dependency that returns the caller, which must have `permission` by role and by scope. It must have it
    everywhere, unless the route handles only what lies `at_a_location`. For what is the caller's `own`, such as
    notifications, the scope alone is enough.
    """

    def __init__(self, permission: str, *, at_a_location: bool = False, own: bool = False) -> None:
        super().__init__(scheme_name="HTTPBearer", description="An API key: `rota_…`", auto_error=False)
        self.permission = permission
        self._at_a_location = at_a_location
        self._own = own

    # This is the security scheme itself: if it depended on one, FastAPI would resolve that separately.
    async def __call__(self, request: Request) -> Principal:  # type: ignore[override]
        """Raises:
        NotAuthenticated: there is no key, or it is not valid.
        NotPermitted: the key's scopes or the user's roles do not include the permission.
        TooManyRequests: the key, the organisation or the address exceeded its rate limit.
        """
        known = await self._known(request)
        limits().take_request(known.owner)
        return self._principal(request, known)

    async def again(self, request: Request) -> Principal:
        """Authenticate the caller of a response that is still being sent. The request is not counted again.

        Raises:
            NotAuthenticated: the key is not valid any more.
            NotPermitted: the key's scopes or the user's roles do not include the permission any more.
        """
        return self._principal(request, await self._known(request))

    async def _known(self, request: Request) -> "_Known":
        # A cached key needs no thread: handing over to one costs more than all of this.
        credentials = await super().__call__(request)
        known = _remembered(credentials)
        return await _looked_up(request, credentials) if known is None else known

    def _principal(self, request: Request, known: "_Known") -> Principal:
        reach = self._reach_of(known)
        if reach.is_nowhere:
            raise NotPermitted(
                f"This needs the permission {self.permission}: by a role of the key's user, and within its scopes."
            )
        if not reach.everywhere and not self._at_a_location:
            raise NotPermitted(f"This concerns the whole organisation: it needs {self.permission} everywhere.")
        name = getattr(request.scope.get("route"), "name", "")
        subject = "/".join(str(value) for value in request.path_params.values())
        return Principal(known.owner, known.grants, reach, route=name, subject=subject)

    def _reach_of(self, known: "_Known") -> Reach:
        if self._own:  # a disabled user has no grants
            return Reach(everywhere=bool(known.grants) and permissions.covers(known.owner.scopes, self.permission))
        return _reach(known.owner, known.grants, self.permission)


def _reach(owner: KeyOwner, grants: tuple[Grant, ...], permission: str) -> Reach:
    if permission == ANYTHING:
        return Reach(everywhere=True)
    return permissions.reach(grants, permission) if permissions.covers(owner.scopes, permission) else Reach()


def _remembered(credentials: HTTPAuthorizationCredentials | None) -> _Known | None:
    if credentials is None:
        return None
    known = _trusted.get(secret_digest(credentials.credentials, settings().pepper))
    return known if known is not None and known.until > time.monotonic() else None


async def _looked_up(request: Request, credentials: HTTPAuthorizationCredentials | None) -> _Known:
    """Look a key up in the database: its owner and the owner's grants. Raises NotPermitted for what visitors have.

    A key that nothing vouches for first counts as a stranger's request: above that limit no look-up is made. A key with
    this installation's mark, or one that was valid before, is looked up even if strangers at the same address have used
    up the limit.
    """
    if credentials is None:
        limits().take_stranger(request)
        raise NotAuthenticated
    if credentials.credentials.startswith(_OF_VISITORS):
        limits().take_stranger(request)
        raise NotPermitted("This is no API key: it opens /v1/visitors and /v1/visitor only (docs/visitors.md).")
    digest = secret_digest(credentials.credentials, settings().pepper)
    is_vouched_for = _refused.get(digest, 0.0) < time.monotonic() and (
        digest in _trusted or was_issued_here(credentials.credentials, settings().pepper)
    )
    if not is_vouched_for:
        limits().take_stranger(request)
    try:
        owner, grants = await run_in_threadpool(keys.authenticate, credentials.credentials, pepper=settings().pepper)
    except NotAuthenticated:
        _trusted.pop(digest, None)
        if is_vouched_for:
            _remember(_refused, digest, time.monotonic() + _TRUSTED_SECONDS)
            limits().take_stranger(request)
        raise
    if not is_vouched_for:
        limits().give_back_stranger(request)
    known = _Known(time.monotonic() + _TRUSTED_SECONDS, owner, grants)
    _remember(_trusted, digest, known)
    return known


def _remember(place: dict[bytes, _T], digest: bytes, what: _T) -> None:
    if len(place) >= _MOST_TRUSTED:
        place.clear()
    place[digest] = what


def forget_keys() -> None:
    """Clear the cache of keys: a key was revoked, or a user's roles were changed."""
    _trusted.clear()
    _refused.clear()


AnyCaller = Annotated[Principal, Depends(Needs(ANYTHING))]
"""a caller with a valid key and no particular permission"""
