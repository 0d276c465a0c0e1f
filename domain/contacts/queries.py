"""All SQL about contacts."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, RowMapping, text

from core.bulk import insert_rows

_LOCAL = 9  # digits of a telephone number without its country's code

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
_PREFERENCES = text("""
    SELECT id AS contact, time_zone, has_consented, opted_out_at IS NOT NULL AS has_opted_out, opted_out_at,
           preferences_changed_at AS changed_at
      FROM contacts WHERE id = :contact
""")
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


def contacts(connection: Connection, ids: Iterable[UUID]) -> list[RowMapping]:
    """The contacts with these ids, by name."""
    return list(connection.execute(_CONTACTS, {"ids": list(ids)}).mappings())


def addresses(connection: Connection, contact: UUID) -> list[str]:
    """Id, e-mail address and telephone number of a contact, in small letters."""
    return [way for way in connection.execute(_ADDRESSES, {"contact": contact}).scalars() if way]


def known_by(connection: Connection, ids: list[UUID], addresses: list[str]) -> list[RowMapping]:
    """The contacts with these ids, e-mail addresses or telephone numbers (spelled in any way, with a country's code or
    without), and how many other people have their name, or one that begins with it. A contact of another kind with
    the same e-mail address is the same person.
    """
    numbers = ["".join(letter for letter in one if letter.isdigit())[-_LOCAL:] for one in addresses if "@" not in one]
    numbers = [number for number in numbers if len(number) == _LOCAL]
    bound = {"ids": ids, "addresses": addresses, "numbers": numbers, "local": _LOCAL}
    return list(connection.execute(_KNOWN_BY, bound).mappings())


def search(connection: Connection, words: str, kinds: list[str], limit: int) -> list[UUID]:
    """Contacts by name, in whose name, e-mail address or telephone number these words are, or whose id begins so; all
    where there are no words.
    """
    literal = words.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    values = {"words": words, "part": f"%{literal}%", "beginning": f"{literal}%", "kinds": kinds, "limit": limit}
    return list(connection.execute(_SEARCH, values).scalars())


def at_address(connection: Connection, spelled: Iterable[str]) -> list[UUID]:
    """The contacts with this e-mail address or telephone number, in one of its spellings, by kind."""
    return list(connection.execute(_AT_ADDRESS, {"spelled": list(spelled)}).scalars())


def preferences(connection: Connection, contact: UUID) -> RowMapping | None:
    """What a contact allows."""
    return connection.execute(_PREFERENCES, {"contact": contact}).mappings().one_or_none()


def put_preferences(connection: Connection, row: dict[str, Any]) -> None:
    """Set what a contact allows. The time of an earlier opt-out stays."""
    connection.execute(_PUT_PREFERENCES, row)


def opt_out(connection: Connection, contact: UUID) -> None:
    """Record that a contact wants no follow-up any more."""
    connection.execute(_OPT_OUT, {"contact": contact})


def insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Insert contacts."""
    insert_rows(connection, "contacts", rows)


def lock_status(connection: Connection, contact: UUID, kind: str) -> str | None:
    """Lock a contact of this kind and return its status; None where there is none."""
    status: str | None = connection.execute(_LOCK_STATUS, {"contact": contact, "kind": kind}).scalar_one_or_none()
    return status


def set_status(connection: Connection, contact: UUID, status: str) -> None:
    """Set the status of a contact."""
    connection.execute(_SET_STATUS, {"contact": contact, "status": status})
