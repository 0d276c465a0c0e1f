"""Commands about records that agents create: show them, change their status, record their outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api
from cli.options import JsonOption

Id = Annotated[str, typer.Argument(help="Id of the record.")]
Note = Annotated[str, typer.Option("--note", help="Note.")]
Assignee = Annotated[str | None, typer.Option(help="Staff member to assign it to.")]
Only = Annotated[str | None, typer.Option("--status", "-s", help="Only with this status.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=200)]


@dataclass(frozen=True)
class Noun:
    """A kind of record: its command, its path in the API, the columns of its list, and its help."""

    command: str
    path: str
    columns: tuple[str, ...]
    help: str
    has_status: bool = True


TICKETS = Noun("tickets", "/v1/tickets", ("id", "status", "priority", "subject", "assignee"), "Support tickets.")
STAFF_TASKS = Noun("staff-tasks", "/v1/staff-tasks", ("id", "status", "due_on", "title", "assignee"), "Staff tasks.")
CAMPAIGNS = Noun("campaigns", "/v1/campaigns", ("id", "status", "name", "members", "note"), "Campaigns.")
POSTS = Noun("posts", "/v1/posts", ("id", "status", "platform", "scheduled_at", "text"), "Social posts.")
EXPORTS = Noun(
    "exports", "/v1/exports", ("id", "what", "format", "row_count", "created_at"), "Exported files.", has_status=False
)
PAYMENTS = Noun(
    "payments",
    "/v1/payments",
    ("id", "status", "amount", "currency", "kind", "paid_at"),
    "Payments, including pending ones.",
)
CALENDAR = Noun("calendar", "/v1/calendar-events", ("id", "status", "kind", "starts_at", "title"), "Calendar events.")
BOOKINGS = Noun("bookings", "/v1/bookings", ("id", "status", "client_id", "session_id"), "Bookings of class sessions.")
TRIALS = Noun("trials", "/v1/trials", ("id", "status", "lead_id", "session_id"), "Bookings of trial classes.")
RESOURCES = Noun(
    "resources", "/v1/resources", ("id", "kind", "name", "version"), "Free-form records.", has_status=False
)
_LONGEST = 60


def _make(noun: Noun, *, can_show: bool = True) -> typer.Typer:
    """Return a command group that lists records if no subcommand is given, and has `show` for one record."""
    made = typer.Typer(help=noun.help, invoke_without_command=True)
    made.callback()(_listing(noun))
    if can_show:
        made.command("show")(_showing(noun))
    return made


def _listing(noun: Noun) -> Callable[..., None]:
    def list_(context: typer.Context, status: Only = None, limit: Limit = 20, as_json: JsonOption = False) -> None:
        if context.invoked_subcommand is None:
            _list(noun, status, limit, as_json=as_json)

    def list_all(context: typer.Context, limit: Limit = 20, as_json: JsonOption = False) -> None:
        if context.invoked_subcommand is None:
            _list(noun, None, limit, as_json=as_json)

    chosen = list_ if noun.has_status else list_all
    chosen.__doc__ = f"List {noun.command.replace('-', ' ')}, newest first."
    return chosen


def _list(noun: Noun, status: str | None, limit: int, *, as_json: bool) -> None:
    found = Api.find().get(noun.path, status=status, limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [{name: _short(name, one[name]) for name in noun.columns} for one in found]
    empty = f"No {noun.command.replace('-', ' ')}" + (f" are {status}." if status else " yet.")
    terminal.out.print(terminal.plain_table(rows, list(noun.columns)) if rows else empty)


def _short(name: str, value: Any) -> Any:
    if name.endswith("_at"):
        return terminal.local_time(value)
    if isinstance(value, dict):
        return ", ".join(f"{count} {status}" for status, count in value.items())
    return f"{value[:_LONGEST]}…" if isinstance(value, str) and len(value) > _LONGEST else value


def _showing(noun: Noun) -> Callable[..., None]:
    def show(record_id: Id, as_json: JsonOption = False) -> None:
        _print(Api.find().get(f"{noun.path}/{record_id}"), as_json=as_json)

    show.__doc__ = f"Show one of the {noun.command.replace('-', ' ')}."
    return show


def _print(one: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=one)
        return
    for name, value in one.items():
        told = terminal.local_time(value) if name.endswith("_at") else value
        terminal.out.print(f"[dim]{name.replace('_', ' '):<16}[/] {terminal.escape('' if told is None else str(told))}")


def _change(noun: Noun, record_id: str, change: dict[str, Any], *, as_json: bool) -> None:
    sent = {name: value for name, value in change.items() if value is not None}
    _print(Api.find().patch(f"{noun.path}/{record_id}", sent), as_json=as_json)


def _settle(noun: Noun, record_id: str, said: dict[str, Any], *, as_json: bool) -> None:
    sent = {name: value for name, value in said.items() if value is not None}
    _print(Api.find().post(f"{noun.path}/{record_id}/outcome", sent), as_json=as_json)


# ── tickets, tasks for staff ─────────────────────────────────────────────────────────────────────────────────────────

tickets_app = _make(TICKETS)
staff_tasks_app = _make(STAFF_TASKS)


@tickets_app.command("move")
def move_ticket(
    record_id: Id,
    status: Annotated[str | None, typer.Argument(help="open, in_progress, resolved or closed.")] = None,
    priority: Annotated[str | None, typer.Option("--priority", "-p", help="low, normal, high or urgent.")] = None,
    assignee: Assignee = None,
    note: Annotated[str | None, typer.Option("--note", help="Note.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a ticket's status, priority or assignee."""
    change = {"status": status, "priority": priority, "assignee": assignee, "note": note}
    _change(TICKETS, record_id, change, as_json=as_json)


