"""Follow events as they happen: `rota watch`, and `rota show --follow`."""

import json
from typing import Annotated, Any

import typer

from cli import find, terminal
from cli.client import Api, match_agent
from cli.options import AgentOption, JsonOption
from cli.terminal import escape
from rota_client import Event

INTERRUPTED = 130
_ID = 18  # characters that tell ids apart; every command takes an id by how it begins
TypeOption = Annotated[
    list[str] | None, typer.Option("--type", help="Only these types, or patterns such as 'task.*'. Repeatable.")
]


def watch(
    types: TypeOption = None,
    agent: AgentOption = None,
    task: Annotated[str | None, typer.Option(help="Only events of this task.")] = None,
    conversation: Annotated[str | None, typer.Option(help="Only events of this conversation, by its id.")] = None,
    session: Annotated[str | None, typer.Option(help="Only events of the conversations of this session.")] = None,
    after: Annotated[str | None, typer.Option(help="Cursor: begin with the events after it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow what happens in the organisation. Ctrl-C ends it."""
    api = Api.find()
    slug, only = match_agent(api, agent) if agent else None, find.task_id_or_none(api, task)
    narrowed: dict[str, Any] = {"agent": slug, "task": only, "conversation": conversation, "session": session}
    try:
        for event in api.follow_all(types=types or [], after=after, **narrowed):
            if as_json:
                typer.echo(json.dumps({"id": event.id, "type": event.type, "data": _data(event)}))
            elif event.type == "ready":
                terminal.out.print("Waiting for events. Ctrl-C ends this.", style="dim")
            else:
                terminal.out.print(line_of(event))
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt


def follow_task(api: Api, task_id: str) -> None:
    """Print the events of a task until it ends. Ctrl-C leaves the task running."""
    try:
        for event in api.follow(task_id):
            terminal.out.print(line_of(event, is_of_one_task=True))
    except KeyboardInterrupt as interrupt:
        typer.echo(f"rota: The task continues: {task_id}", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt


def _data(event: Event) -> dict[str, Any]:
    """Return what an event tells, with its time, as the stream has it."""
    return event.data | ({"at": event.at.isoformat()} if event.at else {})


def line_of(event: Event, *, is_of_one_task: bool = False) -> str:
    """Return an event as one line: time, type, agent, what it tells, and how the id of its task begins."""
    data = event.data
    if event.type == "reset":
        return f"[yellow]{escape(data['reason'])}[/] Tasks that have not ended: {len(data['tasks'])}"
    at = f"{event.at.astimezone():%H:%M:%S}" if event.at else ""
    task = "" if is_of_one_task else (data.get("task_id") or "")[:_ID]
    parts = (at or " " * 8, f"{event.type:<17}", escape(data.get("agent") or ""), summary(event), task)
    return "  ".join(part for part in parts if part)


def summary(event: Event) -> str:
    """Return the most telling fields of an event, in colour where that is a status."""
    data = event.data
    if event.type.startswith("task.") and event.type != "task.step":
        said = terminal.status(data["status"])
        more = data.get("waiting_for") or data.get("error")
        return f"{said} [dim]{escape(more)}[/]" if more else said
    if event.type == "decision.made":
        tools = ", ".join(action["tool"] for action in data.get("actions") or [])
        return escape(tools or "answers")
    if event.type == "message.delta":
        return escape(data["text"].replace("\n", " "))
    telling = ("title", "tool", "name", "slug", "rule", "reason", "status")
    return escape(str(next((data[field] for field in telling if data.get(field)), "")))
