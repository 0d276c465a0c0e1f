"""Commands about channels, templates of messages, and events."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api, fail
from cli.files import read_text
from cli.layout import Column
from cli.options import JsonOption

channels_app = typer.Typer(help="Channels for e-mail and text messages.", invoke_without_command=True)
templates_app = typer.Typer(help="Templates of messages.", invoke_without_command=True)
events_app = typer.Typer(help="Events that start schedules.", no_args_is_help=True)

_CHANNEL = [Column("kind", "id"), Column("settings", "text"), Column("secret"), Column("changed")]
_TEMPLATE = [Column("name", "id"), Column("subject", "text"), Column("changed")]
_EVENT_RUN = [
    Column("schedule", "id"),
    Column("status", rank=1),
    Column("task", rank=2),
    Column("reason", "text", rank=3),
]

TemplateName = Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")]


@channels_app.callback()
def channels(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the configured channels."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/channels")
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {"kind": one["kind"], "secret": "set" if one["has_secret"] else "none"}
        | {"settings": ", ".join(f"{name} {value}" for name, value in one["settings"].items() if value is not None)}
        | {"changed": terminal.moment(one["changed_at"])}
        for one in found
    ]
    none = "No channels. Set one up: rota channels email --host mail.example.com --sender hello@example.com"
    terminal.out.print(terminal.plain_table(rows, _CHANNEL) if rows else none)


@channels_app.command("email")
def set_up_email(
    host: Annotated[str, typer.Option(help="Host name of the mail server.")],
    sender: Annotated[str, typer.Option(help="Sender address.")],
    port: Annotated[int, typer.Option(min=1, max=65535)] = 587,
    security: Annotated[str, typer.Option(help="starttls, tls or none.")] = "starttls",
    username: Annotated[
        str | None, typer.Option(help="User name; prompts for the password unless ROTA_MAIL_PASSWORD is set.")
    ] = None,
    sender_name: Annotated[str | None, typer.Option(help="Sender name.")] = None,
    password: Annotated[str | None, typer.Option(envvar="ROTA_MAIL_PASSWORD", hidden=True)] = None,
    as_json: JsonOption = False,
) -> None:
    """Send e-mail through a mail server."""
    if username is not None and password is None:
        password = typer.prompt("Password", hide_input=True)
    body = {
        "host": host,
        "port": port,
        "security": security,
        "username": username,
        "password": password,
        "sender": sender,
        "sender_name": sender_name,
    }
    found = Api.find().put("/v1/channels/email", {name: value for name, value in body.items() if value is not None})
    terminal.out.print_json(data=found) if as_json else terminal.out.print(f"E-mail is sent through {host}.")


@channels_app.command("gateway")
def set_up_gateway(
    kind: Annotated[str, typer.Argument(help="sms or whatsapp.")],
    url: Annotated[str, typer.Argument(help="URL that receives the signed POST requests.")],
    as_json: JsonOption = False,
) -> None:
    """Send text messages through a gateway that accepts signed POST requests. Prints its signing secret, only once."""
    if kind not in {"sms", "whatsapp"}:
        fail(f"There is no gateway for {kind!r}. Use sms or whatsapp.")
    _print_secret(Api.find().put(f"/v1/channels/{kind}", {"url": url}), as_json=as_json)


@channels_app.command("remove")
def remove_channel(kind: Annotated[str, typer.Argument(help="email, sms or whatsapp.")]) -> None:
    """Remove a channel."""
    Api.find().delete(f"/v1/channels/{kind}")
    terminal.out.print(f"The channel {kind} is removed.")


def _print_secret(found: dict[str, Any], *, as_json: bool) -> None:
    terminal.out.print_json(data=found) if as_json else typer.echo(found["signing_secret"])


@templates_app.callback()
def templates(context: typer.Context, as_json: JsonOption = False) -> None:
    """List templates."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/templates")
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [one | {"changed": terminal.moment(one["changed_at"])} for one in found]
    none = 'No templates. Add one: rota templates set welcome --subject "Welcome" --body "Hello {{client.name}}"'
    terminal.out.print(terminal.plain_table(rows, _TEMPLATE) if rows else none)


@templates_app.command("show")
def show_template(name: TemplateName, as_json: JsonOption = False) -> None:
    """Show a template."""
    found = next((one for one in Api.find().get("/v1/templates") if one["name"] == name), None)
    if found is None:
        fail(f"There is no template {name!r}. See: rota templates")
    terminal.out.print_json(data=found) if as_json else typer.echo(f"{found['subject']}\n\n{found['body']}")


@templates_app.command("set")
def set_template(
    name: TemplateName,
    subject: Annotated[str, typer.Option(help="Subject; placeholders such as {{client.name}} are replaced on use.")],
    body: Annotated[str | None, typer.Option(help="Body.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="File with the body; - for standard input.")] = None,
) -> None:
    """Add or change a template."""
    if (body is None) == (file is None):
        fail("Give either --body or --file.")
    words = body if file is None else read_text(file)
    Api.find().put(f"/v1/templates/{name}", {"subject": subject, "body": words})
    terminal.out.print(f"The template {name} is stored.")


@templates_app.command("remove")
def remove_template(name: TemplateName) -> None:
    """Remove a template."""
    Api.find().delete(f"/v1/templates/{name}")
    terminal.out.print(f"The template {name} is removed.")


@events_app.command("post")
def post_event(
    name: Annotated[str, typer.Argument(help="Name of the event, such as lead.created.")],
    payload: Annotated[str, typer.Option("--payload", help='Data as JSON, such as \'{"source": "website"}\'.')] = "{}",
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency key: repeated with it, the event starts nothing.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Post an event. Each schedule for this event whose filter matches runs once."""
    try:
        given = json.loads(payload)
    except ValueError as error:
        fail(f"--payload is not valid JSON: {error}")
    found = Api.find().post("/v1/events", {"name": name, "payload": given}, key=key)
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [one | {"task": one["task_id"]} for one in found["runs"]]
    none = f'No schedule matches {name}. Add one: rota schedules add SLUG "…" --on-event {name} --agent support'
    terminal.out.print(terminal.plain_table(rows, _EVENT_RUN) if rows else none)
