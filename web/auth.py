"""Who is calling, and what they may do: a bearer key names a user, who has roles, and the key's scopes narrow them."""

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
from core.crypto import secret_digest, was_issued_here
from core.errors import NotAuthenticated, NotPermitted
from core.settings import settings
from domain.audit import service as audit
from domain.audit.schemas import Actor, AuditEvent
from domain.tenants import keys, permissions
from domain.tenants.permissions import Grant, Reach
from domain.tenants.schemas import KeyOwner
from web.rate_limits import limits

# A key found good is not looked up again for this long, so a revoked one works on for at most as long.
_TRUSTED_SECONDS = 5.0
_MOST_TRUSTED = 10_000
ANYTHING = ""
"""instead of a permission: a valid key is enough"""


@dataclass(frozen=True)
class _Known:
    until: float
    owner: KeyOwner
    grants: tuple[Grant, ...]


_trusted: dict[bytes, _Known] = {}
# Digests of marked keys that were found revoked or expired, and until when they count as strangers' keys.
_refused: dict[bytes, float] = {}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Principal:
    """A caller who has the permission that the route asks for, at least somewhere."""

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
        """The user whom the caller's key speaks for."""
        return self.owner.user_id

    @property
    def scopes(self) -> list[str] | None:
        """The scopes of the caller's key, which bind what agents do for it too; None for all."""
        return None if "*" in self.owner.scopes else self.owner.scopes

    def reach_of(self, permission: str) -> Reach:
        """Where the caller has another permission."""
        return _reach(self.owner, self.grants, permission)

    @property
    def voter(self) -> UUID:
        """The user, where the key may be used to decide on what agents propose.

        Raises:
            NotPermitted: its scopes do not reach so far.
        """
        if not permissions.covers(self.owner.scopes, "approvals:decide"):
            raise NotPermitted("This key's scopes do not include approvals:decide.")
        return self.user_id

    @property
    def own(self) -> list[Grant]:
        """What the caller could pass on: the user's grants, narrowed to the key's scopes."""
        return permissions.narrowed(self.grants, self.owner.scopes)

    def may(self, permission: str) -> bool:
        """Whether the caller has another permission too, at least somewhere."""
        return not _reach(self.owner, self.grants, permission).is_nowhere

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction on the caller's organisation, limited to the locations that the caller's permission covers."""
        with db.transaction(self.org_id, () if self.reach.everywhere else self.reach.locations) as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self, **details: Any) -> Iterator[Connection]:
        """The same, for something that changes: who did it is written down with it."""
        with self.reading() as connection:
            yield connection
            self.note(connection, **details)

    def note(self, connection: Connection, **details: Any) -> None:
        """Write into the audit log that the caller did what this route does."""
        actor = Actor(org_id=self.org_id, user_id=self.user_id, key_id=self.owner.key_id)
        audit.record(connection, actor, AuditEvent(self.route, self.subject, details))


class Needs(HTTPBearer):
    """A dependency: the caller, who must have `permission` by role and by scope; everywhere, unless a route looks at
    nothing but what lies `at_a_location`. What is the caller's `own`, such as notifications, needs the scope alone.
    """

    def __init__(self, permission: str, *, at_a_location: bool = False, own: bool = False) -> None:
        super().__init__(scheme_name="HTTPBearer", description="An API key: `rota_…`", auto_error=False)
        self.permission = permission
        self._at_a_location = at_a_location
        self._own = own

    # It is the security scheme itself, instead of depending on one, which FastAPI would resolve apart.
    async def __call__(self, request: Request) -> Principal:  # type: ignore[override]
        """Raises:
        NotAuthenticated: there is no key, or not a valid one.
        NotPermitted: the key's scopes or the user's roles do not reach this far.
        TooManyRequests: the key, or the organisation, asked too often.
        """
        # A known key takes no thread: handing over to one costs more than all of this.
        credentials = await super().__call__(request)
        known = _remembered(credentials)
        if known is None:
            known = await _looked_up(request, credentials)
        limits().take_request(known.owner)
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
        if self._own:  # a user who is shut out has no grants
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
    """Find out in the database whom a key speaks for.

    A key that nothing vouches for counts as a stranger's request first: above that limit no look-up is made. A key with
    this installation's mark, or one that was good before, is looked up even when strangers at the same address used the
    limit up.
    """
    if credentials is None:
        limits().take_stranger(request)
        raise NotAuthenticated
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
    """Look every key up again: one was revoked, or somebody's roles were changed."""
    _trusted.clear()
    _refused.clear()


AnyCaller = Annotated[Principal, Depends(Needs(ANYTHING))]
"""whoever has a valid key"""
