"""How usage and bills are shown."""

from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cli.layout import Column, Listing
from cli.terminal import escape, moment, money


def usage_report(report: dict[str, Any]) -> RenderableType:
    """Return a month's usage."""
    total = report["total"]
    head = Text.from_markup(
        f"[bold]{report['month'][:7]}[/]   {total['model_calls']} model calls   "
        f"base {money(total['base_cost'])}   billed [bold]{money(total['billed_cost'])}[/]"
    )
    parts: list[RenderableType] = [head]
    parts += _notes_on(total)
    for title, rows, key in (("by model", report["by_model"], "name"), ("by agent", report["by_agent"], "name")):
        parts += [Text(), _usage_lines(title, rows, key)]
    return Group(*parts)


def _notes_on(total: dict[str, Any]) -> list[RenderableType]:
    """Return notes on the amounts: how many calls were rehearsed, unpriced or estimated."""
    notes = {
        "rehearsal_calls": "of the calls went to the rehearsal model: priced as if real, free of charge.",
        "unpriced_calls": "of the calls were billed at 0, because no price is known. Set one: rota prices set MODEL …",
        "estimated_calls": "of the calls were billed by estimate: the provider did not report all tokens.",
    }
    return [Text(f"{total[name]} {note}", "yellow") for name, note in notes.items() if total[name]]


def _usage_lines(title: str, rows: list[dict[str, Any]], key: str) -> RenderableType:
    ranks = {"calls": 2, "input": 3, "cached": 5, "output": 4, "base": 6, "billed": 1}
    columns = [Column(title, "id"), *(Column(name, rank=rank, is_right=True) for name, rank in ranks.items())]
    return Listing(
        columns,
        [
            (
                escape(f"{row[key]}{' (unpriced)' if title == 'by model' and row['unpriced_calls'] else ''}"),
                str(row["model_calls"]),
                f"{row['input_tokens']:,}",
                f"{row['cached_tokens']:,}",
                f"{row['output_tokens']:,}",
                money(row["base_cost"]),
                money(row["billed_cost"]),
            )
            for row in rows
        ],
    )


def bill(found: dict[str, Any]) -> RenderableType:
    """Return a month's bill."""
    total = found["total"]
    state = f"closed {moment(found['closed_at'])}" if found["closed_at"] else "not closed yet"
    head = Text.from_markup(
        f"[bold]{found['month'][:7]}[/] ({state})   {total['model_calls']} model calls   "
        f"base {money(total['base_cost'])}   markup {_percent(found['markup'])}   "
        f"billed [bold]{money(total['billed_cost'])}[/]"
    )
    parts: list[RenderableType] = [head, *_notes_on(total)]
    for part in ("model", "agent", "conversation", "workflow"):
        if found[f"by_{part}"]:
            parts += [Text(), _usage_lines(f"by {part}", found[f"by_{part}"], "name")]
    return Group(*parts)


def _percent(share: str) -> str:
    """Return a share in percent, with at most two decimals: 0.125 is 12.5%."""
    return f"{round(100 * Decimal(share), 2).normalize():f}%"
