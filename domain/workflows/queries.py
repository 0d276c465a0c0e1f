"""All SQL about workflows."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from core.json_text import dump_json


def workflows(connection: Connection) -> list[RowMapping]:
    """Return all workflows, ordered by slug."""
    statement = text("SELECT slug, name, steps, changed_at FROM workflows ORDER BY slug")
    return list(connection.execute(statement).mappings())


def workflow(connection: Connection, slug: str) -> RowMapping | None:
    """Return the workflow called `slug`, or None."""
    statement = text("SELECT slug, name, steps, changed_at FROM workflows WHERE slug = :slug")
    return connection.execute(statement, {"slug": slug}).mappings().one_or_none()


def put_workflow(connection: Connection, row: dict[str, Any]) -> None:
    """Insert or update a workflow."""
    statement = text("""
        INSERT INTO workflows (org_id, slug, name, steps) VALUES (:org, :slug, :name, CAST(:steps AS jsonb))
        ON CONFLICT (org_id, slug) DO UPDATE
           SET name = excluded.name, steps = excluded.steps, changed_at = rota_now()
    """)
    connection.execute(statement, row | {"steps": dump_json(row["steps"])})


def delete_workflow(connection: Connection, slug: str) -> bool:
    """Delete a workflow; its runs stay. Return whether it existed."""
    return connection.execute(text("DELETE FROM workflows WHERE slug = :slug"), {"slug": slug}).rowcount == 1


def insert_run(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a run of a workflow."""
    statement = text(
        "INSERT INTO workflow_runs (id, org_id, slug, variables, tasks) "
        "VALUES (:id, :org, :slug, CAST(:variables AS jsonb), :tasks)"
    )
    connection.execute(statement, row | {"variables": dump_json(row["variables"])})


_RUN = "SELECT id, slug, variables, tasks, started_at FROM workflow_runs"


def run(connection: Connection, run_id: UUID) -> RowMapping | None:
    """Return the run with this id, or None."""
    return connection.execute(text(f"{_RUN} WHERE id = :id"), {"id": run_id}).mappings().one_or_none()


def runs(connection: Connection, slug: str, limit: int) -> list[RowMapping]:
    """Return the latest runs of a workflow, newest first."""
    statement = text(f"{_RUN} WHERE slug = :slug ORDER BY id DESC LIMIT :limit")
    return list(connection.execute(statement, {"slug": slug, "limit": limit}).mappings())
