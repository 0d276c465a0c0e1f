"""The `rota` command: every subcommand, and how errors are reported."""

import importlib.metadata
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from cli import (
    agents,
    approvals,
    chat,
    contacts,
    control,
    feedback,
    followups,
    governing,
    machine,
    messaging,
    money,
    office,
    people,
    processes,
    providers,
    schedules,
    tasks,
    watch,
    webhooks,
    workflows,
)
from core.errors import Misconfigured, RotaError
from embedded.supervisor import CANNOT_START

app = typer.Typer(
    name="rota",
    help="Run tasks with AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start": (processes.up, processes.doctor, machine.env),
    "Manage": (
        tasks.submit,
        tasks.give_result,
        chat.chat,
        control.cancel,
        control.retry,
        control.replay,
        control.settle,
        feedback.rate,
        control.pause,
        control.resume,
        governing.broadcast,
    ),
    "Inspect": (
        tasks.tasks,
        tasks.show,
        watch.watch,
        tasks.failures,
        feedback.feedback,
        tasks.usage,
        tasks.queues,
        machine.status,
        machine.logs,
        agents.tools,
        money.bill,
        people.messages,
        people.audit,
        governing.announcements,
        approvals.notifications,
    ),
    "Operate": (
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
app.add_typer(agents.agents_app, name="agents", rich_help_panel="Manage")
app.add_typer(workflows.workflows_app, name="workflows", rich_help_panel="Manage")
app.add_typer(messaging.events_app, name="events", rich_help_panel="Manage")
app.add_typer(contacts.contacts_app, name="contacts", rich_help_panel="People")
app.add_typer(contacts.inbox_app, name="inbox", rich_help_panel="People")
app.add_typer(messaging.channels_app, name="channels", rich_help_panel="Messages")
app.add_typer(messaging.templates_app, name="templates", rich_help_panel="Messages")
app.add_typer(control.workers_app, name="workers", rich_help_panel="Inspect")
app.add_typer(control.limits_app, name="limits", rich_help_panel="Inspect")
app.add_typer(governing.retention_app, name="retention", rich_help_panel="Manage")
app.add_typer(schedules.schedules_app, name="schedules", rich_help_panel="Manage")
app.add_typer(followups.followups_app, name="followups", rich_help_panel="Manage")
for _name, _app in office.APPS.items():
    app.add_typer(_app, name=_name, rich_help_panel="Records")
app.add_typer(webhooks.webhooks_app, name="webhooks", rich_help_panel="Manage")
app.add_typer(approvals.approvals_app, name="approvals", rich_help_panel="Approvals")
app.add_typer(approvals.rules_app, name="rules", rich_help_panel="Approvals")
app.add_typer(money.wallet_app, name="wallet", rich_help_panel="Money")
app.add_typer(money.prices_app, name="prices", rich_help_panel="Money")
app.add_typer(money.budgets_app, name="budgets", rich_help_panel="Money")
app.add_typer(providers.providers_app, name="providers", rich_help_panel="Manage")
app.add_typer(people.users_app, name="users", rich_help_panel="People")
app.add_typer(people.keys_app, name="keys", rich_help_panel="People")
app.add_typer(people.secrets_app, name="secrets", rich_help_panel="Operate")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(importlib.metadata.version("rota"))
        raise typer.Exit


@app.callback()
def rota(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Run tasks with AI agents."""


def run() -> None:
    """Run the command. Expected errors are printed as one clear message, without a traceback."""
    if "" not in sys.path:  # the user's own tools may be in the current folder
        sys.path.append("")
    try:
        app()
    except Exception as error:
        message = in_words(error)
        if message is None:
            raise
        typer.secho(f"rota: {message}", fg=typer.colors.RED, err=True)
        logging.getLogger(__name__).debug("ended by an error", exc_info=error)
        sys.exit(exit_status(error, sys.argv[1:2]))


def in_words(error: Exception) -> str | None:
    """Return the message for an error, or None for a bug of ours, which needs the traceback."""
    if isinstance(error, RotaError):
        return error.message
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return "The current folder no longer exists. Change to another one."
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    # Looked up, not imported: most commands need no database, and its libraries are slow to load.
    refused = (
        getattr(sys.modules.get("sqlalchemy.exc"), "DBAPIError", ()),
        getattr(sys.modules.get("psycopg"), "Error", ()),
    )
    if isinstance(error, refused):
        said = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        return f"The database reports an error: {said}. If it is not set up, or by another version: rota migrate"
    return None


def exit_status(error: Exception, command: Sequence[str]) -> int:
    """Return the exit status. For a process with a wrong configuration, it tells a supervisor not to start it again."""
    is_process = bool(command) and command[0] in {one.__name__ for one in _COMMANDS["Operate"]}
    return CANNOT_START if is_process and isinstance(error, Misconfigured) else 1


if __name__ == "__main__":
    run()
