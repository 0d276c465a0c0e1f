"""Kinds of records that people list and update: charges, bookings and trials."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from business.office import models, queries
from business.office.schemas import Booking, BookingOutcome, Charge, ChargeOutcome, LapsedCharge, Trial
from core.clock import database_time
from core.errors import Conflict
from domain.office.records import Kind, find_record, follows, move_record

# A provider may report late: a lapsed or failed payment can still become paid.
CHARGES = Kind("payment", models.payments, Charge, follows(pending="paid failed", lapsed="paid", failed="paid"))
BOOKINGS = Kind(
    "booking", models.bookings, Booking, follows(booked="attended no_show", attended="no_show", no_show="attended")
)
TRIALS = Kind("trial", models.trial_bookings, Trial, {})


def settle_charge(connection: Connection, row_id: UUID, said: ChargeOutcome) -> Charge:
    """Record the outcome of a requested payment. A paid one counts from now on.

    Raises:
        NotFound: there is none.
        Conflict: it was settled already.
    """
    now = database_time(connection)
    values = {"status": said.outcome, "reference": said.reference, "note": said.note, "settled_at": now, "paid_at": now}
    return move_record(connection, CHARGES, row_id, values)


def organisations_with_overdue_charges(connection: Connection, patience: timedelta) -> list[UUID]:
    """Return the organisations with a charge that was not collected in time."""
    return queries.organisations_with_overdue_charges(connection, patience)


def lapse_charges(connection: Connection, patience: timedelta, limit: int) -> list[LapsedCharge]:
    """Mark charges that were not collected in time as lapsed, at most `limit`, and return them."""
    return queries.lapse_charges(connection, patience, limit)


def settle_booking(connection: Connection, row_id: UUID, said: BookingOutcome) -> Booking:
    """Record whether a client came.

    Raises:
        NotFound: there is none.
        Conflict: it was cancelled, or the class has not begun.
    """
    booking = find_record(connection, BOOKINGS, row_id)
    session = queries.session(connection, booking.session_id) if booking else None
    if session is not None and not session.is_over:
        raise Conflict("This class has not begun. Say who came once it has.")
    return move_record(connection, BOOKINGS, row_id, {"status": said.outcome})
