"""Routes on payments, bookings and trials: people and other systems list them and report their outcomes."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from business.crm.schemas import BookingStatus, PaymentStatus
from business.office import records
from business.office.schemas import (
    Booking,
    BookingOutcome,
    Charge,
    ChargeOutcome,
    Trial,
    TrialStatus,
)
from domain.office.records import get_record, list_records
from web.auth import Principal
from web.listing import LOOK, MOVE, ONE, Before, Limit, may

router = APIRouter(prefix="/v1", tags=["office"])

Client = Annotated[UUID | None, Query(description="only of this client")]
Lead = Annotated[UUID | None, Query(description="only of this lead")]


@router.get("/payments", responses=LOOK)
def list_payments(
    caller: Annotated[Principal, may("payments:read")],
    status: PaymentStatus | None = None,
    client: Client = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Charge]:
    """List payments by id, descending. Those with `status=pending` are to be collected."""
    with caller.reading() as connection:
        return list_records(connection, records.CHARGES, before=before, limit=limit, status=status, client_id=client)


@router.get("/payments/{payment_id}", responses=ONE)
def get_payment(payment_id: UUID, caller: Annotated[Principal, may("payments:read")]) -> Charge:
    """Return a payment."""
    with caller.reading() as connection:
        return get_record(connection, records.CHARGES, payment_id)


@router.post("/payments/{payment_id}/outcome", responses=MOVE)
def settle_payment(
    payment_id: UUID, said: ChargeOutcome, caller: Annotated[Principal, may("payments:settle")]
) -> Charge:
    """Record the outcome of a requested payment. The webhook event `payment.wanted` announces requests."""
    with caller.writing(outcome=said.outcome, reference=said.reference) as connection:
        return records.settle_charge(connection, payment_id, said)


@router.get("/bookings", responses=LOOK)
def list_bookings(
    caller: Annotated[Principal, may("bookings:read")],
    status: BookingStatus | None = None,
    client: Client = None,
    session: Annotated[UUID | None, Query(description="only of this class session")] = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Booking]:
    """List bookings of class sessions by id, descending."""
    wanted = {"status": status, "client_id": client, "session_id": session}
    with caller.reading() as connection:
        return list_records(connection, records.BOOKINGS, before=before, limit=limit, **wanted)


@router.post("/bookings/{booking_id}/outcome", responses=MOVE)
def settle_booking(
    booking_id: UUID, said: BookingOutcome, caller: Annotated[Principal, may("bookings:write")]
) -> Booking:
    """Record whether a client attended a class session that has begun."""
    with caller.writing(outcome=said.outcome) as connection:
        return records.settle_booking(connection, booking_id, said)


@router.get("/trials", responses=LOOK)
def list_trials(
    caller: Annotated[Principal, may("bookings:read")],
    status: TrialStatus | None = None,
    lead: Lead = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Trial]:
    """List bookings of trial classes by id, descending. `PUT /v1/trials/{trial_id}/outcome` records the outcome."""
    with caller.reading() as connection:
        return list_records(connection, records.TRIALS, before=before, limit=limit, status=status, lead_id=lead)
