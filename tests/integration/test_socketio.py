"""Socket.IO: the feed of events under the names that its clients know, with the permissions of the streams."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from api.app import make_app
from core.settings import Settings
from tests.support.factories import make_key, submit
from tests.support.servers import SECRET_KEY, serving
from tests.support.socketio import connected


@pytest.fixture(scope="module")
def address(config: Settings) -> Iterator[str]:
    with serving(make_app(), http="api.connections:GuardedProtocol", ws="websockets-sansio") as url:
        yield url


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
def test_a_client_hears_events_under_their_own_names(address: str, org: UUID, transports: list[str]) -> None:
    key = make_key(org, SECRET_KEY)
    with connected(address, key, transports=transports) as caller:
        assert caller.call("subscribe", {"types": ["task.*"]}) == {"ok": True, "room": "organisation"}
        caller.until("ready")
        task = submit(org)
        told = caller.until("task.accepted")
        assert told["type"] == "task.accepted"
        assert told["room"] == "organisation"
        assert told["data"]["task_id"] == str(task.id)
