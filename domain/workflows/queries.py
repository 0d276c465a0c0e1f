"""All SQL about workflows."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from core.db import dump_json


def workflows(connection: Connection) -> list[RowMapping]:
    """Every workflow."""
    statement = text("SELECT slug, name, steps, changed_at FROM workflows ORDER BY slug")
    return list(connection.execute(statement).mappings())


def workflow(connection: Connection, slug: str) -> RowMapping | None:
    """The workflow called `slug`."""
    statement = text("SELECT slug, name, steps, changed_at FROM workflows WHERE slug = :slug")
    return connection.execute(statement, {"slug": slug}).mappings().one_or_none()


def put_workflow(connection: Connection, row: dict[str, Any]) -> None:
    """Add or change a workflow."""
    statement = text("""
        INSERT INTO workflows (org_id, slug, name, steps) VALUES (:org, :slug, :name, CAST(:steps AS jsonb))
        ON CONFLICT (org_id, slug) DO UPDATE
           SET name = excluded.name, steps = excluded.steps, changed_at = rota_now()
    """)
    connection.execute(statement, row | {"steps": dump_json(row["steps"])})


def delete_workflow(connection: Connection, slug: str) -> bool:
    """Take a workflow away; its runs stay."""
    return connection.execute(text("DELETE FROM workflows WHERE slug = :slug"), {"slug": slug}).rowcount == 1


def insert_run(connection: Connection, row: dict[str, Any]) -> None:
    """Note that a workflow was started."""
    statement = text(
        "INSERT INTO workflow_runs (id, org_id, slug, variables, tasks) "
        "VALUES (:id, :org, :slug, CAST(:variables AS jsonb), :tasks)"
    )
    connection.execute(statement, row | {"variables": dump_json(row["variables"])})


_RUN = "SELECT id, slug, variables, tasks, started_at FROM workflow_runs"


def run(connection: Connection, run_id: UUID) -> RowMapping | None:
    """One run."""
    return connection.execute(text(f"{_RUN} WHERE id = :id"), {"id": run_id}).mappings().one_or_none()


def runs(connection: Connection, slug: str, limit: int) -> list[RowMapping]:
    """The latest runs of a workflow."""
    statement = text(f"{_RUN} WHERE slug = :slug ORDER BY id DESC LIMIT :limit")
    return list(connection.execute(statement, {"slug": slug, "limit": limit}).mappings())
