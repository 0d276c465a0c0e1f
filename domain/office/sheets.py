"""Rendering rows as CSV or JSON. Pure."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from core.json_text import dump_json
from domain.office.schemas import ExportFormat, Sheet

MOST_ROWS = 10_000
MOST_BYTES = 5_000_000

_FORMULA_STARTS = ("=", "+", "-", "@")


def render(columns: Sequence[str], rows: Iterable[dict[str, Any]], form: ExportFormat) -> Sheet:
    """Render as many of `rows` as a sheet may hold, in order."""
    if form == "json":
        lines, is_complete = _fitting(dump_json(row) for row in rows)
        return Sheet(f"[{','.join(lines)}]", len(lines), is_complete)
    lines, is_complete = _fitting(_csv_line(row.values()) for row in rows)
    return Sheet(_csv_line(columns) + "".join(lines), len(lines), is_complete)


def _fitting(lines: Iterable[str]) -> tuple[list[str], bool]:
    """Return the lines that fit into a sheet, and whether all do."""
    kept: list[str] = []
    room = MOST_BYTES - 1_000  # for the heading
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0 or len(kept) == MOST_ROWS:
            return kept, False
        kept.append(line)
    return kept, True


def _csv_line(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(_cell(value) for value in values)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return a value that a spreadsheet takes as text, not as a formula: a name may be `=HYPERLINK(…)`."""
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    if not isinstance(value, str):
        return value  # numbers stay numbers, negative ones included
    is_formula = value.lstrip().startswith(_FORMULA_STARTS) or value.startswith(("\t", "\r", "\n"))
    return f"'{value}" if is_formula else value
