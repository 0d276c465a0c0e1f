"""Commands about webhooks: URLs that events are posted to, and deliveries."""

from typing import Annotated, Any

import typer

from cli import people_views, terminal
from cli.client import Api, match_agent
from cli.options import JsonOption

webhooks_app = typer.Typer(help="Webhooks and their deliveries.", invoke_without_command=True)

WebhookId = Annotated[str, typer.Argument(help="The webhook's id; `rota webhooks` lists them.")]


@webhooks_app.callback()
def webhooks(context: typer.Context, as_json: JsonOption = False) -> None:
    """List webhooks and their state."""
    if context.invoked_subcommand is not None:
        return
    found = Api.find().get("/v1/webhooks")
    if as_json:
        terminal.out.print_json(data=found)
    elif not found:
        terminal.out.print("No webhooks. Add one: rota webhooks add https://example.com/hook --event 'approval.*'")
    else:
        rows = [
            {"id": one["id"], "state": _state(one), "events": ", ".join(one["events"]), "url": one["url"]}
            for one in found
        ]
        terminal.out.print(terminal.plain_table(rows, ["id", "state", "events", "url"]))


def _state(webhook: dict[str, Any]) -> str:
    if webhook["disabled_at"]:
        return f"disabled: {webhook['disabled_because']}"
    if webhook["failing_since"]:
        return f"failing since {terminal.local_time(webhook['failing_since'])}: {webhook['last_error']}"
    return "works"


@webhooks_app.command("add")
def add(
    url: str,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", help="Event or pattern, such as approval.*; may be repeated. Default: all."),
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", "-a", help="Only events of this agent; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a webhook. Prints its signing secret, only once."""
    api = Api.find()
    agents = [match_agent(api, one) for one in agent or []]
    made = api.post("/v1/webhooks", {"url": url, "agents": agents or None} | ({"events": event} if event else {}))
    if as_json:
        terminal.out.print_json(data=made)
        return
    typer.echo(f"webhook {made['id']}")
    typer.echo(f"signing secret, shown only once: {made['signing_secret']}")


@webhooks_app.command("remove")
def remove(webhook_id: WebhookId) -> None:
    """Remove a webhook. No more events are posted to it."""
    Api.find().delete(f"/v1/webhooks/{webhook_id}")
    typer.echo("removed")


@webhooks_app.command("enable")
def enable(webhook_id: WebhookId) -> None:
    """Enable a disabled webhook, or retry at once while its receiver is in back-off."""
    Api.find().post(f"/v1/webhooks/{webhook_id}/enable")
    typer.echo(f"enabled; to send failed deliveries again: rota webhooks send-again {webhook_id}")


@webhooks_app.command("deliveries")
def deliveries(
    webhook_id: WebhookId,
    status: Annotated[
        str | None, typer.Option("--status", "-s", help="Only with this status: queued, sent, failed, …")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 30,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, sent and pending, newest first."""
    found = Api.find().get(f"/v1/webhooks/{webhook_id}/deliveries", status=status, limit=limit)["messages"]
    terminal.out.print_json(data=found) if as_json else terminal.out.print(people_views.message_table(found))


@webhooks_app.command("send-again")
def send_again(
    webhook_id: WebhookId,
    message_id: Annotated[str | None, typer.Argument(help="Id of a delivery; default: all that failed.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only of events since this time: 2026-03-01T09:00:00+01:00.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one delivery again, or all that failed, with their original ids."""
    path = f"/v1/webhooks/{webhook_id}/deliveries"
    if message_id is not None:
        sent = Api.find().post(f"{path}/{message_id}/send-again")
        terminal.out.print_json(data=sent) if as_json else typer.echo("queued again")
        return
    found = Api.find().post(f"{path}/send-again", {"since": since} if since else {})
    terminal.out.print_json(data=found) if as_json else typer.echo(f"queued again: {found['queued']}")
