"""How workers and limits are shown."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cli.layout import Column, Listing
from cli.terminal import escape, facts_table, seconds_between

_WORKERS = (
    Column("name", rank=1), Column("id", "id"), Column("status", "text", rank=2), Column("queues", "text", rank=7),
    Column("tasks", rank=3), Column("of", rank=4), Column("memory", rank=8), Column("stuck", rank=5),
    Column("runs", "text", rank=6),
)  # fmt: skip


def worker_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return the workers, and below each the tasks that it runs."""
    if not rows:
        return Text("No workers. Start one: rota worker", style="dim")
    shown = []
    for row in rows:
        size = str(row["concurrency"])
        if row["wanted_concurrency"] not in (None, row["concurrency"]):
            size += f" → {row['wanted_concurrency']}"
        runs = [f"{task['agent']} {seconds_between(task['since'], None):.0f} s" for task in row["tasks"][:3]]
        more = [f"{row['running'] - len(runs)} more"] if row["running"] > len(runs) else []
        because = f" ({row['draining_because']})" if row["draining_because"] else ""
        shown.append(
            (
                escape(row["name"]),
                escape(row["id"]),
                f"{_WORKER.get(row['status'], row['status'])}{escape(because)}",
                ", ".join(row["queues"]),
                str(row["running"]),
                size,
                f"{row['memory_bytes'] / 1e6:.0f} MB" if row["memory_bytes"] else "",
                str(row["stuck"] or ""),
                escape(", ".join(runs + more)),
            )
        )
    return Listing(_WORKERS, shown)


_WORKER = {"alive": "[green]alive[/]", "silent": "[red]silent[/]", "draining": "[yellow]draining[/]"}


def limits(found: dict[str, Any], paused: list[dict[str, Any]]) -> RenderableType:
    """Return an organisation's limits, how far they are used, and what is paused."""
    facts = facts_table()
    for what, used, limit in (
        ("tasks in flight", found["in_flight"], found["max_in_flight"]),
        ("tasks started in the last 60 s", found["started_last_minute"], found["starts_per_minute"]),
    ):
        facts.add_row(what, f"{used}, {'no limit' if limit is None else f'limit {limit}'}")
    facts.add_row("weight", f"{found['weight']} turn(s) for one turn of an organisation of weight 1")
    for pause in paused:
        reason = f": {pause['reason']}" if pause["reason"] else ""
        facts.add_row("paused", f"[yellow]{pause['kind']} {escape(pause['name'])}[/]{escape(reason)}")
    return facts
