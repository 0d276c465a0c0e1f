"""Formatting that every command shares: colours, times, amounts, tables."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cli import layout
from cli.layout import Column, plain
from core.money import in_words

# In a pipe or a file, rich would squeeze everything into 80 columns unless COLUMNS is set. Without emoji=False it would
# turn words between colons, such as order:id:7, into pictures.
out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)
MESSAGE = 60  # characters of a message in a list

_COLOURS = {
    "succeeded": "green", "running": "cyan", "queued": "blue", "waiting": "yellow", "failed": "red",
    "cancelled": "magenta", "expired": "magenta", "done": "green",
}  # fmt: skip
escape = layout.escape
_LENGTH = TypeAdapter(timedelta)


def facts_table() -> Table:
    """Return an empty grid for names and values."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    return facts


def status(word: str) -> str:
    """Return a status in its colour."""
    return f"[{_COLOURS.get(word, 'white')}]{word}[/]"


def money(amount: str | Decimal) -> str:
    """Format an amount of US dollars."""
    return in_words(Decimal(amount))


def moment(text: str | None) -> str:
    """Return a time in short form, in the local time zone."""
    return datetime.fromisoformat(text).astimezone().strftime("%m-%d %H:%M:%S") if text else ""


def local_time(text: str | None) -> str:
    """Return a time in the local time zone, with its day and zone."""
    return f"{datetime.fromisoformat(text).astimezone():%a %Y-%m-%d %H:%M:%S %Z}" if text else "never"


def length_of_time(text: str) -> str:
    """Return an ISO 8601 duration in short form: -P1DT2H is -1d 2h."""
    length = _LENGTH.validate_python(text)
    minutes = int(abs(length).total_seconds()) // 60
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m")]
    sign = "-" if length < timedelta(0) else ""
    said = " ".join(f"{number}{unit}" for number, unit in parts if number)
    return f"{sign}{said}" if said else "at once"


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds from one time to another, or to now."""
    if start is None:
        return None
    finish = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return (finish - datetime.fromisoformat(start)).total_seconds()


def nothing(whole: str, filtered: str, again: str, *wanted: object) -> RenderableType:
    """Return the message for an empty list: `whole` if no filter in `wanted` is set, else that nothing matches, and
    how to see everything.
    """
    return Text(f"{filtered}. List all: {again}" if any(wanted) else whole, style="dim")


def plain_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str | Column]) -> RenderableType:
    """Return a table of the rows; the first column is what names a row."""
    return plain(rows, columns)


def facts(said: Mapping[str, Any]) -> RenderableType:
    """Return names and values, one pair to a line."""
    grid = facts_table()
    for name, value in said.items():
        grid.add_row(name, escape("" if value is None else str(value)))
    return grid
