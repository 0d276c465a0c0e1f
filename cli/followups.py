"""Commands about follow-ups: the rules, their planned and sent messages, and the outcomes."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api
from cli.contacts import ContactOption, contact_id
from cli.find import id_in_pages
from cli.layout import Column
from cli.options import JsonOption

followups_app = typer.Typer(no_args_is_help=True, help="Follow-up messages to contacts, and their rules.")

Slug = Annotated[str, typer.Argument(help="The rule's slug; `rota followups rules` lists them.")]


_FOLLOW_UP = [
    Column("id", "id"), Column("rule", rank=2), Column("step", rank=4), Column("status", rank=1),
    Column("when", rank=5), Column("channel", rank=6), Column("contact", rank=7), Column("why", "text", rank=3),
]  # fmt: skip


@followups_app.command("rules")
def rules(as_json: JsonOption = False) -> None:
    """List rules with their trigger, delays and state."""
    found = Api.find().get("/v1/follow-up-rules")
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {"rule": one["slug"], "trigger": one["trigger"]["kind"].replace("_", " "), "delays": _delays(one)}
        | {"channel": one["channel"], "state": "on" if one["is_on"] else "off", "name": one["name"]}
        for one in found
    ]
    terminal.out.print(terminal.plain_table(rows, ["rule", "trigger", "delays", "channel", "state", "name"]))


def _delays(rule: dict[str, Any]) -> str:
    return ", ".join(terminal.length_of_time(step["after"]) for step in rule["steps"])


@followups_app.command("on")
def on(slug: Slug) -> None:
    """Switch a rule on. It applies to events from now on. You become the user of its tasks."""
    _switch(slug, is_on=True)


@followups_app.command("off")
def off(slug: Slug) -> None:
    """Switch a rule off. Its planned messages are not sent."""
    _switch(slug, is_on=False)


def _switch(slug: str, *, is_on: bool) -> None:
    rule = Api.find().post(f"/v1/follow-up-rules/{slug}/switch", {"is_on": is_on})
    terminal.out.print(f"{terminal.escape(rule['name'])}: {'on' if rule['is_on'] else 'off'}")


@followups_app.command("list")
def list_(
    rule: Annotated[str | None, typer.Option(help="Only of this rule.")] = None,
    status: Annotated[
        str | None, typer.Option("--status", "-s", help="planned, writing, queued, sent, stopped, skipped or failed.")
    ] = None,
    contact: ContactOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List follow-ups, latest first, with times in your time zone."""
    api = Api.find()
    chosen = contact_id(api, contact) if contact else None
    found = api.get("/v1/follow-ups", rule=rule, status=status, contact=chosen, limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
        return
    if not found:
        terminal.out.print(
            terminal.nothing(
                "No follow-ups. Switch a rule on: rota followups on quotes",
                "No follow-ups match",
                "rota followups list",
                rule,
                status,
                contact,
            )
        )
        return
    rows = [
        {"id": one["id"], "rule": one["rule"], "step": one["step"], "status": one["status"]}
        | {"when": terminal.local_time(one["sent_at"] or one["due_at"] or one["wanted_at"])}
        | {"channel": one["channel"], "contact": one["contact"], "why": one["reason"] or _came_of(one)}
        for one in found
    ]
    terminal.out.print(terminal.plain_table(rows, _FOLLOW_UP))


def _came_of(one: dict[str, Any]) -> str:
    """Return the outcome of a follow-up in words."""
    parts = ["answered"] if one["answered_at"] else []
    if one["converted_at"]:
        parts.append(f"converted: {one['revenue']} {one['currency']}" if one["revenue"] else "converted")
    return ", ".join(parts)


@followups_app.command("stop")
def stop(follow_up: Annotated[str, typer.Argument(help="The follow-up's id, its beginning or end, or last.")]) -> None:
    """Stop a follow-up from being sent."""
    api = Api.find()
    whole = id_in_pages(api, "/v1/follow-ups", follow_up, what="follow-up", listed_by="rota followups list")
    found = api.post(f"/v1/follow-ups/{whole}/stop")
    terminal.out.print(f"{found['status']}: {found['reason']}")


@followups_app.command("report")
def report(
    days: Annotated[int, typer.Option(help="Days to look back.", min=1, max=3_650)] = 90,
    as_json: JsonOption = False,
) -> None:
    """Count sent, answered and converted follow-ups per rule, step, channel and variant."""
    found = Api.find().get("/v1/follow-ups/effectiveness", since=(datetime.now(UTC) - timedelta(days=days)).isoformat())
    if as_json:
        terminal.out.print_json(data=found)
        return
    columns = ["rule", "step", "channel", "variant", "planned", "sent", "answered", "converted", "stopped", "skipped"]
    rows = [
        one | {"revenue": ", ".join(f"{amount} {currency}" for currency, amount in one["revenue"].items())}
        for one in found
    ]
    terminal.out.print(
        terminal.plain_table(rows, [*columns, "failed", "revenue"]) if rows else "No follow-ups in that period."
    )


@followups_app.command("check")
def check() -> None:
    """Plan new follow-ups and start due ones now, instead of at the next periodic check."""
    found = Api.find().post("/v1/follow-ups/check")
    terminal.out.print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found.items()))
