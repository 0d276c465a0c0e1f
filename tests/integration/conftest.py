"""Fixtures for tests against real servers, one set of servers for each test process."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from core import db, engines
from core.ids import new_id
from core.settings import Settings
from tests.support import servers
from tests.support.factories import make_organisation


@pytest.fixture(scope="session")
def config(home: Path) -> Iterator[Settings]:
    """A migrated database and a Valkey, and this process pointed at them."""
    with servers.postgres(home / "pg") as postgres, servers.valkey(home / "valkey") as valkey:
        yield servers.configure(postgres, valkey.url(), home / "blobs")
        engines.dispose_engines()


@pytest.fixture
def org(config: Settings) -> UUID:
    """An organisation of the test's own, with the ready-made agents. No task of an earlier test is left."""
    with db.system_transaction() as connection:
        connection.execute(text("DELETE FROM tasks"))
        for table in (
            "workers",
            "provider_limits",
            "provider_paces",
            "provider_alerts",
            "concurrency_keys",
            "key_changes",
        ):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608
    return make_organisation(f"org-{new_id().hex[-12:]}")
