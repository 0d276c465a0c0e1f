"""A worker in the test's own process: the real executor, pipeline and presence, without Celery."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

from agents.llm.models import Models
from agents.sink import NobodyListens, Sink
from agents.work import Workplace
from domain.workers.schemas import Beat
from tests.support.factories import look, publish
from workers.executor import Executor
from workers.presence import Presence


class Desk:
    """A worker in this process."""

    def __init__(self, models: Models, sink: Sink | None = None, **presence: Any) -> None:
        self.models = models
        self.workplace = Workplace.open(models)
        follow = presence.pop("on_beat", lambda _presence, _beat: None)

        def on_beat(present: Presence, beat: Beat) -> None:
            follow(present, beat)
            self.workplace.gates.learn(beat.known)

        self.presence = Presence("test", ["normal"], 4, timedelta(seconds=0.1), on_beat=on_beat, **presence)
        self.presence.start()
        self.background = ThreadPoolExecutor(4)
        self.executor = Executor(self.presence, self.workplace, sink or NobodyListens())

    def run(self, org: UUID, task_id: UUID, number: int = 0) -> Any:
        """The task after one try."""
        publish(org, task_id)
        self.executor.execute(org, task_id, number)
        return look(org, task_id)

    def close(self) -> None:
        self.presence.stop()
        self.models.close()
        self.workplace.threads.close()
        self.background.shutdown()
