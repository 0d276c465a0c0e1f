"""Posting events of the feed to webhooks: each webhook goes through the feed with a cursor of its own, and an event and
the cursor after it are written in one transaction, so none is missed and none is posted twice.

What people are notified of is posted by `service.tell`, in the transaction of the notice.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from uuid import UUID

from sqlalchemy import Connection

from core.db import system_transaction
from core.duties import for_each
from core.json_text import dump_json
from core.logging import get_logger
from domain.channels import queries
from domain.channels.schemas import FeedWebhook, NewMessage
from domain.channels.service import enqueue
from domain.events import service as events
from domain.events.kinds import EventKind, event_kinds
from domain.events.schemas import Cursor, Event, Wanted

log = get_logger(__name__)

_PORTION, _PORTIONS = 100, 20
_OF_ITS_TASK = ("task.waiting", "task.ended")


def is_posted(event: Event, webhook: FeedWebhook, kinds: dict[str, EventKind], notify: str | None) -> bool:
    """Whether an event of the feed is posted to a webhook: it fits one of the webhook's patterns and its agents, or it
    tells of the end or a wait of a task whose submission names the webhook. `*` alone covers no frequent kinds.
    """
    kind = kinds.get(event.kind)
    if kind is None or kind.is_notice:
        return False
    if notify == webhook.url and event.kind in _OF_ITS_TASK:
        return True
    if webhook.agents is not None and event.agent not in webhook.agents:
        return False
    return _fits(webhook, kind)


def _fits(webhook: FeedWebhook, kind: EventKind) -> bool:
    return any(
        fnmatchcase(kind.name, pattern) and not (pattern == "*" and kind.is_frequent) for pattern in webhook.events
    )


def post_events() -> int:
    """Put the latest events of the feed into the outbox of each webhook that is to get them. Return how many."""
    with system_transaction() as connection:
        due = queries.webhooks_behind(connection)
    return sum(for_each(due, "cannot post events", _post))


def _post(webhook_id: UUID) -> int:
    """Post in portions, each in a transaction of its own: a long one would hold the feed back for everyone."""
    posted = 0
    for _ in range(_PORTIONS):
        with system_transaction() as connection:
            found = _post_portion(connection, webhook_id)
        if found is None:
            break
        posted += found
    return posted


def _post_portion(connection: Connection, webhook_id: UUID) -> int | None:
    """Post the next portion. Return how many events; None if there is no more, or another worker is at it."""
    webhook = queries.lock_feed_webhook(connection, webhook_id)
    if webhook is None:
        return None
    after = Cursor(webhook.cursor_xid, webhook.cursor_seq)
    horizon = events.horizon(connection, webhook.org_id)
    if after.xid > horizon.latest:  # a database that was restored begins its transactions anew
        queries.set_webhook_cursor(connection, webhook_id, horizon.end)
        return None
    if horizon.has_lost(after):
        log.error("a webhook was so far behind that events were deleted", webhook=str(webhook_id))
    wanted = Wanted(webhook.org_id, kinds=_kinds_of(webhook))
    found, position = events.page(connection, wanted, after, _PORTION)
    chosen = _chosen(connection, webhook, found)
    for event in chosen:
        _enqueue(connection, webhook, event)
    queries.set_webhook_cursor(connection, webhook_id, position)
    return len(chosen) if len(found) == _PORTION else None


def _kinds_of(webhook: FeedWebhook) -> list[str]:
    """Return the kinds that may be posted to a webhook: others need not be read."""
    kinds = dict(event_kinds())
    fitting = {name for name in kinds if _fits(webhook, kinds[name])}
    return sorted(fitting | set(_OF_ITS_TASK))


def _chosen(connection: Connection, webhook: FeedWebhook, found: Sequence[Event]) -> list[Event]:
    kinds = dict(event_kinds())
    notified = queries.notified_tasks(connection, [event.task_id for event in found if event.kind in _OF_ITS_TASK])
    chosen = [event for event in found if is_posted(event, webhook, kinds, notified.get(event.task_id))]
    writers = [task for task in {event.task_id for event in chosen} if task is not None]
    staying = queries.rehearsed(connection, webhook.org_id, writers) if writers else set()
    return [event for event in chosen if event.task_id not in staying]


def _enqueue(connection: Connection, webhook: FeedWebhook, event: Event) -> None:
    told = event.told | {"at": event.at.isoformat()}
    body = dump_json({"type": event.kind, "id": str(event.cursor), "data": told})
    wanted = NewMessage(
        channel="webhook", recipient=webhook.url, body=body, webhook_id=webhook.id, written_by=event.task_id
    )
    enqueue(connection, webhook.org_id, wanted)
