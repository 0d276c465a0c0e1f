"""Celery's consumer, which tells Flower of tasks a few times a second instead of at every turn of its loop.

Celery sends what it has to tell as soon as its loop comes round: under load nearly one message an event, each costing
as much as a step of a task. Flower sees the same events, a moment later and more to a message.
"""

import time
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

_EVERY = 0.2  # seconds
_MOST = 1_000  # events to a message


class Consumer(consumer.Consumer):
    """A consumer whose events wait for each other."""

    hub: Any  # the type stubs know none of these
    event_dispatcher: Any
    _flush_events: Callable[[], None]
    _planned_at = float("-inf")

    def on_send_event_buffered(self) -> None:  # type: ignore[override]
        """An event waits to be sent. Any thread may say so; only the loop's own may set its timer."""
        if self.hub and time.monotonic() - self._planned_at >= _EVERY:
            self._planned_at = time.monotonic()
            self.event_dispatcher.buffer_limit = _MOST
            self.hub.call_soon(self._plan)

    def _plan(self) -> None:
        self.hub.call_later(_EVERY, self._flush_events)

    def shutdown(self) -> None:
        """Send what is left, and stop."""
        self._flush_events()
        super().shutdown()
