"""The gym's duties."""

from datetime import timedelta
from uuid import UUID

from business.office import records
from business.office.schemas import LapsedCharge
from core.db import system_transaction, transaction
from core.duties import Duty, for_each
from domain.channels.schemas import Notice
from domain.office.telling import tell_managers

CHARGE_PATIENCE = timedelta(days=7)
_PORTION = 100


def lapse_charges() -> None:
    """Lapse charges that were not collected in time, and notify owners and managers."""
    with system_transaction() as connection:
        in_need = records.organisations_with_overdue_charges(connection, CHARGE_PATIENCE)
    for_each(in_need, "charges not lapsed", _lapse)


def _lapse(org: UUID) -> None:
    with transaction(org) as connection:
        for charge in records.lapse_charges(connection, CHARGE_PATIENCE, _PORTION):
            tell_managers(connection, org, _lapsed(charge))


def _lapsed(charge: LapsedCharge) -> Notice:
    amount = f"{charge.amount} {charge.currency}"
    return Notice(
        kind="payment.lapsed",
        title=f"A charge of {amount} has lapsed",
        body=f"Nobody said within {CHARGE_PATIENCE.days} days what came of it. If it was collected after all: "
        f"rota payments settle {charge.id} paid",
        data={"payment_id": str(charge.id), "client_id": str(charge.client_id), "amount": str(charge.amount)},
    )


DUTIES = (
    Duty(
        "lapse-charges", timedelta(seconds=5), "a charge that is never collected does not stay pending", lapse_charges
    ),
)
