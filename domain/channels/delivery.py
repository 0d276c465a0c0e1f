"""Sending what is in the outbox: take one, send it, write down what became of it.

Any number of senders may be at it. A message is marked before it is sent; of one whose sender died meanwhile nobody
knows whether it went out, unless its channel knows a repetition.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from core.clock import Stopwatch
from core.db import system_transaction
from core.errors import Misconfigured
from core.failpoints import failpoint
from core.logging import get_logger
from core.settings import Settings
from core.vault import make_vault
from domain.channels import queries, service
from domain.channels.email import EmailSender
from domain.channels.in_app import InAppSender
from domain.channels.schemas import Carrier, Outgoing
from domain.channels.senders import NotSent, Sender, Undeliverable
from domain.channels.webhook import WebhookSender

log = get_logger(__name__)

_MOST_ATTEMPTS = 12
_FIRST_DELAY, _LONGEST_DELAY = timedelta(seconds=5), timedelta(hours=1)
# Longer than any sender can be at one message.
_LEASE = timedelta(minutes=2)
_AT_A_TIME = timedelta(seconds=20)
_SENT_TOGETHER, _OF_ONE_ORGANISATION = 4, 2

Senders = Mapping[Carrier, Sender]


def make_senders(config: Settings) -> Senders:
    """What carries the messages of each channel."""
    vault, networks = make_vault(config), config.private_networks
    webhook = WebhookSender(vault, networks)
    return {
        "email": EmailSender(vault, networks),
        "webhook": webhook,
        "sms": webhook,
        "whatsapp": webhook,
        "in_app": InAppSender(),
    }


def deliver_due(senders: Senders) -> int:
    """Send what is due, several at a time, for a while. Returns how many were taken in hand.

    No organisation has more than two messages in hand at once: a mail server that does not answer keeps nobody else's.
    """
    stopwatch = Stopwatch()
    with ThreadPoolExecutor(_SENT_TOGETHER, thread_name_prefix="outbox") as pool:
        return sum(pool.map(lambda _: _deliver_one_after_the_other(senders, stopwatch), range(_SENT_TOGETHER)))


def _deliver_one_after_the_other(senders: Senders, stopwatch: Stopwatch) -> int:
    count = 0
    while stopwatch.elapsed() < _AT_A_TIME:
        with system_transaction() as connection:
            row = queries.take_due(connection, _OF_ONE_ORGANISATION)
        if row is None:
            break
        failpoint("before-send")
        _deliver(senders, Outgoing(**row))
        count += 1
    return count


def _deliver(senders: Senders, message: Outgoing) -> None:
    status, error, delay = "sent", None, None
    try:
        senders[message.channel].send(message)
    except Undeliverable as refusal:
        status, error = "failed", refusal.message
    except NotSent as failure:
        error = failure.message
        status, delay = (
            ("queued", _backoff(message.attempts)) if message.attempts < _MOST_ATTEMPTS else ("failed", None)
        )
    except Misconfigured as fault:  # ours: nothing was tried
        error = fault.message
        status, delay = _later(message)
    except Exception as trouble:  # noqa: BLE001  whatever it was, the message may have gone out
        is_harmless = senders[message.channel].repeat_is_harmless
        error = f"The answer was lost: {type(trouble).__name__}"
        status, delay = _later(message) if is_harmless else ("unknown", None)
    failpoint("after-send")
    if status != "sent":
        log.warning("message not sent", message=str(message.id), channel=message.channel, status=status, error=error)
    row = {"id": message.id, "attempts": message.attempts, "status": status, "error": error, "delay": delay}
    with system_transaction() as connection:
        if queries.note_result(connection, row) in {"failed", "cancelled"}:
            service.pay_back(connection, message.org_id, message.id, message.task_id, message.seq, str(error))


def _later(message: Outgoing) -> tuple[str, timedelta | None]:
    """Queued again after a while, or failed when it was tried often enough."""
    return ("queued", _backoff(message.attempts)) if message.attempts < _MOST_ATTEMPTS else ("failed", None)


def _backoff(attempts: int) -> timedelta:
    delay: timedelta = _FIRST_DELAY * 2 ** min(attempts - 1, 16)
    return min(_LONGEST_DELAY, delay)


def take_back_left_behind(senders: Senders) -> dict[UUID, str]:
    """Messages whose sender died: queued again, or of unknown outcome. Returns which became what."""
    harmless: list[str] = [kind for kind, sender in senders.items() if sender.repeat_is_harmless]
    with system_transaction() as connection:
        rows = queries.take_back_left_behind(connection, _LEASE, harmless)
    return {row["id"]: row["status"] for row in rows}
