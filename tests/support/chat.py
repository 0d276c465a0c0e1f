"""A client of the API that converses with an agent, and the worker that answers."""

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2

from agents.llm.models import Models
from core.settings import Settings
from tests.support.desk import Desk
from tests.support.factories import change_agent, dispatch, make_key
from tests.support.listening import Ear
from tests.support.models import Talker
from tests.support.servers import SECRET_KEY, serving


class Chat:
    """A client of the API that converses with an agent whose model is a talker."""

    def __init__(self, org: UUID, url: str, talker: Talker, desk: Desk) -> None:
        self.org, self.url, self.talker, self.desk = org, url, talker, desk
        self.http = httpx2.Client(
            base_url=url, headers={"authorization": f"Bearer {make_key(org, SECRET_KEY)}"}, timeout=30,
            trust_env=False, verify=False,
        )  # fmt: skip
        self.id = self.post("/v1/conversations", {"agent": "support-assistant"}, 201)["id"]
        self.path = f"/v1/conversations/{self.id}"

    def post(self, path: str, body: Any = None, status: int = 202, *, key: str | None = None) -> Any:
        answer = self.http.post(path, json=body, headers={"idempotency-key": key} if key else {})
        assert answer.status_code == status, answer.text
        return answer.json()

    def send(self, words: str, **more: Any) -> Any:
        return self.post(f"{self.path}/messages", {"text": words} | more)

    def work(self) -> None:
        """Have the worker do what is due, until nothing is."""
        while due := [one for one in dispatch() if one.org_id == self.org]:
            for one in due:
                self.desk.executor.execute(one.org_id, one.id, one.claim)

    def messages(self, **query: Any) -> Any:
        return self.http.get(f"{self.path}/messages", params=query).json()["messages"]

    def read_by_the_model(self, number: int = -1) -> list[str]:
        return [f"{said['role']}: {said['content']}" for said in self.talker.asked[number]["messages"][1:]]


@contextlib.contextmanager
def chatting(org: UUID, served: str) -> Iterator[Chat]:
    """A conversation of an organisation, whose API is at `served`."""
    talker = Talker()
    with serving(talker.app()) as url:
        desk = Desk(Models(Settings(openai_base_url=f"{url}/v1", openai_api_key="k")), Ear())
        change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
        talker.let_through()
        made = Chat(org, served, talker, desk)
        yield made
        made.http.close()
        talker.let_through()
        desk.close()
