"""Operations of agents on the customer records: tags, places in sessions, charges and refunds."""

from dataclasses import asdict
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from business.crm import service as crm
from business.crm.schemas import PaymentKind
from business.office import models, queries
from business.office.schemas import CollectedBy, LockedBooking, OfferedSession, Trial, TrialOutcome
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from domain.channels.schemas import Notice
from domain.office.records import add_record
from domain.office.schemas import Maker
from domain.office.telling import tell_managers
from domain.office.times import shown

Row = dict[str, Any]
_MOST_TAGS = 50


def update_tags(connection: Connection, client_id: UUID, *, add: list[str], remove: list[str]) -> Row:
    """Add and remove tags of a client, ignoring case.

    Raises:
        NotFound: there is no such client.
        InvalidInput: there is nothing to do, a tag is both to add and to remove, or there would be too many.
    """
    adding, removing = ({tag.casefold(): tag for tag in reversed(tags)} for tags in (add, remove))
    if not adding and not removing:
        raise InvalidInput("Name tags to add or to remove.")
    if both := adding.keys() & removing.keys():
        raise InvalidInput(f"{', '.join(sorted(both))}: either add or remove it.")
    who = crm.view_client(connection, client_id)
    before = queries.lock_client_tags(connection, client_id)
    held = {tag.casefold() for tag in before}
    after = [tag for tag in before if tag.casefold() not in removing]
    after += [tag for folded, tag in sorted(adding.items()) if folded not in held]
    if len(after) > _MOST_TAGS:
        raise InvalidInput(f"{who.name} would have {len(after)} tags; {_MOST_TAGS} are the most. Remove some.")
    queries.set_client_tags(connection, client_id, after)
    return {"client_id": client_id, "name": who.name, "tags_before": before, "tags": after}


# ── places in sessions ────────────────────────────────────────────────────────────────────────────────────────────────


def note_trial(connection: Connection, trial_id: UUID, outcome: TrialOutcome) -> Trial:
    """Record whether a lead came to a trial or cancelled it. Move a lead who came to trial_done. Idempotent.

    Raises:
        NotFound: there is no such trial.
        Conflict: another outcome is recorded already.
    """
    lead = queries.note_trial(connection, trial_id, outcome)
    found = queries.trial(connection, trial_id)
    if found is None:
        raise NotFound(f"There is no trial {trial_id}.")
    if lead is None:
        raise Conflict(f"This trial is noted as {found.status} already.")
    if outcome == "attended" and crm.view_lead(connection, lead).status == "trial_booked":
        crm.update_lead_status(connection, lead, "trial_done", "came to the trial")
    return found


def book_trial(connection: Connection, maker: Maker, lead_id: UUID, session_id: UUID, zone: ZoneInfo) -> Row:
    """Give a lead a place in a session to try it, and move the lead to trial_booked.

    Raises:
        NotFound: the lead or the session does not exist.
        Conflict: it is full, over or cancelled, or the lead has a place in it already or has become a member.
    """
    who = crm.view_lead(connection, lead_id)
    if who.status == "won":
        raise Conflict(f"{who.name} has joined; members book with book_class.")
    wanted = _open_session(connection, session_id)
    trial_id = new_id()
    row = {"id": trial_id, "lead_id": lead_id, "session_id": session_id, "status": "booked"}
    # A lead who has a place already gets that message, even if the class is full.
    if not add_record(connection, models.trial_bookings, maker, row):
        raise Conflict(f"{who.name} has a trial place in this session already.")
    _must_have_room(wanted)
    note = f"trial of {wanted.class_name} at {shown(wanted.starts_at, zone)}"
    moved = crm.update_lead_status(connection, lead_id, "trial_booked", note)
    return {
        "trial_booking_id": trial_id,
        "lead_id": lead_id,
        "lead": who.name,
        "lead_status": moved["status"],
        **_place(wanted, zone),
    }


def cancel_booking(connection: Connection, booking_id: UUID, zone: ZoneInfo) -> Row:
    """Cancel a client's booking and free its place.

    Raises:
        NotFound: there is no such booking.
        Conflict: it was cancelled already, or the class has begun.
    """
    booking = _standing_booking(connection, booking_id)
    queries.cancel_booking(connection, booking_id)
    return {
        "booking_id": booking_id,
        "client_id": booking.client_id,
        "client": booking.client,
        "class_name": booking.class_name,
        "starts_at": shown(booking.starts_at, zone),
        "status": "cancelled",
    }


def reschedule_booking(connection: Connection, booking_id: UUID, session_id: UUID, zone: ZoneInfo) -> Row:
    """Move a client's booking to another session, atomically.

    Raises:
        NotFound: the booking or the session does not exist.
        Conflict: the booking is cancelled or over, the client is not active, or the session cannot take it.
    """
    booking = _standing_booking(connection, booking_id)
    if booking.client_status != "active":
        raise Conflict(f"{booking.client} is {booking.client_status} and cannot book; only active clients can.")
    wanted = _open_session(connection, session_id)
    if queries.is_booked(connection, booking.client_id, session_id):
        raise Conflict(f"{booking.client} is booked into this session already.")
    _must_have_room(wanted)
    queries.move_booking(connection, booking_id, session_id)
    return {
        "booking_id": booking_id,
        "client_id": booking.client_id,
        "client": booking.client,
        "moved_from": {"class_name": booking.class_name, "starts_at": shown(booking.starts_at, zone)},
        **_place(wanted, zone),
    }


