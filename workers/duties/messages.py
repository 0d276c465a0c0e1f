"""The outbox: send its messages, and reclaim those that a dead process was sending."""

import functools
from typing import Any

from celery import signals

from core.settings import settings
from domain.channels import delivery, posting


def deliver_messages() -> None:
    """Begin to send the messages in the outbox. Does not wait for the receivers."""
    _outbox().send_due()


def post_events() -> None:
    """Put events into the outbox of the webhooks that are to get them."""
    posting.post_events()


def reclaim_messages() -> None:
    """Put messages back in the outbox whose sender died."""
    delivery.reclaim_left_behind(_senders())


@functools.cache
def _outbox() -> delivery.Outbox:
    return delivery.Outbox(_senders())


@functools.cache
def _senders() -> delivery.Senders:
    return delivery.make_senders(settings())


@signals.worker_shutting_down.connect
def _stop_sending(**_: Any) -> None:
    """Start sending no more messages; those being sent have as long as the stopping worker has."""
    if _outbox.cache_info().currsize:
        _outbox().stop()
