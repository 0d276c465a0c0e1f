"""Have an organisation's messages leave."""

from uuid import UUID

from sqlalchemy import text

from core import db
from tests.support.servers import wait_until
from workers.duties.messages import deliver_messages

_ON_THEIR_WAY = text(
    "SELECT NOT EXISTS (SELECT 1 FROM outbox WHERE status = 'sending' OR (status = 'queued' AND "
    "send_after <= rota_now()))"
)


def deliver_all(org: UUID) -> None:
    """Send what is due, and return when nothing of it is on its way any more."""

    def all_left() -> bool:
        deliver_messages()
        with db.transaction(org) as connection:
            return bool(connection.execute(_ON_THEIR_WAY).scalar_one())

    wait_until(all_left, what="every message has left")