def _standing_booking(connection: Connection, booking_id: UUID) -> LockedBooking:
    booking = queries.lock_booking(connection, booking_id)
    if booking is None:
        raise NotFound(f"There is no booking with id {booking_id}. Find bookings with view_client_bookings.")
    if booking.status != "booked":
        raise Conflict(f"This booking is {booking.status} already.")
    if booking.is_over:
        raise Conflict("This class has begun or is over; its booking can no longer be changed.")
    return booking


def _open_session(connection: Connection, session_id: UUID) -> OfferedSession:
    """Lock a session that can still be booked until the transaction ends, and return it. It may be full."""
    queries.lock_session(connection, session_id)
    found = queries.session(connection, session_id)
    if found is None:
        raise NotFound(f"There is no class session with id {session_id}. Find sessions with view_class_schedule.")
    if found.status != "scheduled" or found.is_over:
        raise Conflict("This session is over or was cancelled. Choose another with view_class_schedule.")
    return found


def _must_have_room(session: OfferedSession) -> None:
    if session.places_left <= 0:
        raise Conflict("This session is full. Offer another with view_class_schedule.")


def _place(session: OfferedSession, zone: ZoneInfo) -> Row:
    return {
        "session_id": session.session_id,
        "class_name": session.class_name,
        "starts_at": shown(session.starts_at, zone),
        "instructor": session.instructor,
        "room": session.room,
        "places_left": session.places_left - 1,
    }


# ── money ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def charge_client(
    connection: Connection, maker: Maker, *, client_id: UUID, amount: Decimal, kind: PaymentKind, method: CollectedBy
) -> Row:
    """Request a payment, in the currency of the client's subscription. It is pending until its outcome is reported, and
    lapses after a week without a report. Owners, managers and webhooks are notified to collect it.

    Raises:
        NotFound: there is no such client.
        Conflict: an equal charge was made within a day and is not collected yet.
    """
    who = crm.view_client(connection, client_id)
    currency = who.subscription["currency"] if who.subscription else "EUR"
    row = {"client": client_id, "amount": amount, "currency": currency, "kind": kind, "method": method}
    queries.lock_client(connection, client_id)
    if queries.is_charged(connection, row):
        raise Conflict(f"{amount} {currency} for {kind} was charged to {who.name} already and is being collected.")
    payment_id = new_id()
    made_by = {"org": maker.org_id, "task": maker.task_id, "agent": maker.agent}
    queries.insert_payment(connection, row | {"id": payment_id, **made_by})
    notice = Notice(
        kind="payment.wanted",
        title=f"Collect {amount} {currency} from {who.name}",
        body=f"{maker.agent} charged it for {kind}, by {method}. Say what came of it within a week: "
        f"rota payments settle {payment_id} paid",
        data={"payment_id": str(payment_id), **{name: str(value) for name, value in row.items()}},
    )
    tell_managers(connection, maker.org_id, notice)
    return {"payment_id": payment_id, "client_id": client_id, **row, "client": who.name, "status": "pending"}


def refund_payment(connection: Connection, maker: Maker, payment_id: UUID, amount: Decimal) -> Row:
    """Mark a paid payment as refunded in full, and notify owners, managers and webhooks to return the money. `amount`
    is what the caller believes the payment's amount to be.

    Raises:
        NotFound: there is no such payment.
        Conflict: it is not paid, or refunded already.
        InvalidInput: the payment has another amount.
    """
    payment = queries.lock_payment(connection, payment_id)
    if payment is None:
        raise NotFound(f"There is no payment with id {payment_id}. Find payments with view_client_payments.")
    if payment.status != "paid":
        already = " already" if payment.status == "refunded" else ""
        raise Conflict(f"This payment is {payment.status}{already}; only a paid one can be refunded.")
    if amount != payment.amount:
        raise InvalidInput(
            f"This payment was of {payment.amount} {payment.currency}; only the whole amount can be refunded."
        )
    queries.mark_refunded(connection, payment_id)
    notice = Notice(
        kind="payment.refunded",
        title=f"Give {payment.amount} {payment.currency} back to {payment.client}",
        body=f"{maker.agent} refunded this payment. Return the money the way it came.",
        data={
            "payment_id": str(payment.payment_id),
            "client_id": str(payment.client_id),
            "amount": str(payment.amount),
            "currency": payment.currency,
            "kind": payment.kind,
        },
    )
    tell_managers(connection, maker.org_id, notice)
    return {**asdict(payment), "status_before": payment.status, "status": "refunded"}
