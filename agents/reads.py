"""What an agent read, as the audit log has it: the ids of the records, never their contents. Pure."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from agents.figures import UUID_TEXT
from domain.audit.schemas import MOST_RECORDS, READ, AuditEvent


def read_event(tool: str, arguments: dict[str, Any], result: dict[str, Any]) -> AuditEvent:
    """Return what the audit log says of a call that only read: the records that it asked for and those it got."""
    records, not_listed = records_in([arguments, result])
    return AuditEvent(READ, f"tool/{tool}", {"not_listed": not_listed} if not_listed else {}, records)


def records_in(value: Any) -> tuple[tuple[UUID, ...], int]:
    """Return the first 50 ids in a JSON value, each once and in order, and how many further ones there are."""
    found = list(dict.fromkeys(UUID(text) for text in _ids(value)))
    return tuple(found[:MOST_RECORDS]), max(0, len(found) - MOST_RECORDS)


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _ids(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _ids(one)
    elif isinstance(value, str) and UUID_TEXT.fullmatch(value.lower()):
        yield value
