"""In-app notifications, stored as rows."""

from core.db import transaction
from domain.channels import queries
from domain.channels.schemas import Outgoing


class InAppSender:
    """Stores the notification under the message's id, which makes it idempotent."""

    repeat_is_harmless = True

    def send(self, message: Outgoing) -> None:
        """Send `message` (see `Sender`)."""
        with transaction(message.org_id) as connection:
            queries.insert_notification(connection, message.id, message.org_id, message.recipient, message.body)
