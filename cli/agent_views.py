"""How agents are shown."""

from typing import Any

from rich.console import RenderableType

from cli.layout import Column, Listing
from cli.terminal import escape, money

_AGENT = (
    Column("agent", "id"), Column("name", "line", rank=6), Column("model", "line", rank=5), Column("tools", rank=7),
    Column("on", rank=1), Column("tasks", rank=2), Column("success", rank=3), Column("cost", rank=4),
)  # fmt: skip


def agent_table(agents: list[dict[str, Any]], statistics: list[dict[str, Any]]) -> RenderableType:
    """Return a table of agents with what they did lately."""
    by_agent = {row["agent"]: row for row in statistics}
    rows = []
    for agent in agents:
        row = by_agent.get(agent["slug"], {})
        rate = row.get("success_rate")
        rows.append(
            (
                agent["slug"],
                escape(agent["name"]),
                escape(agent["model"]),
                str(len(agent["tools"])),
                "yes" if agent["enabled"] else "no",
                str(row.get("tasks", 0)),
                "" if rate is None else f"{rate:.0%}",
                money(row.get("billed_cost", "0")),
            )
        )
    return Listing(_AGENT, rows)
