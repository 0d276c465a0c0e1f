"""Delivery from the outbox: take the due messages, send each in its own thread, record the result.

Any number of processes may do this concurrently. A message is marked before it is sent. If its sender dies meanwhile,
the outcome is unknown; the message is sent again only if receivers on its channel recognise duplicates.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from core.clock import Stopwatch
from core.db import system_transaction
from core.errors import Misconfigured, Unavailable
from core.failpoints import failpoint
from core.logging import get_logger
from core.settings import Settings
from core.vault import make_vault
from domain.channels import queries, service
from domain.channels.email import EmailSender
from domain.channels.in_app import InAppSender
from domain.channels.rehearsal import REFUSAL, marked
from domain.channels.retrying import delay_after, pause_after
from domain.channels.schemas import Carrier, MessageStatus, Outgoing, Room
from domain.channels.senders import Gone, NotSent, ReceiverInTrouble, Sender, Undeliverable
from domain.channels.webhook import WebhookSender

log = get_logger(__name__)

# Longer than any sender can take for one message.
_LEASE = timedelta(minutes=2)
# Threads that wait for servers cost little. The more there are, the more slow servers it takes to occupy them all.
_AT_ONCE, _AT_ONCE_HERE, _TO_THE_TROUBLED = 64, 4, 16
_OF_ONE_ORGANISATION, _OF_ONE_RECEIVER = 4, 2
_SLOW = timedelta(seconds=3)
_AGAIN_AFTER = (0.5, 1, 2, 4, 8, 16)  # seconds

Senders = Mapping[Carrier, Sender]


def make_senders(config: Settings) -> Senders:
    """Return the sender of each channel."""
    vault, networks = make_vault(config), config.private_networks
    webhook = WebhookSender(vault, networks)
    return {
        "email": EmailSender(vault, networks),
        "webhook": webhook,
        "sms": webhook,
        "whatsapp": webhook,
        "in_app": InAppSender(),
    }


class Outbox:
    """Sends the due messages, each in a thread of its own.

    No organisation has more than four messages in hand at once, and no receiver more than two. A receiver that failed
    or was slow has one at a time, and all such receivers together have a quarter of the threads, so that a server that
    does not answer delays only its own messages. In-app notifications have threads of their own.
    """

    def __init__(self, senders: Senders) -> None:
        here: Senders = {name: sender for name, sender in senders.items() if name == "in_app"}
        outside: Senders = {name: sender for name, sender in senders.items() if name != "in_app"}
        self._hands = [_Hands(some, at_once) for some, at_once in ((here, _AT_ONCE_HERE), (outside, _AT_ONCE)) if some]

    def send_due(self) -> None:
        """Start sending the due messages and return at once. A thread that has sent its message takes the next."""
        for hands in self._hands:
            hands.send_due()

    def finish(self) -> int:
        """Wait until no message is in hand. Return how many messages were taken so far."""
        return sum(hands.finish() for hands in self._hands)

    def stop(self) -> None:
        """Stop taking messages. Does not block, not even for a lock, because signal handlers call it."""
        for hands in self._hands:
            hands.is_stopped = True

    def close(self) -> None:
        """Stop taking messages, and wait for those in hand."""
        self.stop()
        for hands in self._hands:
            hands.close()


def deliver_due(senders: Senders) -> int:
    """Send messages until none is due. Return how many were taken."""
    outbox = Outbox(senders)
    outbox.send_due()
    count = outbox.finish()
    outbox.close()
    return count


class _Hands:
    """Threads that send the messages of some channels."""

    def __init__(self, senders: Senders, at_once: int) -> None:
        self._senders = senders
        self._at_once = at_once
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="outbox")
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._in_hand: dict[UUID, Outgoing] = {}
        self._served: dict[UUID, None] = {}
        """organisations in the order of their last turn, most recent last"""
        self._count = self._running = 0
        self.is_stopped = False

    def send_due(self) -> None:
        with self._taking:
            room = self._room()
            if room.messages == 0 or self.is_stopped:
                return
            with system_transaction() as connection:
                taken = queries.take_due(connection, room)
            with self._changed:
                self._count += len(taken)
                self._running += len(taken)
                self._in_hand |= {message.id: message for message in taken}
            for message in taken:
                self._served.pop(message.org_id, None)
                self._served[message.org_id] = None
                self._pool.submit(self._send, message)

    def _room(self) -> Room:
        with self._changed:
            in_hand = list(self._in_hand.values())
        troubled = sum(message.is_troubled for message in in_hand)
        return Room(
            channels=list(self._senders),
            messages=self._at_once - len(in_hand),
            to_troubled=max(0, min(_TO_THE_TROUBLED, self._at_once) - troubled),
            of_organisation=_OF_ONE_ORGANISATION,
            of_receiver=_OF_ONE_RECEIVER,
            served=list(self._served),
        )

    def _send(self, message: Outgoing) -> None:
        try:
            failpoint("before-send")
            _deliver(self._senders, message)
        except Exception:
            log.exception("what became of a message could not be noted", message=str(message.id))
        finally:
            with self._changed:
                del self._in_hand[message.id]
            try:
                self.send_due()
            except Unavailable:
                log.warning("the outbox is looked at again later", exc_info=True)
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def finish(self) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._running == 0)
            return self._count

    def close(self) -> None:
        with self._taking:
            pass  # wait for a concurrent `send_due` to hand its messages to the pool
        self._pool.shutdown()


@dataclass(frozen=True)
class _Outcome:
    """The result of one attempt."""

    status: MessageStatus
    error: str | None = None
    delay: timedelta | None = None
    trouble: ReceiverInTrouble | None = None
    is_gone: bool = False


def _deliver(senders: Senders, message: Outgoing) -> None:
    stopwatch = Stopwatch()
    outcome = _kept_back(message) or _attempt(senders[message.channel], message)
    failpoint("after-send")
    if outcome.status != "sent":
        log.warning(
            "message not sent", message=str(message.id), channel=message.channel, status=outcome.status,
            error=outcome.error,
        )  # fmt: skip
    is_slow = stopwatch.elapsed() > _SLOW
    for pause in _AGAIN_AFTER:  # retry: the result must not be lost when the database restarts
        try:
            _note(message, outcome, is_slow=is_slow)
        except Unavailable:
            time.sleep(pause)
        else:
            return
    _note(message, outcome, is_slow=is_slow)


def _note(message: Outgoing, outcome: _Outcome, *, is_slow: bool) -> None:
    """Record the result of an attempt for the message and its receiver. No-op if the message was reclaimed since."""
    with system_transaction() as connection:
        row = {"id": message.id, "attempts": message.attempts, "status": outcome.status, "error": outcome.error}
        status = queries.note_result(connection, row | {"delay": outcome.delay})
        if status is None:
            return
        if status in {"failed", "cancelled"}:
            service.pay_back(connection, message.org_id, message.id, message.task_id, message.seq, str(outcome.error))
        if outcome.trouble is not None:
            service.note_trouble(connection, message, outcome.trouble.message, _pause(message, outcome.trouble))
        elif outcome.status == "sent":
            service.note_success(connection, message, is_slow=is_slow)
        if outcome.is_gone and message.webhook_id is not None:
            service.disable_webhook(connection, message.org_id, message.webhook_id, str(outcome.error))


def _kept_back(message: Outgoing) -> _Outcome | None:
    """Return the outcome of a message that must not leave the organisation, or None if it may."""
    stays = message.is_rehearsal and message.channel != "in_app" and not message.is_demonstration
    return _Outcome("failed", REFUSAL) if stays else None


def _attempt(sender: Sender, message: Outgoing) -> _Outcome:
    try:
        sender.send(marked(message) if message.is_rehearsal else message)
    except Undeliverable as refusal:
        return _Outcome("failed", refusal.message, is_gone=isinstance(refusal, Gone))
    except ReceiverInTrouble as trouble:
        return _again(message, trouble.message, trouble)
    except NotSent as failure:
        return _again(message, failure.message)
    except Misconfigured as fault:  # our own fault: nothing was sent
        return _again(message, fault.message)
    except Exception as trouble:  # noqa: BLE001  after any other error the message may have been sent
        error = f"The answer was lost: {type(trouble).__name__}"
        return _again(message, error) if sender.repeat_is_harmless else _Outcome("unknown", error)
    return _Outcome("sent")


def _again(message: Outgoing, error: str, trouble: ReceiverInTrouble | None = None) -> _Outcome:
    """Return the outcome of a failed attempt: queued for a retry, or failed when no retry is left."""
    delay = delay_after(message.channel, message.attempts, trouble.retry_after if trouble else timedelta(0))
    return _Outcome("queued" if delay is not None else "failed", error, delay, trouble)


def _pause(message: Outgoing, trouble: ReceiverInTrouble) -> timedelta:
    return pause_after(message.receiver_failures + 1, trouble.retry_after)


def reclaim_left_behind(senders: Senders) -> dict[UUID, MessageStatus]:
    """Reclaim the messages whose sender died: queue them again or mark them as unknown. Return their new statuses."""
    harmless: list[str] = [kind for kind, sender in senders.items() if sender.repeat_is_harmless]
    with system_transaction() as connection:
        return queries.reclaim_left_behind(connection, _LEASE, harmless)
