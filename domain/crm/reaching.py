"""Whom an organisation may write to in order to win them: one answer for every tool and campaign. Pure."""

from typing import Literal

from domain.contacts.schemas import Contact


def why_not_win(contact: Contact, channel: Literal["email", "sms", "whatsapp"] = "email") -> str | None:
    """Why words that are to win or keep somebody do not go to this contact; None where they may."""
    if contact.status == "cancelled":
        return "has cancelled"
    if contact.opted_out_at is not None:
        return "wants no such messages"
    if channel == "email":
        return None if "@" in contact.email else "has no e-mail address"
    return None if contact.phone else "has no phone number"
