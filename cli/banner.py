"""What `rota up` says when everything runs."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli.terminal import escape, facts_table, out
from core.model_providers import KEY_VARIABLES
from embedded.state import Running


def banner(running: Running) -> RenderableType:
    """Return the banner of `rota up`. The key is printed below its frame, so that it can be copied in one piece."""
    facts = facts_table()
    facts.add_row("API", f"[bold]{running.api}[/]   docs at {running.api}/docs")
    facts.add_row("Flower", f"{running.flower}   [dim]sign in as[/] {running.flower_auth.replace(':', ' / ')}")
    for change in running.moved:
        facts.add_row("[yellow]Port[/]", f"[yellow]{escape(change)}[/]")
    model = (
        f"[yellow]rehearsal[/]: no real model answers. For one, set {' or '.join(KEY_VARIABLES)}"
        if running.model == "rehearsal"
        else "[green]live[/]: calls go to the configured providers and cost money"
    )
    facts.add_row("Model", model)
    facts.add_row("Rate", f"{running.starts_per_minute} tasks a minute here   [dim]default of an organisation: 100[/]")
    facts.add_row("Data", f"{escape(running.data)}   [dim]logs: rota logs[/]")
    tries = Table.grid(padding=(0, 0))
    for command in (
        'rota submit "Any free places in spin this week?" --agent support --wait',
        "rota submit --file examples/gym_messages.jsonl --agent support --wait",
        "rota status",
        'eval "$(rota env)"',
    ):
        tries.add_row(f"[bold]{escape(command)}[/]")
    return Panel(
        Group(facts, Text(), Text("In a second terminal, after  source .venv/bin/activate", style="dim"), tries),
        title="[bold]Rota is running[/]",
        subtitle="[dim]Ctrl-C stops all processes; the data are kept[/]",
        border_style="green",
        expand=False,
        padding=(1, 2),
    )


def greet(running: Running) -> None:
    """Print the banner of `rota up`, then the key on a line that only the terminal wraps."""
    out.print(banner(running))
    out.print(f"[dim]API key (rota env prints it too):[/]\n{running.api_key}", soft_wrap=True)
