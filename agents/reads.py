"""What an agent read, as the audit log has it: the ids of the records, never their contents. Pure."""

import itertools
from typing import Any
from uuid import UUID

from agents.figures import UUID_TEXT
from domain.audit.schemas import MOST_RECORDS, READ, AuditEvent

_LENGTH = 36


def read_event(tool: str, arguments: dict[str, Any], result: dict[str, Any]) -> AuditEvent:
    """Return what the audit log says of a call that only read: the records that it asked for and those it got."""
    records, not_listed = records_in([arguments, result])
    return AuditEvent(READ, f"tool/{tool}", {"not_listed": not_listed} if not_listed else {}, records)


def records_in(value: Any) -> tuple[tuple[UUID, ...], int]:
    """Return the first 50 ids in a JSON value, each once and in order, and how many further ones there are."""
    found: dict[str, None] = {}
    _collect(value, found)
    return tuple(map(UUID, itertools.islice(found, MOST_RECORDS))), max(0, len(found) - MOST_RECORDS)


def _collect(value: Any, found: dict[str, None]) -> None:
    # Results have thousands of values, and each look-up is on the way of a task: most are told apart by their length.
    if isinstance(value, str):
        if len(value) == _LENGTH and UUID_TEXT.fullmatch(text := value.lower()):
            found[text] = None
    elif isinstance(value, dict):
        for one in value.values():
            _collect(one, found)
    elif isinstance(value, list | tuple):
        for one in value:
            _collect(one, found)
