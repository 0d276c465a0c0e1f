"""All SQL about the installation as a whole."""

from datetime import timedelta

from sqlalchemy import Connection, RowMapping, text

_LEADERS = text("""
    SELECT duty, process, term, elected_at, extract(epoch FROM rota_now() - last_seen_at)::float AS silent_seconds
      FROM leaders ORDER BY duty
""")


def leaders(connection: Connection) -> list[RowMapping]:
    """Who leads what, and how long ago they were last heard of."""
    return list(connection.execute(_LEADERS).mappings())


_COUNTS = text("""
    SELECT status, priority, count(*) AS tasks,
           greatest(0, extract(epoch FROM max(rota_now() - run_after)))::float AS oldest_seconds
      FROM tasks WHERE status IN ('queued', 'running', 'waiting') GROUP BY status, priority
""")


def unfinished(connection: Connection) -> list[RowMapping]:
    """Unfinished tasks of all organisations."""
    return list(connection.execute(_COUNTS).mappings())


_WORKERS = text("""
    SELECT CASE WHEN last_seen_at < rota_now() - CAST(:lease AS interval) THEN 'silent' ELSE 'alive' END AS status,
           count(*) AS workers, sum(concurrency) AS concurrency
      FROM workers
     WHERE stopped_at IS NULL AND last_seen_at > rota_now() - interval '1 hour' GROUP BY 1
""")


def workers(connection: Connection, lease: timedelta) -> list[RowMapping]:
    """Workers that are there, and those that went silent within the hour."""
    return list(connection.execute(_WORKERS, {"lease": lease}).mappings())


def revision(connection: Connection) -> str | None:
    """The migration that the database is at."""
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found
