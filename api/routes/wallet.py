"""Prepaid tokens: balance, top-ups, corrections, statement, the price list."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from api.routes.tasks import IdempotencyKey
from core.db import system_transaction, transaction
from core.wakeup import wakeup
from domain.dispatch import funding
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from domain.wallet import service as wallet
from domain.wallet.schemas import (
    Balance,
    Correction,
    NewTokenPrice,
    PriceItem,
    Reconciliation,
    Statement,
    TokenPrice,
    TopUp,
)
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["wallet"])

Slug = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Reads = Annotated[Principal, Depends(Needs("wallet:read"))]
ReadsPrices = Annotated[Principal, Depends(Needs("wallet:read", at_a_location=True))]
Operator = Annotated[Principal, Depends(Needs(GOVERN))]


@router.get("/wallet", responses=describes(401, 403))
def get_balance(caller: Reads) -> Balance:
    """Return the balance in tokens, and the part that is held for tasks."""
    with caller.reading() as connection:
        return wallet.balance(connection, caller.org_id)


@router.post("/organisations/{slug}/top-ups", responses=describes(401, 403, 404, 409, 422))
def top_up(slug: Slug, wanted: TopUp, caller: Operator, idempotency_key: IdempotencyKey = None) -> Balance:
    """Add tokens that an organisation bought. Pays owed fees first, then resumes tasks that wait for funds. For
    operators.
    """
    with system_transaction() as connection:
        org = tenants.organisation_called(connection, slug).id
        caller.note(connection, tokens=wanted.tokens)
        balance = wallet.top_up(connection, org, wanted, user_id=caller.user_id, reference=idempotency_key)
    _go_on(org)
    return balance


@router.post("/organisations/{slug}/corrections", responses=describes(401, 403, 404, 409, 422))
def correct(slug: Slug, wanted: Correction, caller: Operator) -> Balance:
    """Correct the ledger by a new entry; existing entries never change. For operators."""
    with system_transaction() as connection:
        org = tenants.organisation_called(connection, slug).id
        caller.note(connection, tokens=wanted.tokens, note=wanted.note)
        balance = wallet.correct(connection, org, wanted, user_id=caller.user_id)
    _go_on(org)
    return balance


def _go_on(org: UUID) -> None:
    with transaction(org) as connection:
        funding.resume_waiting(connection, org)
    wakeup.hint()


@router.get("/wallet/statement", responses=describes(401, 403, 422))
def statement(
    caller: Reads,
    before: UUID | None = None,
    task: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Statement:
    """List the entries of the ledger, newest first, each with its task and step."""
    with caller.reading() as connection:
        return wallet.statement(connection, caller.org_id, before=before, task=task, limit=limit)


@router.get("/wallet/reconciliation", responses=describes(401, 403))
def reconcile(caller: Reads) -> Reconciliation:
    """Compare the balance with the sum of all ledger entries."""
    with caller.reading() as connection:
        return wallet.reconcile(connection, caller.org_id)


@router.get("/token-prices", responses=describes(401))
def price_list(caller: ReadsPrices, history: bool = False) -> list[TokenPrice]:
    """List the prices of actions in tokens; with `history`, also earlier prices."""
    with caller.reading() as connection:
        return wallet.price_list(connection, history=history)


@router.put("/token-prices/{item}", responses=describes(401, 403, 422))
def set_price(item: PriceItem, wanted: NewTokenPrice, caller: Operator) -> list[TokenPrice]:
    """Set a price from now on. Earlier charges do not change. For operators."""
    with system_transaction() as connection:
        caller.note(connection, item=item, tokens=wanted.tokens)
        return wallet.set_price(connection, item, wanted, set_by=str(caller.user_id))
