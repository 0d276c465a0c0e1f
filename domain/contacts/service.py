"""Operations on contacts and their preferences."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import NotFound
from core.mailboxes import spellings
from domain.contacts import queries
from domain.contacts.schemas import Contact, KnownContact, PreferenceChange, Preferences


def get_many(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Contact]:
    """Return contacts by id, ordered by name. Unknown ids are left out."""
    return {contact.id: contact for contact in queries.contacts(connection, ids)}


def require(connection: Connection, ids: Iterable[UUID]) -> list[Contact]:
    """Return the contacts with these ids, ordered by name.

    Raises:
        NotFound: one of them does not exist.
    """
    wanted = set(ids)
    found = get_many(connection, wanted)
    if missing := wanted - found.keys():
        raise NotFound(f"There is no contact with id {', '.join(sorted(map(str, missing)))}.")
    return list(found.values())


def search(connection: Connection, words: str, kinds: list[str], *, limit: int) -> list[Contact]:
    """Return the contacts of these kinds that match `words` (part of a name, e-mail address or telephone number, or the
    start of an id), ordered by name.
    """
    ids = queries.search(connection, words.strip(), kinds, limit)
    found = get_many(connection, ids)
    return [found[one] for one in ids if one in found]


def at_address(connection: Connection, address: str) -> list[UUID]:
    """Return the contacts with an e-mail address or telephone number: often several records of one person.

    Raises:
        NotFound: there is none.
    """
    found = with_address(connection, address)
    if not found:
        raise NotFound(f"No contact has the address {address!r}.")
    return found


def with_address(connection: Connection, address: str) -> list[UUID]:
    """Return the contacts with an e-mail address or telephone number. Empty for a text that is neither, such as the
    name of a company as the sender of a text message.
    """
    cleaned = address.strip().lower()
    if "@" not in cleaned:
        cleaned = "".join(letter for letter in cleaned if letter in "+0123456789")
        if not cleaned.strip("+"):
            return []
    return queries.at_address(connection, spellings(cleaned))


def known_by(connection: Connection, ids: list[UUID], addresses: list[str]) -> list[KnownContact]:
    """Return the contacts with these ids, e-mail addresses or telephone numbers."""
    return queries.known_by(connection, ids, addresses)


def addresses(connection: Connection, contact: UUID) -> set[str]:
    """Return id, e-mail address and telephone number of a contact in all their spellings. Empty for an unknown id."""
    return {spelled for way in queries.addresses(connection, contact) for spelled in spellings(way)}


def add_many(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Add contacts: rows of the table `contacts`, all with the same columns."""
    if rows:
        queries.insert(connection, rows)


def change_status(connection: Connection, contact: UUID, kind: str, status: str) -> Contact | None:
    """Set the status of a contact of this kind. Return the contact as it was before, or None for an unknown id."""
    if queries.lock_status(connection, contact, kind) is None:
        return None
    before = get_many(connection, [contact])[contact]
    queries.set_status(connection, contact, status)
    return before


# ── what contacts allow ──────────────────────────────────────────────────────────────────────────────────────────────


def get_preferences(connection: Connection, contact: UUID) -> Preferences:
    """Return what a contact allows.

    Raises:
        NotFound: there is no such contact.
    """
    return _preferences(connection, contact)


def _preferences(connection: Connection, contact: UUID, *, locked: bool = False) -> Preferences:
    found = queries.preferences(connection, contact, locked=locked)
    if found is None:
        raise NotFound(f"There is no contact with id {contact}.")
    return found


def change_preferences(connection: Connection, contact: UUID, change: PreferenceChange) -> Preferences:
    """Change what a contact allows.

    Raises:
        NotFound: there is no such contact.
    """
    before = _preferences(connection, contact, locked=True)  # or a concurrent change would be undone
    sent = change.model_dump(exclude_unset=True).items()
    wanted = before.model_dump(include=set(PreferenceChange.model_fields)) | {
        name: value for name, value in sent if value is not None or name == "time_zone"
    }
    queries.put_preferences(connection, {"contact": contact, **wanted})
    return get_preferences(connection, contact)


def opt_out(connection: Connection, contact: UUID) -> None:
    """Record that a contact wants no more follow-ups, and withdraw their consent."""
    queries.opt_out(connection, contact)
