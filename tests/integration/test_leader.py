"""Who leads among dispatchers, and who is displaced."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from core import engines
from core.ids import new_id
from core.settings import Settings
from tests.support.servers import wait_until
from workers.leader import Leadership

LEASE = timedelta(seconds=10)


@pytest.fixture
def duty(config: Settings) -> Iterator[str]:
    """The name of a duty that no other test leads."""
    name = f"duty-{new_id().hex[-8:]}"
    yield name
    with session(config) as connection:
        connection.execute("DELETE FROM leaders WHERE duty = %s", (name,))


def session(config: Settings) -> psycopg.Connection[dict[str, Any]]:
    made: Any = psycopg.connect(engines.role_url(config, engines.SYSTEM), autocommit=True, row_factory=dict_row)
    engines.become(made, engines.SYSTEM)
    return made  # type: ignore[no-any-return]


def candidate(connection: psycopg.Connection[dict[str, Any]], duty: str, process: str) -> Leadership:
    return Leadership(connection, duty=duty, process=process, lease=LEASE)


def fall_silent(connection: psycopg.Connection[dict[str, Any]], duty: str) -> None:
    connection.execute("UPDATE leaders SET last_seen_at = rota_now() - interval '1 minute' WHERE duty = %s", (duty,))


def test_one_leads_until_its_connection_ends(config: Settings, duty: str) -> None:
    with session(config) as first, session(config) as second:
        assert candidate(first, duty, "a").campaign()
        waiting = candidate(second, duty, "b")
        assert not waiting.campaign()
        first.close()
        wait_until(waiting.campaign, what="the lock is free")


def test_a_leader_that_is_silent_is_displaced(config: Settings, duty: str) -> None:
    with session(config) as first, session(config) as second:
        assert candidate(first, duty, "a").campaign()
        waiting = candidate(second, duty, "b")
        fall_silent(second, duty)
        wait_until(waiting.campaign, what="the frozen leader is displaced")
        with pytest.raises(psycopg.OperationalError):
            first.execute("SELECT 1")


def test_a_session_that_got_the_process_id_of_a_dead_leader_is_left_alone(config: Settings, duty: str) -> None:
    with session(config) as stranger, session(config) as leading, session(config) as waiting:
        stranger.execute("SELECT pg_advisory_lock(hashtextextended('another lock', 0))")
        assert candidate(leading, duty, "a").campaign()
        leading.execute("UPDATE leaders SET backend_pid = %s WHERE duty = %s", (stranger.info.backend_pid, duty))
        fall_silent(leading, duty)
        assert not candidate(waiting, duty, "b").campaign()
        assert stranger.execute("SELECT 1 AS one").fetchone() == {"one": 1}
