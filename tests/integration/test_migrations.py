"""The database itself: roles, row-level security, and tables that the code and the migrations agree on."""

from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import inspect, text

import business.crm.models
import business.office.models
import domain.agents.models
import domain.billing.models
import domain.office.models
import domain.tasks.models
from core import db, engines
from core.migrations import migrate, newest_revision
from core.settings import Settings
from core.tables import metadata
from tests.support import servers
from tests.support.factories import make_organisation, make_row, submit

_MODELS = [
    business.crm.models,
    business.office.models,
    domain.agents.models,
    domain.billing.models,
    domain.office.models,
    domain.tasks.models,
]


def test_every_table_with_an_organisation_has_forced_row_level_security_and_policies_for_all_roles(
    config: Settings,
) -> None:
    with engines.engine(engines.SYSTEM).connect() as connection:
        rows = connection.execute(
            text("""
                SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner) AS owner,
                       (SELECT array_agg(DISTINCT r.rolname::text ORDER BY r.rolname::text)
                          FROM pg_policy p JOIN pg_roles r ON r.oid = ANY(p.polroles) WHERE p.polrelid = c.oid) AS roles
                  FROM pg_class c
                 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
                   AND (c.relname = 'organisations' OR EXISTS (
                        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id'))
            """)
        ).all()
    assert len(rows) >= 15
    for row in rows:
        assert row.relrowsecurity, row.relname
        assert row.relforcerowsecurity, row.relname
        assert row.owner == "rota_owner", row.relname
        assert row.roles == ["rota_app", "rota_owner", "rota_system"], row.relname


# Tables about people or places that a transaction limited to some locations sees whole, and why.
_SEEN_EVERYWHERE = {
    "grants": "where a user may do what is asked before it is known which locations that are",
    "outbox": "messages are read with a permission for the whole organisation only (decision 0013)",
}


def test_a_table_about_a_contact_or_a_location_is_restricted_to_locations(config: Settings) -> None:
    with engines.engine(engines.SYSTEM).connect() as connection:
        unrestricted = connection.execute(
            text("""
                SELECT c.relname FROM pg_class c
                 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
                   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY(:columns))
                   AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive)
            """),
            {"columns": ["contact", "contact_id", "client_id", "lead_id", "location_id"]},
        ).scalars()
        assert set(unrestricted) == set(_SEEN_EVERYWHERE), "Its migration calls restrict_to_locations, or says why not."


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_models_name_the_columns_that_the_migrations_made(config: Settings, table: str) -> None:
    assert _MODELS
    columns = inspect(engines.engine(engines.SYSTEM)).get_columns(table)
    assert {column["name"] for column in columns} == set(metadata.tables[table].columns.keys())


def test_roles_are_neither_superusers_nor_above_row_level_security(config: Settings) -> None:
    with engines.engine(engines.SYSTEM).connect() as connection:
        rows = connection.execute(
            text("SELECT rolname, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname LIKE 'rota%'")
        ).all()
    assert {row.rolname for row in rows} == {"rota_app", "rota_owner", "rota_system"}
    assert not any(row.rolsuper or row.rolbypassrls or row.rolcreaterole for row in rows)


def test_an_organisation_sees_and_writes_only_its_own_rows(org: UUID) -> None:
    other = make_organisation("other-tenant")
    task = submit(other, "secret")
    client = make_row(other, "clients", name="Secret Client")
    with db.transaction(org) as connection:
        for table in ("tasks", "clients", "contacts", "agents", "organisations"):
            column = "id" if table == "organisations" else "org_id"
            seen = connection.execute(text(f"SELECT DISTINCT {column} FROM {table}")).scalars().all()  # noqa: S608
            assert set(seen) <= {org}
        assert connection.execute(text("UPDATE tasks SET agent = 'x' WHERE id = :id"), {"id": task.id}).rowcount == 0
        for table in ("clients", "contacts"):
            gone = connection.execute(text(f"DELETE FROM {table} WHERE id = :id"), {"id": client})  # noqa: S608
            assert gone.rowcount == 0
        for view in ("client_contacts", "lead_contacts"):
            assert connection.execute(text(f"SELECT count(*) FROM {view}")).scalar_one() == 0  # noqa: S608


def test_writing_into_another_organisation_is_refused(org: UUID) -> None:
    other = make_organisation("another-tenant")
    with pytest.raises(Exception, match="row-level security"), db.transaction(org) as connection:
        connection.execute(text("UPDATE agents SET org_id = :other"), {"other": other})


def test_without_an_organisation_nothing_is_seen(org: UUID, config: Settings) -> None:
    submit(org)
    with psycopg.connect(config.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM organisations").fetchone() == (0,)


def test_usage_rows_can_be_neither_changed_nor_deleted(org: UUID) -> None:
    for statement in ("UPDATE usage SET billed_cost = 0", "DELETE FROM usage"):
        with pytest.raises(Exception, match="permission denied"), db.transaction(org) as connection:
            connection.execute(text(statement))


def test_migrating_again_changes_nothing(config: Settings) -> None:
    assert migrate(config) == newest_revision()


@pytest.mark.parametrize("version", [16, 18])
def test_one_login_can_serve_all_three_roles(home: Path, version: int) -> None:
    with servers.postgres(home / f"single-{version}", version=version) as server:
        single = Settings(
            database_url=server.url("postgres", "postgres"), owner_database_url=None, system_database_url=None
        )
        assert migrate(single) == newest_revision()
        engine = engines.make_engine(single, engines.APP)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT current_user")).scalar_one() == "rota_app"
            assert connection.execute(text("SELECT count(*) FROM tasks")).scalar_one() == 0
        engine.dispose()
