"""Leader election: one of several dispatchers works, and another takes over within seconds when it stops, dies or
freezes.

The leader holds an advisory lock on the same connection that it runs its statements on: when the connection is lost,
so is the leadership, and no further statement of the former leader can run. A frozen leader keeps its connection, and
is displaced by terminating that connection's backend once its last heartbeat is too old.
"""

from datetime import timedelta
from typing import Any

import psycopg

from core.engines import SYSTEM, become
from core.logging import get_logger

log = get_logger(__name__)

_TRY = "SELECT pg_try_advisory_lock(hashtextextended(%(duty)s, 0)) AS got"
_BEFORE = "SELECT rota_now() - last_seen_at AS gap FROM leaders WHERE duty = %(duty)s"
_ELECTED = """
    INSERT INTO leaders (duty, process, backend_pid) VALUES (%(duty)s, %(process)s, pg_backend_pid())
    ON CONFLICT (duty) DO UPDATE SET process = excluded.process, backend_pid = excluded.backend_pid,
           term = leaders.term + 1, elected_at = rota_now(), last_seen_at = rota_now()
    RETURNING term
"""
_ALIVE = """
    UPDATE leaders l SET last_seen_at = rota_now()
      FROM (SELECT duty, last_seen_at FROM leaders WHERE duty = %(duty)s FOR UPDATE) AS before
     WHERE l.duty = before.duty AND l.backend_pid = pg_backend_pid()
    RETURNING rota_now() - before.last_seen_at AS silence
"""
# The pid must belong to the session that holds the duty's lock in this database: process ids are reused. The server
# shows a lock of one 64-bit key as two halves.
_DISPLACE = """
    SELECT l.process, pg_terminate_backend(l.backend_pid) AS ended
      FROM leaders l JOIN pg_locks k ON k.pid = l.backend_pid AND k.locktype = 'advisory' AND k.granted
     WHERE l.duty = %(duty)s AND l.last_seen_at < rota_now() - %(lease)s
       AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (CAST(k.classid AS bigint) << 32) | CAST(k.objid AS bigint) = hashtextextended(%(duty)s, 0)
"""


class Leadership:
    """One candidate for a duty, on its own connection."""

    def __init__(
        self, connection: psycopg.Connection[dict[str, Any]], *, duty: str, process: str, lease: timedelta
    ) -> None:
        self._connection = connection
        self._values = {"duty": duty, "process": process, "lease": lease}
        self.leads = False
        self.gap: timedelta | None = None
        """time between the last heartbeat of the leader before and our election; None if there was no leader before"""

    def campaign(self) -> bool:
        """Try to become the leader, and displace a frozen one. Return whether this process leads now."""
        row = self._connection.execute(_TRY, self._values).fetchone()
        self.leads = bool(row and row["got"])
        if self.leads:
            before = self._connection.execute(_BEFORE, self._values).fetchone()
            self.gap = before["gap"] if before else None
            elected = self._connection.execute(_ELECTED, self._values).fetchone()
            log.info("leads", duty=self._values["duty"], term=elected["term"] if elected else None)
        else:
            self._displace_silent_leader()
        return self.leads

    def _displace_silent_leader(self) -> None:
        # The login may terminate its own sessions, whatever role they act as; the role that we act as may not.
        self._connection.execute("RESET ROLE")
        try:
            for displaced in self._connection.execute(_DISPLACE, self._values).fetchall():
                log.warning("displaced a silent leader", process=displaced["process"])
        finally:
            become(self._connection, SYSTEM)

    def show_life(self) -> timedelta:
        """Record the leader's heartbeat. Return the time since the previous one, by the database's clock."""
        row: Any = self._connection.execute(_ALIVE, self._values).fetchone()
        return timedelta(0) if row is None else row[0]
