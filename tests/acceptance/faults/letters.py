"""Messages during the storm: organisations whose receivers dribble, and others whose messages must leave meanwhile."""

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

from core import db
from domain.channels import service as channels
from domain.channels.schemas import NewMessage, NewWebhook
from tests.acceptance.faults.cluster import Cluster
from tests.support.dribbler import dribbler
from tests.support.factories import make_organisation, owner_of
from tests.support.mail import webhook_receiver
from tests.support.servers import wait_until

# More than one process can wait for at once without telling receivers apart, by far.
_BAD, _TO_EACH = 8, 6
_BAD_ANSWERS = ("a status, then headers without an end", "a body without an end")
IN_TIME = 10.0  # seconds, the receivers' cap being 15


@dataclass
class Letter:
    """A message that must leave, and how long it took where nothing else was wrong."""

    id: UUID
    org: str
    channel: str
    is_alone: bool
    seconds: float | None = None


@dataclass
class Letters:
    """Sends, and keeps what it sent."""

    cluster: Cluster
    sent: list[Letter] = field(default_factory=list)
    _webhooks: dict[UUID, list[tuple[UUID, str]]] = field(default_factory=dict)
    _good: dict[UUID, tuple[UUID, str]] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def set_up(self, good: dict[str, UUID]) -> None:
        """Receivers that dribble for organisations of their own, and one that answers for each of the `good`."""
        dribbling = [self._stack.enter_context(dribbler(answer, every=0.5)).url for answer in _BAD_ANSWERS]
        answering = self._stack.enter_context(webhook_receiver()).url
        for number in range(_BAD):
            org = make_organisation(f"dribbled-{number}")
            self._webhooks[org] = [self._webhook(org, url) for url in dribbling]
        for org in good.values():
            self._good[org] = self._webhook(org, answering)

    @staticmethod
    def _webhook(org: UUID, url: str) -> tuple[UUID, str]:
        with db.transaction(org) as connection:
            made = channels.add_webhook(connection, org, NewWebhook(url=url, events=["nothing.else"]))
        return made.id, made.url

    def dribble(self) -> None:
        """Give every receiver that dribbles something to dribble at."""
        for org, webhooks in self._webhooks.items():
            with db.transaction(org) as connection:
                for webhook, url in webhooks * _TO_EACH:
                    wanted = NewMessage(channel="webhook", recipient=url, body="{}", webhook_id=webhook)
                    channels.enqueue(connection, org, wanted)

    def are_in_hand(self) -> bool:
        """Whether messages to receivers that dribble are being sent."""
        rows = self.cluster.query(
            "SELECT 1 FROM outbox WHERE status = 'sending' AND org_id = ANY(%s) LIMIT 1", list(self._webhooks)
        )
        return bool(rows)

    def write(self, *, is_alone: bool) -> list[Letter]:
        """A post to a receiver that answers, and a word to the owner, of every good organisation."""
        made = []
        for org, (webhook, url) in self._good.items():
            told = '{"kind": "storm.raged", "title": "It rages", "body": ""}'
            post = NewMessage(channel="webhook", recipient=url, body="{}", webhook_id=webhook)
            word = NewMessage(channel="in_app", recipient=str(owner_of(org)), body=told)
            with db.transaction(org) as connection:
                for message in (post, word):
                    row = channels.enqueue(connection, org, message)
                    made.append(Letter(row, str(org), message.channel, is_alone))
        self.sent += made
        return made

    def finish(self) -> None:
        """Wait for what a crash of the database left in hand: it is taken back after two minutes."""
        started = time.monotonic()
        with contextlib.suppress(AssertionError):  # the checker says what is missing
            wait_until(lambda: self.have_left(self.sent, started), seconds=200, what="all messages have left")

    def have_left(self, letters: list[Letter], since: float) -> bool:
        """Whether all of these have left; notes how long each took since `since`, on the monotonic clock."""
        rows: list[tuple[Any, ...]] = self.cluster.query(
            "SELECT id FROM outbox WHERE status = 'sent' AND id = ANY(%s)", [letter.id for letter in letters]
        )
        left = {row[0] for row in rows}
        for letter in letters:
            if letter.id in left and letter.seconds is None:
                letter.seconds = time.monotonic() - since
        return len(left) == len(letters)
