"""Operations on retention: read it, change it, and list what applies to every organisation."""

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Connection

from core.errors import InvalidInput
from core.settings import settings
from domain.retention import queries, rules
from domain.retention.schemas import Chosen, Retention, RetentionChange, Term, Terms

What = Literal["reads", "changes", "conversations"]
_DAY = timedelta(days=1)


def terms() -> Terms:
    """Return what the installation sets."""
    config = settings()
    return Terms(
        reads=Term(config.keep_reads, _DAY, config.keep_most),
        changes=Term(config.keep_changes, config.keep_changes_least, config.keep_most),
        conversations=Term(config.keep_conversations, _DAY, config.keep_most),
    )


def get(connection: Connection, org: UUID) -> Retention:
    """Return how long an organisation keeps what."""
    mine, given = queries.chosen(connection, org) or Chosen(org), terms()
    return Retention(
        reads=rules.shown(given.reads, mine.reads),
        changes=rules.shown(given.changes, mine.changes),
        conversations=rules.shown(given.conversations, mine.conversations),
    )


def change(connection: Connection, org: UUID, wanted: RetentionChange) -> Retention:
    """Change how long an organisation keeps what.

    Raises:
        InvalidInput: the installation allows no such time.
    """
    given = terms()
    fields: dict[str, int | None] = wanted.model_dump(exclude_unset=True)
    refused = [rules.refusal(what, getattr(given, what), days) for what, days in fields.items() if days is not None]
    if why := " ".join(reason for reason in refused if reason):
        raise InvalidInput(why)
    row = dataclasses.asdict(queries.chosen(connection, org) or Chosen(org))
    del row["org"]
    queries.put_chosen(connection, org, row | {what: days and timedelta(days=days) for what, days in fields.items()})
    return get(connection, org)


def kept_by_all(connection: Connection, what: What) -> Mapping[UUID, timedelta]:
    """Return how long each organisation keeps something; those that keep it for ever are left out."""
    term: Term = getattr(terms(), what)
    kept = {one.org: rules.kept_for(term, getattr(one, what)) for one in queries.chosen_by_all(connection)}
    return {org: time for org, time in kept.items() if time is not None}
