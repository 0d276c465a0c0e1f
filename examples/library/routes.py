"""Routes of the library."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from library import loans
from web.auth import Principal
from web.listing import LOOK, MOVE, Limit, may

router = APIRouter(prefix="/v1", tags=["library"])


class NewLoan(BaseModel):
    """Who borrows what."""

    reader: UUID
    title: str = Field(min_length=1, max_length=200)


@router.get("/loans", responses=LOOK)
def list_loans(
    caller: Annotated[Principal, may("loans:read")], reader: UUID | None = None, limit: Limit = 50
) -> list[loans.Loan]:
    """Books that are lent, the first due first."""
    with caller.reading() as connection:
        return loans.list_loans(connection, reader=reader, limit=limit)


@router.post("/loans", status_code=201, responses=MOVE)
def lend(new: NewLoan, caller: Annotated[Principal, may("loans:write")]) -> dict[str, UUID]:
    """Lend a book."""
    with caller.writing() as connection:
        return {"id": loans.lend(connection, caller.org_id, new.reader, new.title)}
