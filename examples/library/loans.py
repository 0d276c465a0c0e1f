"""Loans: their shape, their SQL and their verbs. A pack with more than one concept has a folder for each."""

from datetime import datetime, timedelta
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection, text

from core.errors import Conflict, NotFound
from core.ids import new_id
from domain.contacts import service as contacts

LENT_FOR = timedelta(days=21)

_LIST = text("""
    SELECT l.id, l.reader_id, c.name AS reader, l.title, l.due_at, l.due_at < rota_now() AS is_overdue
      FROM library_loans l JOIN contacts c ON c.id = l.reader_id
     WHERE l.returned_at IS NULL AND (CAST(:reader AS uuid) IS NULL OR l.reader_id = :reader)
     ORDER BY l.due_at, l.id LIMIT :limit
""")
_EXTEND = text("""
    UPDATE library_loans SET due_at = greatest(due_at, rota_now()) + :lent_for
     WHERE id = :id AND returned_at IS NULL RETURNING due_at
""")
_LEND = text("""
    INSERT INTO library_loans (id, org_id, reader_id, title, due_at)
    VALUES (:id, :org, :reader, :title, rota_now() + :lent_for)
""")
_READERS = text("SELECT reader_id FROM library_loans WHERE id = ANY(:ids)")


class Loan(BaseModel):
    """A book that a reader has."""

    id: UUID
    reader_id: UUID
    reader: str
    title: str
    due_at: datetime
    is_overdue: bool


def list_loans(connection: Connection, *, reader: UUID | None, limit: int) -> list[Loan]:
    """Books that are lent, the first due first."""
    rows = connection.execute(_LIST, {"reader": reader, "limit": limit}).mappings()
    return [Loan.model_validate(dict(row)) for row in rows]


def add_reader(connection: Connection, org: UUID, name: str, email: str) -> UUID:
    """Add a reader. Returns the contact's id."""
    reader = new_id()
    contacts.add_many(connection, [{"id": reader, "org_id": org, "kind": "reader", "name": name, "email": email}])
    return reader


def lend(connection: Connection, org: UUID, reader: UUID, title: str) -> UUID:
    """Lend a book to a reader. Returns the loan's id.

    Raises:
        NotFound: there is no such contact.
        Conflict: the contact is no reader.
    """
    (who,) = contacts.require(connection, [reader])
    if who.kind != "reader":
        raise Conflict(f"{who.name} is a {who.kind}, not a reader.")
    loan = new_id()
    values = {"id": loan, "org": org, "reader": reader, "title": title, "lent_for": LENT_FOR}
    connection.execute(_LEND, values)
    return loan


def extend(connection: Connection, loan: UUID) -> datetime:
    """Let a reader keep a book for another three weeks. Returns the day it is due.

    Raises:
        NotFound: there is no such loan, or the book is back.
    """
    due: datetime | None = connection.execute(_EXTEND, {"id": loan, "lent_for": LENT_FOR}).scalar_one_or_none()
    if due is None:
        raise NotFound(f"No book is lent under {loan}. Find loans with list_loans.")
    return due


def readers_of(connection: Connection, ids: list[UUID]) -> list[UUID]:
    """The readers whose loans have these ids."""
    return list(connection.execute(_READERS, {"ids": ids}).scalars())
