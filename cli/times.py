"""Parse times and durations as users type them."""

from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from cli.client import fail

_DURATION = TypeAdapter(timedelta)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def length(text: str, option: str) -> timedelta:
    """Return a duration: 90s, 15m, 6h, 2d, 1w, or ISO 8601."""
    found = _in_units(text)
    if found is not None:
        return found
    try:
        return _DURATION.validate_python(text)
    except ValidationError:
        fail(f"{option}: {text!r} is not a duration. Write 90s, 15m, 6h, 2d, or ISO 8601 such as PT90S.")


def _in_units(text: str) -> timedelta | None:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdecimal()):
        return None
    try:
        return timedelta(**{_UNITS[unit]: int(number)})
    except OverflowError:
        return None


def seconds(text: str | None, option: str) -> float | None:
    """Return a duration in seconds, or None if none was given."""
    return None if text is None else length(text, option).total_seconds()


def moment(text: str, option: str) -> str:
    """Return a time in ISO 8601; it is in the local time zone unless it names another."""
    try:
        return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError):
        fail(
            f"{option}: {text!r} is not a time. Write 2026-12-24T18:00, with an offset such as +01:00 for another zone."
        )


def from_now(text: str | None, option: str) -> str | None:
    """Return a time, given as such or as a duration from now, in ISO 8601."""
    if text is None:
        return None
    later = _in_units(text)
    try:
        return (datetime.now(UTC) + later).isoformat() if later is not None else moment(text, option)
    except OverflowError:
        fail(f"{option}: {text!r} is too far in the future.")
