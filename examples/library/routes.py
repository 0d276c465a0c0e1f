"""Routes of the library."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from domain.tenants.schemas import Email
from library import loans
from web.auth import Principal
from web.listing import LOOK, MOVE, Limit, may

router = APIRouter(prefix="/v1", tags=["library"])


class NewLoan(BaseModel):
    """Who borrows what."""

    reader: UUID
    title: str = Field(min_length=1, max_length=200)


class NewReader(BaseModel):
    """Who may borrow."""

    name: str = Field(min_length=1, max_length=200)
    email: Email


@router.post("/readers", status_code=201, responses=LOOK)
def add_reader(new: NewReader, caller: Annotated[Principal, may("readers:write")]) -> dict[str, UUID]:
    """Add a reader."""
    with caller.writing() as connection:
        return {"id": loans.add_reader(connection, caller.org_id, new.name, new.email)}


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
