"""Self-checks of a worker process: stuck threads, its age, its memory, and its concurrency.

Python cannot end a thread. A task whose thread is stuck is handed back, the fence refuses what the thread may still
write, and the process drains and exits, for a supervisor to start another.
"""

import contextlib
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta

import psutil

from agents.journal import end_claim
from agents.llm.errors import OUTAGE
from core.clock import Stopwatch
from core.db import system_transaction
from core.errors import RotaError
from core.logging import get_logger
from core.settings import Settings
from domain.claims import service as claims
from domain.workers.schemas import Beat, Vitals
from workers import retry
from workers.presence import Presence

log = get_logger(__name__)

# Spreads the longest life of processes, so that those started together do not all exit together.
_SPREAD = 0.1
_LINES = 12


class Watchdog:
    """Runs before and after every heartbeat. `resize` is called with the concurrency that people set."""

    def __init__(self, config: Settings, resize: Callable[[int], None]) -> None:
        self._config = config
        self._resize = resize
        self._age = Stopwatch()
        self._stuck = 0
        self._draining_because: str | None = None
        self._process = psutil.Process()
        spread = random.uniform(1, 1 + _SPREAD)  # noqa: S311  no secret
        self._longest_life = (
            None if config.worker_max_age is None else timedelta(seconds=config.worker_max_age * spread)
        )

    def vitals(self, presence: Presence) -> Vitals:
        """Return the vitals of this process. First hand back tasks whose threads are stuck, and drain if there is a
        reason to.
        """
        memory = self._process.memory_info().rss
        self._hand_back_stuck(presence)
        can_leave = presence.pool != "prefork"  # a signal would end a child in the middle of its task
        if can_leave and self._draining_because is None and (reason := self._reason_to_leave(memory)):
            self._leave(reason)
        if presence.is_draining and self._draining_because is None:
            self._draining_because = "it was asked to stop"
        return Vitals(
            concurrency=presence.concurrency,
            memory_bytes=memory,
            stuck=self._stuck,
            draining_because=self._draining_because,
            claims=presence.claims,
        )

    def follow(self, presence: Presence, beat: Beat) -> None:
        """Change the concurrency to what people set."""
        wanted = beat.wanted_concurrency
        if presence.pool != "elastic" or presence.is_draining:
            return
        if wanted is not None and wanted != presence.concurrency:
            log.info("changes its size", before=presence.concurrency, after=wanted)
            self._resize(wanted)
            presence.concurrency = wanted

    def _reason_to_leave(self, memory: int) -> str | None:
        if self._stuck:
            return "a thread is stuck"
        if self._longest_life is not None and self._age.elapsed() > self._longest_life:
            return f"it is older than {self._config.worker_max_age:g} s"
        if self._config.worker_max_memory is not None and memory > self._config.worker_max_memory:
            return f"it uses {memory} bytes"
        return None

    def _leave(self, reason: str) -> None:
        log.warning("leaves, for another to take its place", reason=reason)
        self._draining_because = reason
        os.kill(os.getpid(), signal.SIGTERM)  # starts both Celery's shutdown and our own drain

    def _hand_back_stuck(self, presence: Presence) -> None:
        for task, interrupt in presence.in_hand():
            for thread, what in interrupt.stuck(timedelta(seconds=self._config.stuck_after)).items():
                log.error("thread is stuck", task=str(task.id), doing=what, stack=_stack(thread))
                with contextlib.suppress(RotaError), system_transaction() as connection:
                    spell = claims.spell(connection, task, OUTAGE)
                    outcome = retry.after_stuck(
                        attempts=task.attempts, max_attempts=task.max_attempts, what=what, spell=spell
                    )
                    end_claim(connection, task, outcome)
                interrupt.trigger("claim_lost")
                presence.let_go(task)
                self._stuck += 1
                break


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  documented, despite the underscore
    return "".join(traceback.format_stack(frame)[-_LINES:]) if frame else "gone"


def end_after(grace: timedelta, code: int) -> None:
    """Exit this process after `grace`, whatever its threads do: the tasks that it still holds are reaped."""
    timer = threading.Timer(grace.total_seconds(), os._exit, [code])
    timer.daemon = True
    timer.start()
