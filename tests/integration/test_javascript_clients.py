"""Official JavaScript clients, unmodified. Those of Socket.IO are in test_socketio.py."""

import threading
from collections.abc import Iterator
from uuid import UUID

import pytest

from agents.llm.models import Models
from api.app import make_app
from core.settings import Settings
from tests.support import javascript
from tests.support.desk import Desk
from tests.support.factories import change_agent, dispatch, make_key
from tests.support.models import Talker
from tests.support.servers import SECRET_KEY, serving
from workers.words import RedisSink

PIECES = [f"{number} ñ🎉 " for number in range(50)]
TEXT = "".join(PIECES)


@pytest.fixture(scope="module")
def address(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def worker(org: UUID, config: Settings) -> Iterator[Talker]:
    """The model of a worker that runs whatever is due: it says a text of many pieces, twice."""
    talker, is_over = Talker(PIECES, PIECES), threading.Event()
    talker.let_through()
    sink = RedisSink(config.redis_url, every=0.0)
    with serving(talker.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="k")), sink)
        sink.start()
        change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)

        def work() -> None:
            while not is_over.wait(0.02):
                for one in dispatch():
                    if one.org_id == org:
                        desk.executor.execute(one.org_id, one.id, one.claim)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield talker
        is_over.set()
        thread.join(30)
        sink.stop()
        desk.close()


@pytest.mark.usefixtures("worker")
def test_the_client_of_openai_lists_models_and_completes_chats(address: str, org: UUID) -> None:
    key = make_key(org, SECRET_KEY)
    told = javascript.run("openai.mjs", url=address, token=key, model="support-assistant")
    assert "support-assistant" in told["models"]
    assert (told["whole"]["text"], told["whole"]["finish"]) == (TEXT, "stop")
    assert told["whole"]["usage"]["total_tokens"] == 15
    assert (told["streamed"]["text"], told["streamed"]["finish"]) == (TEXT, "stop")
    assert told["streamed"]["usage"]["total_tokens"] == 15
    assert told["refused"] == {"status": 401, "name": "AuthenticationError"}


def test_the_client_of_openai_has_responses_whole_cut_and_with_a_tool_of_its_own(
    address: str, org: UUID, worker: Talker
) -> None:
    worker.answers += [[("get_weather", "{}")], ["No umbrella."]]
    key = make_key(org, SECRET_KEY)
    told = javascript.run("responses.mjs", url=address, token=key, model="support-assistant")
    assert told["whole"] == {"text": TEXT, "status": "completed"}
    assert told["streamed"]["text"] == TEXT
    assert told["streamed"]["numbers"] == list(range(len(told["streamed"]["numbers"])))
    assert (told["streamed"]["types"][0], told["streamed"]["types"][-1]) == ("response.created", "response.completed")
    assert told["stored"] == {"text": TEXT, "previous": True}
    assert told["call"] == {"name": "get_weather", "arguments": "{}"}
    assert told["answered"] == "No umbrella."
    assert told["items"] == ["Again."]
