"""Listeners: one follows each organisation, some follow tasks, and all come back wherever they were cut."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Self

import httpx2

from tests.acceptance.faults.cluster import Cluster
from tests.support.servers import wait_until
from tests.support.streams import Stream

_MOST_TASKS = 60


@dataclass
class Heard:
    """What one listener heard."""

    path: str
    key: str
    after: str | None = None
    ids: list[str] = field(default_factory=list)
    statuses: dict[str, list[str]] = field(default_factory=dict)
    """by task"""
    texts: dict[int, str] = field(default_factory=dict)
    """by step, as a client puts them together"""
    is_over: bool = False
    cuts: int = 0
    resets: int = 0
    misplaced: list[str] = field(default_factory=list)

    def take(self, event: str, message_id: str, data: dict[str, Any]) -> None:
        """Take a message."""
        self.after = message_id
        if event == "message.superseded":
            self.texts[data["step"]] = ""
        elif event == "message.delta":
            text = self.texts.get(data["step"], "")
            if data["offset"] != len(text):
                self.misplaced.append(message_id)
            self.texts[data["step"]] = text + data["text"]
        elif event == "reset":
            self.resets += 1
        elif event != "ready":
            self.ids.append(message_id.partition("_")[0])
            if event.startswith("task.") and "status" in data and event != "task.step":
                self.statuses.setdefault(data["task_id"], []).append(data["status"])
        if event == "task.ended" and self.path != "/v1/events":
            self.is_over = True


class Listeners:
    """Follows until it is told to stop, whatever is killed meanwhile."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stopping = threading.Event()
        self.organisations: dict[str, Heard] = {}
        self.tasks: dict[str, Heard] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()  # the threads end with the servers that they listen to

    def set_up(self, keys: dict[str, str]) -> None:
        """Begin to follow each organisation, and come back when all do."""
        for slug, key in keys.items():
            self.organisations[slug] = self._follow(Heard("/v1/events", key))
        wait_until(lambda: all(heard.after for heard in self.organisations.values()), what="all listen")

    def follow(self, task: str, key: str) -> None:
        """Follow a task, unless enough are followed."""
        if len(self.tasks) < _MOST_TASKS:
            self.tasks[task] = self._follow(Heard(f"/v1/tasks/{task}/events", key))

    def finish(self, latest: dict[str, str]) -> None:
        """Wait until each organisation's listener has heard the latest event, and each task's listener the end."""

        def have_all() -> bool:
            orgs = all(latest[slug] in heard.ids[-50:] for slug, heard in self.organisations.items())
            return orgs and all(heard.is_over for heard in self.tasks.values())

        try:
            wait_until(have_all, seconds=60, what="all was heard")
        except AssertionError:
            return  # the checker says what is missing

    def _follow(self, heard: Heard) -> Heard:
        thread = threading.Thread(target=self._run, args=(heard,), name=heard.path, daemon=True)
        thread.start()
        return heard

    def _run(self, heard: Heard) -> None:
        with httpx2.Client(base_url=str(self._cluster.http.base_url), timeout=20, trust_env=False) as client:
            while not self._stopping.is_set() and not heard.is_over:
                try:
                    self._listen(client, heard)
                except (httpx2.HTTPError, KeyError, ValueError):  # cut in the middle of a message, too
                    heard.cuts += 1
                time.sleep(0.05)

    def _listen(self, client: httpx2.Client, heard: Heard) -> None:
        headers = {"authorization": f"Bearer {heard.key}", "accept": "text/event-stream"}
        headers |= {"last-event-id": heard.after} if heard.after else {}
        with client.stream("GET", heard.path, headers=headers) as response:
            if response.status_code == 204:
                heard.is_over = True
            if response.status_code != 200:
                response.read()
                return
            for message in Stream(response):
                heard.take(message.event, message.id, message.data)
                if self._stopping.is_set():
                    return
