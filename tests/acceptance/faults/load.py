"""The load: three organisations, each with limits of its own, submit orders over the API until told to stop."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
from sqlalchemy import Connection

from agents.checks import agent_check
from core import db
from domain.agents import service as agents
from domain.agents.schemas import AgentFields
from domain.billing import service as billing
from domain.billing.schemas import PriceFields
from domain.conversations import service as conversations
from domain.conversations.schemas import NewConversation
from domain.dispatch import service as dispatch
from domain.tasks.schemas import SubmissionContext
from tests.acceptance.faults.cluster import Cluster
from tests.support.factories import make_key, make_organisation, owner_of
from tests.support.servers import SECRET_KEY

TOOLS = ["charge_card", "text_customer", "set_display"]
MODELS = ("plan-a", "plan-b")
LIMITS = {
    "alpha": {"weight": 3, "max_in_flight": 12, "starts_per_minute": None},
    "beta": {"weight": 1, "max_in_flight": None, "starts_per_minute": 400},
    "gamma": {"weight": 1, "max_in_flight": None, "starts_per_minute": None},
}
AGENT_LIMIT, MODEL_LIMIT = 5, 6
_PRIORITIES = ("critical", "high", "normal", "normal", "normal", "low")
_QUEUES = 12
_CONVERSATIONS, _SHARE_SAID = 6, 0.4
_AT_ONCE, _SPEAKERS = 20, 8


@dataclass
class Sent:
    """What was acknowledged."""

    tasks: dict[str, str] = field(default_factory=dict)
    """order → task"""
    queues: dict[str, list[str]] = field(default_factory=dict)
    """concurrency key → tasks in the order accepted"""
    talks: dict[str, list[str]] = field(default_factory=dict)
    """conversation → orders in the order accepted"""
    poison: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    retried_requests: int = 0

    @property
    def said(self) -> set[str]:
        """The orders that are messages of conversations: they are answered, and nothing else happens."""
        return {order for orders in self.talks.values() for order in orders}


class Load:
    """Submits `total` tasks in about `seconds`, whatever goes wrong meanwhile; and at the beginning twenty messages at
    once into each of `talks` conversations.
    """

    def __init__(self, cluster: Cluster, *, total: int, seconds: float, talks: int, dice: random.Random) -> None:
        self.cluster = cluster
        self.total, self.seconds, self.talks = total, seconds, talks
        self.dice = dice
        self.sent = Sent()
        self.organisations: dict[str, UUID] = {}
        self.keys: dict[str, str] = {}
        self._at_once: dict[str, list[str]] = {}
        self.on_accepted: Callable[[str, str], None] = lambda _org, _task: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def set_up(self) -> None:
        """Organisations, agents, prices and limits."""
        for slug, limits in LIMITS.items():
            org = self.organisations[slug] = make_organisation(slug)
            self.keys[slug] = make_key(org, SECRET_KEY)
            with db.system_transaction() as connection:
                dispatch.set_organisation_limits(connection, org, dict(limits))
            with db.transaction(org) as connection:
                for model in MODELS:
                    price = PriceFields(provider="openai", input_per_million=1, output_per_million=2)
                    billing.set_price(connection, org, model, price)
                for name, model, most in (("clerk", "plan-a", None), ("teller", "plan-b", AGENT_LIMIT)):
                    agents.create_agent(connection, org, _agent(name, model, most), agent_check(connection))
                agents.create_agent(connection, org, _agent("talker", "plan-a", None, ()), agent_check(connection))
                for _ in range(_CONVERSATIONS if slug == "gamma" else 0):
                    self.sent.talks[_begin(connection, org)] = []
                for _ in range(self.talks if slug == "gamma" else 0):
                    self._at_once[_begin(connection, org)] = []
        with db.system_transaction() as connection:
            limit = {"model": "plan-b", "max_in_flight": MODEL_LIMIT, "starts_per_minute": None}
            dispatch.set_provider_limits(connection, "openai", limit)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def finish(self) -> None:
        """Submit what is left, and come back when it is acknowledged."""
        self._stop.set()
        self._thread.join()

    def submit(self, order: str, org: str, **more: Any) -> str:
        """Submit until it is acknowledged: with the same key, so that it is accepted once."""
        body = {"agent": "clerk", "input": {"message": f"order {order}: please"}} | more
        task_id: str = self._post("/v1/tasks", body, order, org)["id"]
        return task_id

    def say(self, order: str, org: str, conversation: str) -> str:
        """Send a message until it is acknowledged. Return the task that answers it."""
        path = f"/v1/conversations/{conversation}/messages"
        task_id: str = self._post(path, {"text": f"order {order}: please"}, order, org)["answer"]["task_id"]
        return task_id

    def _post(self, path: str, body: dict[str, Any], order: str, org: str) -> Any:
        headers = {"authorization": f"Bearer {self.keys[org]}", "idempotency-key": order}
        while True:
            try:
                answer = self.cluster.http.post(path, json=body, headers=headers)
            except httpx2.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 202:
                return answer.json()
            if answer is not None and answer.status_code < 500:
                raise AssertionError(answer.text)
            self.sent.retried_requests += 1
            time.sleep(0.1)

    def _run(self) -> None:
        with ThreadPoolExecutor(_SPEAKERS) as pool:
            for speaking in [pool.submit(self._say_all, *talk) for talk in self._at_once.items()]:
                speaking.result()
        started = time.monotonic()
        for number in range(self.total):
            self._one(number)
            due = started + self.seconds * (number + 1) / self.total
            self._stop.wait(max(0, due - time.monotonic()))

    def _say_all(self, conversation: str, orders: list[str]) -> None:
        """Send the messages of a conversation without waiting for an answer."""
        for number in range(_AT_ONCE):
            order = f"m{conversation[-8:]}-{number}"
            self.sent.tasks[order] = self.say(order, "gamma", conversation)
            orders.append(order)
        self.sent.talks[conversation] = orders

    def _one(self, number: int) -> None:
        order, org = f"o{number}", self.dice.choice(tuple(LIMITS))
        if org == "gamma" and self.dice.random() < _SHARE_SAID:
            conversation = self.dice.choice([*self.sent.talks][:_CONVERSATIONS])
            task_id = self.sent.tasks[order] = self.say(order, org, conversation)
            self.sent.talks[conversation].append(order)
            self.on_accepted(org, task_id)
            return
        more: dict[str, Any] = {"priority": self.dice.choice(_PRIORITIES)}
        if self.dice.random() < 0.25:
            more["agent"] = "teller"
        if self.dice.random() < 0.02:
            more["input"] = {"message": f"order {order}: poison"}
            self.sent.poison.add(order)
        if org == "gamma" and self.dice.random() < 0.5:
            more["concurrency_key"] = f"talk-{self.dice.randrange(_QUEUES)}"
        task_id = self.submit(order, org, **more)
        self.sent.tasks[order] = task_id
        self.on_accepted(org, task_id)
        if key := more.get("concurrency_key"):
            self.sent.queues.setdefault(key, []).append(task_id)
        if self.dice.random() < 0.02:
            self._cancel_sometime(order, org, task_id)

    def _cancel_sometime(self, order: str, org: str, task_id: str) -> None:
        self.sent.cancelled.add(order)

        def cancel() -> None:
            headers = {"authorization": f"Bearer {self.keys[org]}"}
            try:
                self.cluster.http.post(f"/v1/tasks/{task_id}/cancel", headers=headers)
            except httpx2.HTTPError:
                return  # nobody promised anything

        timer = threading.Timer(self.dice.uniform(0, 2), cancel)
        timer.daemon = True
        timer.start()


def _begin(connection: Connection, org: UUID) -> str:
    context = SubmissionContext(user_id=owner_of(org))
    return str(conversations.begin(connection, org, NewConversation(agent="talker"), context).id)


def _agent(slug: str, model: str, max_in_flight: int | None, tools: Sequence[str] = TOOLS) -> AgentFields:
    return AgentFields.model_validate(
        {
            "slug": slug,
            "name": slug.title(),
            "role": "Clerk",
            "description": "Takes orders.",
            "system_prompt": "Take the order.",
            "model": model,
            "tools": list(tools),
            "max_in_flight": max_in_flight,
            # Crashes use attempts up; here nobody shall run out of them.
            "retry": {"max_attempts": 50, "base": 0.2, "ceiling": 2},
            "limits": {"step_timeout": 8},
        }
    )
