"""All SQL about arms and choices."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all
from domain.learning.schemas import Arm, StoredChoice, Tally

_COUNTS = text("""
    SELECT option, successes, failures FROM arms
     WHERE policy = :policy AND context = :context AND option = ANY(:options)
""")
_INSERT = text("""
    INSERT INTO choices (id, org_id, policy, context, option, options, propensity, is_exploration, subject)
    VALUES (:id, :org, :policy, :context, :option, CAST(:options AS jsonb), :propensity, :is_exploration, :subject)
""")
_CHOSEN = text("""
    INSERT INTO arms AS a (org_id, policy, context, option, chosen, explored)
    VALUES (:org, :policy, :context, :option, 1, CAST(:is_exploration AS boolean)::int)
    ON CONFLICT (org_id, policy, context, option) DO UPDATE
       SET chosen = a.chosen + 1, explored = a.explored + excluded.explored, changed_at = rota_now()
""")
# One statement settles and counts a choice, so that an outcome that is reported twice counts once. Choices are locked
# and arms updated in key order, so that two concurrent settlements cannot deadlock.
_SETTLE = text("""
    WITH told AS MATERIALIZED (
        SELECT id, outcome FROM jsonb_to_recordset(CAST(:outcomes AS jsonb)) AS t (id uuid, outcome text)
    ), locked AS MATERIALIZED (
        SELECT id FROM choices WHERE id IN (SELECT id FROM told) AND outcome IS NULL ORDER BY id FOR UPDATE
    ), settled AS (
        UPDATE choices SET outcome = told.outcome, settled_at = rota_now()
          FROM told JOIN locked USING (id)
         WHERE choices.id = told.id AND choices.outcome IS NULL
        RETURNING org_id, policy, context, option, choices.outcome
    ), counted AS (
        SELECT org_id, policy, context, option, count(*) FILTER (WHERE outcome = 'success') AS successes,
               count(*) FILTER (WHERE outcome = 'failure') AS failures
          FROM settled GROUP BY org_id, policy, context, option ORDER BY org_id, policy, context, option
    )
    INSERT INTO arms AS a (org_id, policy, context, option, successes, failures)
    SELECT * FROM counted
    ON CONFLICT (org_id, policy, context, option) DO UPDATE
       SET successes = a.successes + excluded.successes, failures = a.failures + excluded.failures,
           changed_at = rota_now()
""")
_ARM = """policy, context, option, successes, failures, chosen, explored, changed_at,
          (1 + successes)::float / (2 + successes + failures) AS expected_rate"""
_CHOICE = "id, policy, context, option, options, propensity, is_exploration, subject, made_at, outcome, settled_at"


def counts(connection: Connection, policy: str, context: str, options: Iterable[str]) -> list[Tally]:
    """Return successes and failures of the options that have an arm."""
    bound = {"policy": policy, "context": context, "options": list(options)}
    return fetch_all(connection.execute(_COUNTS, bound), Tally)


def insert_choice(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a choice and count it in its arm."""
    connection.execute(_INSERT, row | {"options": dump_json(row["options"])})
    connection.execute(_CHOSEN, row)


def settle(connection: Connection, outcomes: dict[UUID, str]) -> None:
    """Record the outcomes of choices. Choices that are settled already are left unchanged."""
    listed = [{"id": str(choice), "outcome": outcome} for choice, outcome in outcomes.items()]
    connection.execute(_SETTLE, {"outcomes": dump_json(listed)})


def arms(connection: Connection, policy: str | None) -> list[Arm]:
    """Return the arms of one policy or of all."""
    only = "WHERE policy = :policy" if policy else ""
    statement = text(f"SELECT {_ARM} FROM arms {only} ORDER BY policy, context, option")  # noqa: S608
    return fetch_all(connection.execute(statement, {"policy": policy}), Arm)


def choices(connection: Connection, policy: str | None, *, before: UUID | None, limit: int) -> list[StoredChoice]:
    """Return choices, the latest first."""
    conditions = [*(["policy = :policy"] if policy else []), *(["id < :before"] if before else [])]
    wanted = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(f"SELECT {_CHOICE} FROM choices {wanted} ORDER BY id DESC LIMIT :limit")  # noqa: S608
    bound = {"policy": policy, "before": before, "limit": limit}
    return fetch_all(connection.execute(statement, bound), StoredChoice)
