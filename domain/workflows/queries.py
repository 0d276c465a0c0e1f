"""All SQL about workflows."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.json_text import dump_json
from core.rows import fetch_all, fetch_optional
from domain.workflows.schemas import Run, Workflow


def workflows(connection: Connection) -> list[Workflow]:
    """Return all workflows, ordered by slug."""
    statement = text("SELECT slug, name, steps, changed_at FROM workflows ORDER BY slug")
    return fetch_all(connection.execute(statement), Workflow)


def workflow(connection: Connection, slug: str) -> Workflow | None:
    """Return the workflow called `slug`, or None."""
    statement = text("SELECT slug, name, steps, changed_at FROM workflows WHERE slug = :slug")
    return fetch_optional(connection.execute(statement, {"slug": slug}), Workflow)


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


def run(connection: Connection, run_id: UUID) -> Run | None:
    """Return the run with this id, or None."""
    return fetch_optional(connection.execute(text(f"{_RUN} WHERE id = :id"), {"id": run_id}), Run)


def runs(connection: Connection, slug: str, limit: int) -> list[Run]:
    """Return the latest runs of a workflow, newest first."""
    statement = text(f"{_RUN} WHERE slug = :slug ORDER BY id DESC LIMIT :limit")
    return fetch_all(connection.execute(statement, {"slug": slug, "limit": limit}), Run)
