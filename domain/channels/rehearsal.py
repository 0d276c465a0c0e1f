"""Messages written by the rehearsal model: why they are refused, and how they are marked."""

import json

from core.model_providers import KEY_VARIABLES
from domain.channels.schemas import Outgoing

REFUSAL = (
    "The rehearsal model, which understands nothing, answered in this task. What it writes or does reaches people in a "
    f"demonstration organisation only, whose contacts are invented. Set {' or '.join(KEY_VARIABLES)}, then "
    "submit the task again."
)
MARK = "[Rehearsal]"


def marked(message: Outgoing) -> Outgoing:
    """Return the message with the rehearsal mark where its reader looks first."""
    if message.channel == "email":
        return message.model_copy(update={"subject": f"{MARK} {message.subject}"})
    if message.channel in {"sms", "whatsapp"}:
        return message.model_copy(update={"body": f"{MARK} {message.body}"})
    event = json.loads(message.body)
    if message.channel == "in_app":
        event["title"] = f"{MARK} {event['title']}"
    event["data"] = event.get("data", {}) | {"is_rehearsal": True}
    return message.model_copy(update={"body": json.dumps(event, ensure_ascii=False)})
