"""How approvals and notifications are shown."""

from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from cli.layout import Column, Listing, below, clean, shorten
from cli.task_views import given
from cli.terminal import escape, facts_table, moment

_ACTION = 160  # characters
_PROPOSAL = (
    Column("id", "id"), Column("kind", rank=4), Column("status", rank=2), Column("agent", rank=3),
    Column("action", "text", rank=1), Column("until", rank=5), Column("because", "text", rank=6),
)  # fmt: skip


def approval_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of approvals."""
    table = Listing(
        _PROPOSAL,
        [
            (
                row["id"],
                row["kind"],
                _APPROVAL.get(row["status"], row["status"]),
                row["agent"],
                escape(shorten(f"{row['tool']}: {given(row['arguments'])}", _ACTION)),
                moment(row["expires_at"]),
                escape(row["decision"]["rule"]),
            )
            for row in rows
        ],
    )
    return below(table, "To decide: rota approvals show ID, then approve ID or reject ID --reason …")


_APPROVAL = {
    "open": "[yellow]open[/]", "approved": "[green]approved[/]", "rejected": "[red]rejected[/]",
    "denied": "[red]denied[/]", "expired": "[magenta]expired[/]",
}  # fmt: skip


def approval_detail(row: dict[str, Any]) -> RenderableType:
    """Return one proposal with everything that an approver needs to decide."""
    decision = row["decision"]
    facts = facts_table()
    by = f" by {row['decided_by']}" if row["decided_by"] else ""
    facts.add_row("approval", row["id"])
    facts.add_row("status", f"{_APPROVAL.get(row['status'], row['status'])}{escape(by)}")
    facts.add_row("agent", escape(f"{row['agent']}, in task {row['task_id']}, step {row['seq']}"))
    facts.add_row("request", escape(str(decision["context"].get("message", ""))))
    facts.add_row("intent", escape(decision["intent"] or "-"))
    facts.add_row("why", escape(decision["why"] or decision["reasoning"] or "-"))
    sure = "-" if decision["confidence"] is None else f"{decision['confidence']:.0%}"
    facts.add_row("confidence", sure)
    facts.add_row("alternatives", escape("; ".join(decision["alternatives"]) or "-"))
    facts.add_row("level", escape(" → ".join(decision["because"])))
    past = decision["performance"]
    facts.add_row(
        "last 30 days",
        f"{past['done']} done, {past['refused']} refused; {past['approved']} approved, {past['rejected']} rejected",
    )
    ask = row["asks"][min(row["stage"], len(row["asks"]) - 1)]
    who = ", ".join([*(["the user of the task"] if row["kind"] == "suggestion" else []), *ask["roles"], *ask["users"]])
    facts.add_row(
        "approvers", escape(f"{who}; {row['needed']} needed, until {moment(row['expires_at'])}, then {ask['then']}")
    )
    for vote in row["votes"]:
        void = "" if vote["counts"] else " (does not count: of an earlier version or stage)"
        facts.add_row("vote", escape(f"{vote['user']}: {vote['verdict']}{void} {vote['words'] or ''}"))
    if row["reason"]:
        facts.add_row("reason", escape(row["reason"]))
    if row["linked_task"]:
        facts.add_row("carried out in", row["linked_task"])
    given = "\n".join(f"{name}: {value}" for name, value in row["arguments"].items())
    return Group(facts, Panel(escape(given or "no arguments"), title=Text(clean(row["tool"])), border_style="yellow"))


def notification_list(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a list of notifications."""
    if not rows:
        return Text("No unread notifications.", style="dim")
    parts: list[RenderableType] = []
    for row in rows:
        parts += [
            Text.from_markup(f"[bold]{escape(row['title'])}[/]  [dim]{moment(row['created_at'])}[/]", emoji=False)
        ]
        parts += [Text(clean(row["body"])), Text()]
    return Group(*parts)
