"""Parameters and dependencies that are shared by the routes that list and show records."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query

from web.auth import Needs
from web.problems import describes

Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[UUID | None, Query(description="last id of the previous page")]

LOOK = describes(401, 403, 422)
ONE = describes(401, 403, 404, 422)
MOVE = describes(401, 403, 404, 409, 422)


def may(permission: str) -> Any:
    """Return a dependency: a caller with the permission, everywhere or at some locations. The transactions of the
    caller hide the records of other locations.
    """
    return Depends(Needs(permission, at_a_location=True))
