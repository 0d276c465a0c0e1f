"""Which contacts an organisation may advertise to: one answer for every tool and campaign."""

from typing import Literal

from core.packs import installed
from domain.contacts.schemas import Contact


def why_not_win(contact: Contact, channel: Literal["email", "sms", "whatsapp"] = "email") -> str | None:
    """The reason why advertising must not go to this contact; None where it may."""
    for pack in installed():
        if contact.status in pack.left:
            return str(pack.left[contact.status])
    if contact.opted_out_at is not None:
        return "wants no such messages"
    if channel == "email":
        return None if "@" in contact.email else "has no e-mail address"
    return None if contact.phone else "has no phone number"
