"""The `rota` command: every subcommand, and how errors are told."""

import sys
from collections.abc import Callable

import typer

from cli import approvals, control, followups, money, people, processes, schedules, tasks
from core.errors import RotaError

app = typer.Typer(
    name="rota",
    help="Rota puts AI agents on shift.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (processes.up, processes.doctor),
    "Use": (
        tasks.submit,
        control.cancel,
        control.retry,
        control.replay,
        control.settle,
        control.pause,
        control.resume,
    ),
    "Look": (
        tasks.tasks,
        tasks.show,
        tasks.failures,
        tasks.agents,
        tasks.usage,
        tasks.queues,
        money.bill,
        people.messages,
        people.audit,
        approvals.notifications,
    ),
    "Run": (
        processes.api,
        processes.dispatcher,
        processes.worker,
        processes.beat,
        processes.flower,
        processes.migrate,
        processes.setup,
        processes.rehearsal,
    ),
}
for _panel, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)
app.add_typer(control.workers_app, name="workers", rich_help_panel="Look")
app.add_typer(control.limits_app, name="limits", rich_help_panel="Look")
app.add_typer(schedules.schedules_app, name="schedules", rich_help_panel="Use")
app.add_typer(followups.followups_app, name="followups", rich_help_panel="Use")
app.add_typer(approvals.approvals_app, name="approvals", rich_help_panel="Decide")
app.add_typer(approvals.rules_app, name="rules", rich_help_panel="Decide")
app.add_typer(money.wallet_app, name="wallet", rich_help_panel="Money")
app.add_typer(money.budgets_app, name="budgets", rich_help_panel="Money")
app.add_typer(people.users_app, name="users", rich_help_panel="People")
app.add_typer(people.keys_app, name="keys", rich_help_panel="People")
app.add_typer(people.secrets_app, name="secrets", rich_help_panel="Run")


def run() -> None:
    """Run the command; an error of ours is one clear line, not a traceback."""
    try:
        app()
    except RotaError as error:
        typer.secho(f"rota: {error.message}", fg=typer.colors.RED, err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
