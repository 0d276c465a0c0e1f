"""Operations on choices and their outcomes."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import Connection

from core.ids import new_id
from domain.learning import queries
from domain.learning.schemas import Arm, NewChoice, Outcome, StoredChoice, Tally


def known(connection: Connection, policy: str, context: str, options: Iterable[str]) -> dict[str, Tally]:
    """Return the tally of each option in this context, all zero for options never tried."""
    tallies = {option: Tally(option) for option in options}
    return tallies | {tally.option: tally for tally in queries.counts(connection, policy, context, tallies)}


def note(connection: Connection, org: UUID, choice: NewChoice) -> UUID:
    """Record a choice. Returns its id, under which the outcome is reported later."""
    choice_id = new_id()
    queries.insert_choice(connection, {"id": choice_id, "org": org, **choice.model_dump()})
    return choice_id


def settle(connection: Connection, outcomes: Mapping[UUID, Outcome]) -> None:
    """Record the outcomes of choices. Idempotent: each choice counts once."""
    if outcomes:
        queries.settle(connection, dict(outcomes))


def list_arms(connection: Connection, policy: str | None = None) -> list[Arm]:
    """Return the statistics of each option, of one policy or of all."""
    return queries.arms(connection, policy)


def list_choices(
    connection: Connection, policy: str | None = None, *, before: UUID | None = None, limit: int = 50
) -> list[StoredChoice]:
    """Return choices, the latest first."""
    return queries.choices(connection, policy, before=before, limit=limit)
