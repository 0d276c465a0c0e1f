"""Who is calling, and what they may do: a bearer key names a user, who has roles, and the key's scopes narrow them."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection

from api.rate_limits import limits
from core import db
from core.crypto import secret_digest
from core.errors import NotAuthenticated, NotPermitted
from core.settings import settings
from domain.audit import service as audit
from domain.audit.schemas import Deed, Doer
from domain.tenants import keys, permissions
from domain.tenants.permissions import Grant, Reach
from domain.tenants.schemas import KeyOwner

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
        doer = Doer(org_id=self.org_id, user_id=self.user_id, key_id=self.owner.key_id)
        audit.record(connection, doer, Deed(self.route, self.subject, details))


class Needs(HTTPBearer):
    """A dependency: the caller, who must have `permission` by role and by scope; everywhere, unless a route looks at
    nothing but what lies `at_a_location`.
    """

    def __init__(self, permission: str, *, at_a_location: bool = False) -> None:
        super().__init__(scheme_name="HTTPBearer", description="An API key: `rota_…`", auto_error=False)
        self.permission = permission
        self._at_a_location = at_a_location

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
            known = await run_in_threadpool(_authenticate, request, credentials)
        limits().take_request(known.owner)
        reach = _reach(known.owner, known.grants, self.permission)
        if reach.is_nowhere:
            raise NotPermitted(
                f"This needs the permission {self.permission}: by a role of the key's user, and within its scopes."
            )
        if not reach.everywhere and not self._at_a_location:
            raise NotPermitted(f"This concerns the whole organisation: it needs {self.permission} everywhere.")
        name = getattr(request.scope.get("route"), "name", "")
        subject = "/".join(str(value) for value in request.path_params.values())
        return Principal(known.owner, known.grants, reach, route=name, subject=subject)


def _reach(owner: KeyOwner, grants: tuple[Grant, ...], permission: str) -> Reach:
    if permission == ANYTHING:
        return Reach(everywhere=True)
    return permissions.reach(grants, permission) if permissions.covers(owner.scopes, permission) else Reach()


def _remembered(credentials: HTTPAuthorizationCredentials | None) -> _Known | None:
    if credentials is None:
        return None
    known = _trusted.get(secret_digest(credentials.credentials, settings().pepper))
    return known if known is not None and known.until > time.monotonic() else None


def _authenticate(request: Request, credentials: HTTPAuthorizationCredentials | None) -> _Known:
    if credentials is None:
        limits().take_stranger(request)
        raise NotAuthenticated
    pepper = settings().pepper
    try:
        owner, grants = keys.authenticate(credentials.credentials, pepper=pepper)
    except NotAuthenticated:
        limits().take_stranger(request)
        raise
    known = _Known(time.monotonic() + _TRUSTED_SECONDS, owner, grants)
    if len(_trusted) >= _MOST_TRUSTED:
        _trusted.clear()
    _trusted[secret_digest(credentials.credentials, pepper)] = known
    return known


def forget_keys() -> None:
    """Look every key up again: one was revoked, or somebody's roles were changed."""
    _trusted.clear()


AnyCaller = Annotated[Principal, Depends(Needs(ANYTHING))]
"""whoever has a valid key"""