@staff_tasks_app.command("move")
def move_staff_task(
    record_id: Id,
    status: Annotated[str | None, typer.Argument(help="open, done or cancelled.")] = None,
    due_on: Annotated[str | None, typer.Option(help="Due date, YYYY-MM-DD.")] = None,
    assignee: Assignee = None,
    note: Annotated[str | None, typer.Option("--note", help="Note.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a staff task's status, due date or assignee."""
    change = {"status": status, "due_on": due_on, "assignee": assignee, "note": note}
    _change(STAFF_TASKS, record_id, change, as_json=as_json)


# ── campaigns ────────────────────────────────────────────────────────────────────────────────────────────────────────

campaigns_app = _make(CAMPAIGNS)


@campaigns_app.command("members")
def members(record_id: Id, limit: Limit = 50, as_json: JsonOption = False) -> None:
    """List a campaign's members with the status of their messages."""
    found = Api.find().get(f"{CAMPAIGNS.path}/{record_id}/members", limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
        return
    terminal.out.print(terminal.plain_table(found, ["client_id", "name", "status", "reason"]))


@campaigns_app.command("launch")
def launch(record_id: Id, as_json: JsonOption = False) -> None:
    """Send the messages of a draft. Each message is charged."""
    _print(Api.find().post(f"{CAMPAIGNS.path}/{record_id}/launch"), as_json=as_json)


@campaigns_app.command("cancel")
def cancel_campaign(record_id: Id, as_json: JsonOption = False) -> None:
    """End a campaign. Unsent messages are cancelled."""
    _print(Api.find().post(f"{CAMPAIGNS.path}/{record_id}/cancel"), as_json=as_json)


# ── posts, payments, the calendar, bookings ──────────────────────────────────────────────────────────────────────────

posts_app = _make(POSTS)
payments_app = _make(PAYMENTS)
calendar_app = _make(CALENDAR)
bookings_app = _make(BOOKINGS, can_show=False)
trials_app = _make(TRIALS, can_show=False)


@posts_app.command("settle")
def settle_post(
    record_id: Id,
    outcome: Annotated[str, typer.Argument(help="published or cancelled.")],
    url: Annotated[str | None, typer.Option(help="URL of the published post.")] = None,
    note: Note = "",
    as_json: JsonOption = False,
) -> None:
    """Record that a post was published or cancelled."""
    _settle(POSTS, record_id, {"outcome": outcome, "url": url, "note": note}, as_json=as_json)


@payments_app.command("settle")
def settle_payment(
    record_id: Id,
    outcome: Annotated[str, typer.Argument(help="paid or failed.")],
    reference: Annotated[str | None, typer.Option(help="Reference of the payment provider.")] = None,
    note: Note = "",
    as_json: JsonOption = False,
) -> None:
    """Record the outcome of a requested payment."""
    _settle(PAYMENTS, record_id, {"outcome": outcome, "reference": reference, "note": note}, as_json=as_json)


@calendar_app.command("settle")
def settle_event(
    record_id: Id,
    outcome: Annotated[str, typer.Argument(help="held, no_show or cancelled.")],
    note: Note = "",
    as_json: JsonOption = False,
) -> None:
    """Record the outcome of an event."""
    _settle(CALENDAR, record_id, {"outcome": outcome, "note": note}, as_json=as_json)


@bookings_app.command("settle")
def settle_booking(
    record_id: Id,
    outcome: Annotated[str, typer.Argument(help="attended or no_show.")],
    as_json: JsonOption = False,
) -> None:
    """Record whether a client attended a class session."""
    _settle(BOOKINGS, record_id, {"outcome": outcome}, as_json=as_json)


@trials_app.command("settle")
def settle_trial(
    record_id: Id,
    outcome: Annotated[str, typer.Argument(help="attended, no_show or cancelled.")],
    as_json: JsonOption = False,
) -> None:
    """Record the outcome of a trial class."""
    _print(Api.find().put(f"{TRIALS.path}/{record_id}/outcome", {"outcome": outcome}), as_json=as_json)


# ── exports, resources ───────────────────────────────────────────────────────────────────────────────────────────────

exports_app = _make(EXPORTS)
resources_app = _make(RESOURCES)


@exports_app.command("get")
def fetch_export(
    record_id: Id,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write to.")] = None,
) -> None:
    """Print the content of an export, or write it to a file."""
    content = Api.find().text(f"{EXPORTS.path}/{record_id}/content")
    if output is None:
        typer.echo(content, nl=False)
    else:
        output.write_text(content, newline="")


@exports_app.command("remove")
def remove_export(record_id: Id) -> None:
    """Delete an export."""
    Api.find().delete(f"{EXPORTS.path}/{record_id}")
    typer.echo("deleted")


@resources_app.command("remove")
def remove_resource(record_id: Id) -> None:
    """Delete a resource. Its name can then be used again."""
    Api.find().delete(f"{RESOURCES.path}/{record_id}")
    typer.echo("deleted")


APPS = {
    "tickets": tickets_app,
    "staff-tasks": staff_tasks_app,
    "campaigns": campaigns_app,
    "posts": posts_app,
    "payments": payments_app,
    "calendar": calendar_app,
    "bookings": bookings_app,
    "trials": trials_app,
    "exports": exports_app,
    "resources": resources_app,
}
