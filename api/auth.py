"""Who is calling: a bearer key names the organisation."""

import time
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from core.crypto import secret_digest
from core.errors import NotAuthenticated
from core.settings import settings
from domain.tenants import service as tenants

_bearer = HTTPBearer(auto_error=False, description="An API key: `rota_…`")
# A key found good is not looked up again for this long, so a revoked one works on for at most as long.
_TRUSTED_SECONDS = 5.0
_MOST_TRUSTED = 10_000
_trusted: dict[bytes, tuple[float, UUID]] = {}


def caller(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> UUID:
    """The organisation that the request's key speaks for.

    Raises:
        NotAuthenticated: there is no key, or not a valid one.
    """
    if credentials is None:
        raise NotAuthenticated
    pepper = settings().pepper
    digest = secret_digest(credentials.credentials, pepper)
    known = _trusted.get(digest)
    if known and known[0] > time.monotonic():
        return known[1]
    org = tenants.authenticate(credentials.credentials, pepper=pepper)
    if len(_trusted) >= _MOST_TRUSTED:
        _trusted.clear()
    _trusted[digest] = (time.monotonic() + _TRUSTED_SECONDS, org)
    return org


Caller = Annotated[UUID, Depends(caller)]
