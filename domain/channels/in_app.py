"""In-app notifications: a row for the user to find."""

from core.db import transaction
from domain.channels import queries
from domain.channels.schemas import Outgoing


class InAppSender:
    """Writes the notification under the message's own id: a second time changes nothing."""

    repeat_is_harmless = True

    def send(self, message: Outgoing) -> None:
        """Carry `message` (see `Sender`)."""
        with transaction(message.org_id) as connection:
            queries.insert_notification(connection, message.id, message.org_id, message.recipient, message.body)
