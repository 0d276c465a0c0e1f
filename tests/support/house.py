"""A client of OpenAI's wire, and a worker whose model says what the test tells it."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx2
import openai

from agents.llm.models import Models
from core.settings import Settings
from tests.support.desk import Desk
from tests.support.factories import change_agent, dispatch, make_key
from tests.support.models import Talker
from tests.support.servers import SECRET_KEY, serving, wait_until
from workers.words import RedisSink


class House:
    """The official client of an organisation, and a worker whose model is a talker."""

    def __init__(self, org: UUID, url: str, talker: Talker, desk: Desk) -> None:
        self.org, self.url, self.talker, self.desk = org, url, talker, desk
        self.key = make_key(org, SECRET_KEY)
        self.client: Any = openai.OpenAI(
            api_key=self.key, base_url=f"{url}/openai/v1", max_retries=0, timeout=30
        )  # Any: what a response adds to OpenAI's types is read here

    def get(self, path: str) -> Any:
        """What our own API answers, with the same key."""
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx2.get(f"{self.url}{path}", headers=headers, trust_env=False).raise_for_status().json()

    def work(self, times: int = 1) -> None:
        """Do what is due, once something is, so many times."""
        for _ in range(times):
            due = wait_until(lambda: [one for one in dispatch() if one.org_id == self.org], what="a task is due")
            for one in due:
                self.desk.executor.execute(one.org_id, one.id, one.claim)

    @contextlib.contextmanager
    def working(self, times: int = 1) -> Iterator[None]:
        """Within, the worker does what becomes due, so many times."""
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(self.work, times)
            try:
                yield
            finally:
                working.result(timeout=30)

    def ask(self, **body: Any) -> Any:
        """A completion, while the worker works."""
        with self.working():
            return self.client.chat.completions.create(model="support-assistant", **body)

    def respond(self, asked: Any, **body: Any) -> Any:
        """A response, while the worker works."""
        with self.working():
            return self.client.responses.create(**{"model": "support-assistant", "input": asked} | body)


@contextlib.contextmanager
def keeping_house(org: UUID, served: str, config: Settings) -> Iterator[House]:
    """A client and a worker of an organisation, whose API is at `served`."""
    talker = Talker()
    sink = RedisSink(config.redis_url, every=0.0)
    sink.start()
    with serving(talker.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="k")), sink)
        change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
        talker.let_through()
        made = House(org, served, talker, desk)
        yield made
        made.client.close()
        talker.let_through()
        desk.close()
    sink.stop()
