"""Broadcasts of the installation's operators, and what every user sees of them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from core.db import system_transaction
from domain.broadcasts import service as broadcasts
from domain.broadcasts.schemas import Announcement, Broadcast, BroadcastPage, NewBroadcast
from domain.tenants.permissions import GOVERN
from web.auth import AnyCaller, Needs, Principal
from web.listing import Before, Limit
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["broadcasts"])

Operator = Annotated[Principal, Depends(Needs(GOVERN))]


@router.post("/broadcasts", status_code=201, responses=describes(401, 403, 422))
def send_broadcast(wanted: NewBroadcast, caller: Operator) -> Broadcast:
    """Tell every organisation something. For operators."""
    with system_transaction() as connection:
        caller.note(connection, **wanted.model_dump(mode="json"))
        return broadcasts.send(connection, wanted, caller.user_id)


@router.get("/broadcasts", responses=describes(401, 403, 422))
def list_broadcasts(_: Operator, before: Before = None, limit: Limit = 50) -> BroadcastPage:
    """List broadcasts, newest first, with those that are over. For operators."""
    with system_transaction() as connection:
        return broadcasts.list_broadcasts(connection, before, limit)


@router.delete("/broadcasts/{broadcast_id}", status_code=204, responses=describes(401, 403, 404, 422))
def withdraw_broadcast(broadcast_id: UUID, caller: Operator) -> None:
    """Withdraw a broadcast: it is not listed any more. For operators."""
    with system_transaction() as connection:
        broadcasts.withdraw(connection, broadcast_id)
        caller.note(connection)


@router.get("/announcements", responses=describes(401))
def list_announcements(caller: AnyCaller) -> list[Announcement]:
    """List what the installation's operators tell everyone now, newest first. A new one is told by the event
    `system.announced`.
    """
    with caller.reading() as connection:
        return broadcasts.current(connection)
