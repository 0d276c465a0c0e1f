"""A Celery consumer that sends task events to Flower a few times a second instead of in every cycle of its event loop.

Celery sends buffered events in the next cycle of its loop: under load that is nearly one message per event, each as
expensive as a step of a task. Here Flower gets all events slightly later, with more events per message.
"""

import time
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

_EVERY = 0.2  # seconds
_MOST = 1_000  # events per message


class Consumer(consumer.Consumer):
    """A consumer that sends its events in batches."""

    hub: Any  # the type stubs lack all of these
    event_dispatcher: Any
    _flush_events: Callable[[], None]
    _planned_at = float("-inf")

    def on_send_event_buffered(self) -> None:  # type: ignore[override]
        """Schedule a flush, now that an event is buffered. Any thread may call this, but only the event loop's thread
        may set its timer.
        """
        if self.hub and time.monotonic() - self._planned_at >= _EVERY:
            self._planned_at = time.monotonic()
            self.event_dispatcher.buffer_limit = _MOST
            self.hub.call_soon(self._plan)

    def _plan(self) -> None:
        self.hub.call_later(_EVERY, self._flush_events)

    def shutdown(self) -> None:
        """Send the remaining events, and stop."""
        self._flush_events()
        super().shutdown()
