"""Commands for approvers: the inbox, approving, rejecting, the rules, notifications."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import approval_views, terminal
from cli.client import Api, fail
from cli.files import as_yaml, read_yaml
from cli.find import id_in_pages
from cli.options import JsonOption

approvals_app = typer.Typer(help="Actions of agents that need a decision.", invoke_without_command=True)
rules_app = typer.Typer(help="Rules that set the level of actions.", no_args_is_help=True)

IdArgument = Annotated[
    str, typer.Argument(metavar="APPROVAL", help="The approval's id, its beginning or end, or last.")
]


@approvals_app.callback()
def inbox(
    context: typer.Context,
    mine: Annotated[bool, typer.Option("--mine", help="Only approvals that you can decide now.")] = False,
    status: Annotated[str, typer.Option("--status", "-s", help="open, approved, rejected, … or any.")] = "open",
    as_json: JsonOption = False,
) -> None:
    """List approvals, newest first."""
    if context.invoked_subcommand is None:
        found = Api.find().get("/v1/approvals", mine=mine, status=status, limit=200)["approvals"]
        if as_json:
            terminal.out.print_json(data=found)
        elif found:
            terminal.out.print(approval_views.approval_table(found))
        else:
            other = status != "open" or mine
            said = "No open approvals."
            terminal.out.print(terminal.nothing(said, "No approval matches", "rota approvals --status any", other))


@approvals_app.command()
def show(approval_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show an approval: the tool call, its reasons and the votes."""
    api = Api.find()
    _print(_find(api, approval_id), as_json=as_json)


DigestOption = Annotated[
    str | None,
    typer.Option("--digest", help="Digest of the version that you saw; default: the current version."),
]


@approvals_app.command()
def approve(
    approval_id: IdArgument,
    edit: Annotated[str | None, typer.Option("--edit", help='Arguments to change, as JSON: \'{"body": "…"}\'')] = None,
    words: Annotated[str | None, typer.Option("--words", "-m", help="Advice to the agent.")] = None,
    digest: DigestOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve an action, optionally edited; accept a suggestion; give advice in favour."""
    api = Api.find()
    found = _find(api, approval_id)
    body: dict[str, Any] = {"digest": digest or found["digest"]} | ({"words": words} if words else {})
    if edit is not None:
        body["arguments"] = found["arguments"] | _read_edit(edit)
    _print(api.post(f"/v1/approvals/{found['id']}/approve", body), as_json=as_json)


@approvals_app.command()
def reject(
    approval_id: IdArgument,
    reason: Annotated[str, typer.Option("--reason", "-m", help="Reason; the agent is told.")],
    digest: DigestOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject an action."""
    api = Api.find()
    found = _find(api, approval_id)
    _print(
        api.post(f"/v1/approvals/{found['id']}/reject", {"reason": reason, "digest": digest or found["digest"]}),
        as_json=as_json,
    )


def _read_edit(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        fail(f"--edit is not valid JSON: {error}")
    if not isinstance(found, dict):
        fail('--edit must be a JSON object, such as {"subject": "Hello"}.')
    return found


def _find(api: Api, said: str) -> dict[str, Any]:
    whole = id_in_pages(
        api, "/v1/approvals", said, what="approval", listed_by="rota approvals --status any", status="any"
    )
    found: dict[str, Any] = api.get(f"/v1/approvals/{whole}")
    return found


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    terminal.out.print_json(data=found) if as_json else terminal.out.print(approval_views.approval_detail(found))


@rules_app.command("show")
def show_rules() -> None:
    """Print the rules as YAML, for `rota rules set`."""
    typer.echo(as_yaml(_said(Api.find().get("/v1/rules"))))


def _said(value: Any) -> Any:
    """Return the value without fields that are not set (null, empty list or empty mapping), at every depth."""
    if isinstance(value, dict):
        return {name: _said(item) for name, item in value.items() if item not in (None, [], {})}
    return [_said(item) for item in value] if isinstance(value, list) else value


@rules_app.command("set")
def set_rules(file: Annotated[Path, typer.Argument(help="YAML or JSON, as `rota rules show` prints it.")]) -> None:
    """Replace the rules."""
    found = Api.find().put("/v1/rules", read_yaml(file))
    typer.echo(f"{len(found['rules'])} rules and {len(found['asks'])} approval stages are stored.")


def notifications(
    read: Annotated[bool, typer.Option("--read", help="Mark them as read.")] = False, as_json: JsonOption = False
) -> None:
    """Show your unread notifications."""
    api = Api.find()
    found = api.get("/v1/notifications", unread=True)
    terminal.out.print_json(data=found) if as_json else terminal.out.print(approval_views.notification_list(found))
    if read and found:
        api.post("/v1/notifications/read")
