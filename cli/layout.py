"""Tables that fit a terminal: ids stay whole, texts are wrapped or shortened, and columns that do not fit left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import markup
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

Kind = Literal["id", "whole", "line", "text"]
"""id: never left out, never shortened. whole: never shortened. line: shortened to one line. text: broken into lines"""

_GAP = 2
_LEAST_TEXT = 12
_PROSE = 24
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Column:
    """A column of a table. Columns with the highest `rank` are left out first; the default is the column's place."""

    name: str
    kind: Kind = "whole"
    rank: int | None = None
    title: str | None = None
    is_right: bool = False


@dataclass(frozen=True)
class Wanted:
    """What one column would need: its kind, the width of its widest cell or its title, and the width of the longest
    word that holds an id and must not be broken.
    """

    kind: Kind
    width: int
    rank: int
    unbroken: int = 0

    @property
    def least(self) -> int:
        """The width below which the column is left out."""
        if self.kind in {"id", "whole"}:
            return self.width
        return min(self.width, max(_LEAST_TEXT, self.unbroken))


def fit(columns: Sequence[Wanted], available: int) -> dict[int, int]:
    """Return the places of the columns that fit into `available` cells, each with its width.

    Ids come first, then the other columns in the order of their rank, while their least widths fit. The remaining space
    goes to the columns that can use it. An id wider than `available` is broken into lines.
    """
    chosen: list[int] = []
    for place in sorted(range(len(columns)), key=lambda n: (columns[n].kind != "id", columns[n].rank, n)):
        needed = sum(columns[n].least for n in [*chosen, place]) + _GAP * len(chosen)
        if needed <= available or not chosen:
            chosen.append(place)
    widths = {place: min(columns[place].least, available) for place in sorted(chosen)}
    spare = available - sum(widths.values()) - _GAP * (len(widths) - 1)
    # The narrowest column grows first: space that it does not use is left for wider ones.
    growing = sorted(widths, key=lambda n: columns[n].width)
    for number, place in enumerate(growing):
        share = max(0, spare) // (len(growing) - number)
        more = min(share, columns[place].width - widths[place])
        if more > 0:
            widths[place] += more
            spare -= more
    return widths


@dataclass(frozen=True)
class Listing:
    """A table. Cells are rich markup. A line below it names the columns that did not fit."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wanted = [
            Wanted(
                column.kind,
                self._width(place, column),
                place if column.rank is None else column.rank,
                max((_longest_id(row[place]) for row in self.rows), default=0) if column.kind == "text" else 0,
            )
            for place, column in enumerate(self.columns)
        ]
        widths = fit(wanted, options.max_width)
        yield self._table(widths)
        left_out = [column.name.replace("_", " ") for place, column in enumerate(self.columns) if place not in widths]
        if left_out and self.rows:
            yield Text(f"Not shown in {options.max_width} columns: {', '.join(left_out)}.", style="dim")

    def _width(self, place: int, column: Column) -> int:
        return max([cell_len(_title(column)), *(_length(row[place]) for row in self.rows)])

    def _cell(self, cell: str, place: int, width: int) -> str:
        if self.columns[place].kind != "line" or _length(cell) <= width:
            return cell
        return markup.escape(shorten(Text.from_markup(cell, emoji=False).plain, width))

    def _table(self, widths: Mapping[int, int]) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP // 2))
        for place, width in widths.items():
            column = self.columns[place]
            table.add_column(
                _title(column),
                width=width,
                no_wrap=column.kind in {"whole", "line"},
                overflow="fold",
                justify="right" if column.is_right else "left",
            )
        for row in self.rows:
            table.add_row(*(self._cell(row[place], place, width) for place, width in widths.items()))
        return table


def _title(column: Column) -> str:
    return column.name.replace("_", " ") if column.title is None else column.title


def _longest_id(cell: str) -> int:
    return max((cell_len(word) for word in cell.split() if _UUID.search(word)), default=0)


def _length(cell: str) -> int:
    return max((cell_len(line) for line in Text.from_markup(cell, emoji=False).plain.split("\n")), default=0)


def plain(rows: Sequence[Mapping[str, Any]], columns: Sequence[str | Column]) -> Listing:
    """Return a table of the rows. A column given by name only gets its kind from its place and cells: the first column
    is the id, long sentences may be wrapped, everything else is shown whole or not at all.
    """
    cells = {name: [_cell(row[name]) for row in rows] for name in (_name(column) for column in columns)}
    made = [
        column if isinstance(column, Column) else Column(column, _kind_of(place, cells[column]))
        for place, column in enumerate(columns)
    ]
    return Listing(made, list(zip(*cells.values(), strict=True)))


def _name(column: str | Column) -> str:
    return column if isinstance(column, str) else column.name


def _kind_of(place: int, cells: Sequence[str]) -> Kind:
    if place == 0:
        return "id"
    longest = max(cells, key=len, default="")
    return "text" if len(longest) > _PROSE and not _UUID.fullmatch(longest) else "whole"


def clean(text: str) -> str:
    """Remove control characters, which a terminal would obey, from foreign text."""
    return "".join(letter for letter in text if (letter >= " " and not "\x7f" <= letter <= "\x9f") or letter == "\n")


def escape(text: str) -> str:
    """Escape foreign text for use within rich markup, without control characters."""
    return markup.escape(clean(text))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return escape(", ".join(str(item) for item in value))
    return f"{value:.1f}" if isinstance(value, float) else escape(str(value))


def shorten(text: str, most: int) -> str:
    """Return the first words of a text that fit into `most` cells. An id in it is kept whole or dropped."""
    words = text.split()
    if cell_len(" ".join(words)) <= most:
        return " ".join(words)
    kept = ""
    for word in words:
        longer = f"{kept} {word}".lstrip()
        if cell_len(longer) + 2 > most:
            begin = "" if kept or _UUID.search(word) else _beginning(word, most - 1)
            return f"{begin}…" if begin else f"{kept} …".lstrip()
        kept = longer
    return kept


def _beginning(word: str, most: int) -> str:
    """Return the longest beginning of a word that fits into `most` cells: a Chinese character takes two."""
    begin = word[:most]
    while cell_len(begin) > most:
        begin = begin[:-1]
    return begin


def below(table: RenderableType, *hints: str) -> RenderableType:
    """Return a table with hints below it."""
    return Group(table, Text(), *(Text(hint, style="dim") for hint in hints))
