"""All SQL about contacts."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from core.bulk import insert_rows
from core.rows import fetch_all, fetch_optional
from domain.contacts.schemas import Contact, KnownContact, Preferences

_LOCAL = 9  # digits of a telephone number without its country code

_CONTACTS = text("""
    SELECT id, kind, name, email, phone, status, coalesce(language, 'en') AS language, location_id, time_zone,
           has_consented, opted_out_at
      FROM contacts WHERE id = ANY(:ids) ORDER BY name, id
""")
_ADDRESSES = text("SELECT lower(unnest(ARRAY[id::text, email, phone])) FROM contacts WHERE id = :contact")
_KNOWN_BY = text("""
    SELECT k.id, k.name, k.email, k.phone,
           (SELECT count(*) FROM contacts c
             WHERE starts_with(c.folded, rota_fold(k.name))
               AND starts_with(rota_fold(c.name) || ' ', rota_fold(k.name) || ' ')
               AND c.id <> k.id AND (c.kind = k.kind OR lower(c.email) <> lower(k.email))) AS namesakes
      FROM contacts k
     WHERE k.id = ANY(:ids) OR lower(k.email) = ANY(:addresses)
        OR right(regexp_replace(k.phone, '[^0-9]', '', 'g'), :local) = ANY(:numbers)
""")
_SEARCH = text("""
    SELECT id FROM contacts
     WHERE kind = ANY(:kinds)
       AND (:words = '' OR name ILIKE :part OR email ILIKE :part OR phone ILIKE :part OR id::text ILIKE :beginning)
     ORDER BY name, id LIMIT :limit
""")
_AT_ADDRESS = text("""
    SELECT id FROM contacts
     WHERE lower(email) = ANY(:spelled) OR regexp_replace(phone, '[^0-9+]', '', 'g') = ANY(:spelled)
     ORDER BY kind, id LIMIT 20
""")
_PREFERENCES = """
    SELECT id AS contact, time_zone, has_consented, opted_out_at IS NOT NULL AS has_opted_out, opted_out_at,
           preferences_changed_at AS changed_at
      FROM contacts WHERE id = :contact
"""
_PUT_PREFERENCES = text("""
    UPDATE contacts
       SET time_zone = :time_zone, has_consented = :has_consented, preferences_changed_at = rota_now(),
           opted_out_at = CASE WHEN :has_opted_out THEN coalesce(opted_out_at, rota_now()) END
     WHERE id = :contact
""")
_LOCK_STATUS = text("SELECT status FROM contacts WHERE id = :contact AND kind = :kind FOR UPDATE")
_SET_STATUS = text("UPDATE contacts SET status = :status, updated_at = rota_now() WHERE id = :contact")
_OPT_OUT = text("""
    UPDATE contacts
       SET opted_out_at = coalesce(opted_out_at, rota_now()), has_consented = false, preferences_changed_at = rota_now()
     WHERE id = :contact
""")


def contacts(connection: Connection, ids: Iterable[UUID]) -> list[Contact]:
    """Return the contacts with these ids, ordered by name."""
    return fetch_all(connection.execute(_CONTACTS, {"ids": list(ids)}), Contact)


def addresses(connection: Connection, contact: UUID) -> list[str]:
    """Return id, e-mail address and telephone number of a contact, in lower case."""
    return [way for way in connection.execute(_ADDRESSES, {"contact": contact}).scalars() if way]


def known_by(connection: Connection, ids: list[UUID], addresses: list[str]) -> list[KnownContact]:
    """Return the contacts with these ids, e-mail addresses or telephone numbers (in any spelling, with or without
    country code), each with the number of other people whose name is the same or begins with it. A contact of another
    kind with the same e-mail address is the same person.
    """
    numbers = ["".join(letter for letter in one if letter.isdigit())[-_LOCAL:] for one in addresses if "@" not in one]
    numbers = [number for number in numbers if len(number) == _LOCAL]
    bound = {"ids": ids, "addresses": addresses, "numbers": numbers, "local": _LOCAL}
    return fetch_all(connection.execute(_KNOWN_BY, bound), KnownContact)


def search(connection: Connection, words: str, kinds: list[str], limit: int) -> list[UUID]:
    """Return the ids of the contacts, ordered by name, whose name, e-mail address or telephone number contains `words`
    or whose id begins with it; of all if `words` is empty.
    """
    literal = words.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    values = {"words": words, "part": f"%{literal}%", "beginning": f"{literal}%", "kinds": kinds, "limit": limit}
    return list(connection.execute(_SEARCH, values).scalars())


def at_address(connection: Connection, spelled: Iterable[str]) -> list[UUID]:
    """Return up to 20 contacts whose e-mail address or telephone number is one of these spellings, ordered by kind."""
    return list(connection.execute(_AT_ADDRESS, {"spelled": list(spelled)}).scalars())


def preferences(connection: Connection, contact: UUID, *, locked: bool = False) -> Preferences | None:
    """Return what a contact allows; with `locked`, lock the contact."""
    statement = text(_PREFERENCES + ("FOR UPDATE" if locked else ""))
    return fetch_optional(connection.execute(statement, {"contact": contact}), Preferences)


def put_preferences(connection: Connection, row: dict[str, Any]) -> None:
    """Set what a contact allows. The time of an earlier opt-out is kept while it lasts."""
    connection.execute(_PUT_PREFERENCES, row)


def opt_out(connection: Connection, contact: UUID) -> None:
    """Record that a contact wants no more follow-ups, and withdraw their consent."""
    connection.execute(_OPT_OUT, {"contact": contact})


def insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert contacts."""
    insert_rows(connection, "contacts", rows)


def lock_status(connection: Connection, contact: UUID, kind: str) -> str | None:
    """Lock a contact of this kind and return its status, or None if there is no such contact."""
    status: str | None = connection.execute(_LOCK_STATUS, {"contact": contact, "kind": kind}).scalar_one_or_none()
    return status


def set_status(connection: Connection, contact: UUID, status: str) -> None:
    """Set the status of a contact."""
    connection.execute(_SET_STATUS, {"contact": contact, "status": status})
