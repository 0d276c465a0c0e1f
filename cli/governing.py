"""Commands about the installation and the organisation as a whole: retention, and messages to everyone."""

from typing import Annotated, Any

import typer

from cli import find, terminal
from cli.client import Api, fail
from cli.layout import Column
from cli.options import JsonOption

retention_app = typer.Typer(help="How long things are kept.", invoke_without_command=True)

_KEPT = {
    "reads": "what agents read (audit log)",
    "changes": "the rest of the audit log",
    "conversations": "conversations, from the last message",
}
_DEFAULT = "default"
_BROADCAST = [
    Column("at", "id"),
    Column("level", "text"),
    Column("text", "text"),
    Column("until", "text"),
    Column("id"),
]

DaysOption = Annotated[str | None, typer.Option(help="Days; or default, for the time that the installation sets.")]


@retention_app.callback()
def retention(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show how long this organisation keeps what."""
    if context.invoked_subcommand is None:
        _print(Api.find().get("/v1/retention"), as_json=as_json)


@retention_app.command("set")
def set_retention(
    reads: DaysOption = None,
    changes: DaysOption = None,
    conversations: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set how long this organisation keeps what. Options that are left out keep their values."""
    given = {"reads": reads, "changes": changes, "conversations": conversations}
    body = {what: _days(days) for what, days in given.items() if days is not None}
    if not body:
        fail("Nothing to change: give --reads, --changes or --conversations.")
    _print(Api.find().patch("/v1/retention", body), as_json=as_json)


def _days(given: str) -> int | None:
    if given == _DEFAULT:
        return None
    if not given.isdecimal():
        fail("Give a number of days, or the word default.")
    return int(given)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    terminal.out.print(terminal.facts({label: _in_words(found[what]) for what, label in _KEPT.items()}))


def _in_words(kept: dict[str, Any]) -> str:
    days = "for ever" if kept["days"] is None else f"{kept['days']} days"
    bounds = f"at least {kept['least']}" + ("" if kept["most"] is None else f", at most {kept['most']}")
    whose = "the installation's default" if kept["chosen"] is None else "chosen by this organisation"
    return f"{days} ({whose}; days: {bounds})"


def broadcast(
    text: Annotated[str | None, typer.Argument(help="What to tell every organisation.")] = None,
    level: Annotated[str, typer.Option(help="info, warning or critical.")] = "info",
    until: Annotated[str | None, typer.Option(help="Time until which it is listed, such as 2027-01-01T00:00Z.")] = None,
    withdraw: Annotated[
        str | None, typer.Option(metavar="ID", help="Withdraw this one instead: its id, its beginning, or last.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell every organisation something, or list what was told. For operators."""
    api = Api.find()
    if withdraw is not None:
        api.delete(f"/v1/broadcasts/{_broadcast(api, withdraw)}")
        typer.echo("withdrawn; it is not listed any more")
    elif text is None:
        _print_announcements(api.get("/v1/broadcasts")["broadcasts"], as_json=as_json)
    else:
        made = api.post("/v1/broadcasts", {"text": text, "level": level, "until": until})
        _print_announcements([made], as_json=as_json)


def _broadcast(api: Api, said: str) -> str:
    return find.id_in_pages(api, "/v1/broadcasts", said, what="broadcast", listed_by="rota broadcast")


def announcements(as_json: JsonOption = False) -> None:
    """List what the installation's operators tell everyone now."""
    _print_announcements(Api.find().get("/v1/announcements"), as_json=as_json)


def _print_announcements(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [one | {"at": terminal.moment(one["created_at"]), "until": _until(one)} for one in found]
    empty = terminal.nothing("No announcements.", "", "rota announcements")
    terminal.out.print(terminal.plain_table(rows, _BROADCAST) if rows else empty)


def _until(one: dict[str, Any]) -> str:
    if one.get("withdrawn_at"):
        return "withdrawn"
    return terminal.moment(one["until"]) if one["until"] else ""
