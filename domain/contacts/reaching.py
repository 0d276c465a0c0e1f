"""Which contacts an organisation may advertise to: one rule for all tools and campaigns."""

from typing import Literal

from core.packs import installed
from domain.contacts.schemas import Contact


def why_not_win(contact: Contact, channel: Literal["email", "sms", "whatsapp"] = "email") -> str | None:
    """Return the reason why advertising must not go to this contact, or None if it may."""
    for pack in installed():
        if contact.status in pack.left:
            return str(pack.left[contact.status])
    if contact.opted_out_at is not None:
        return "wants no such messages"
    if channel == "email":
        return None if "@" in contact.email else "has no e-mail address"
    return None if contact.phone else "has no phone number"
