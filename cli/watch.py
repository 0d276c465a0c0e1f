"""Follow events as they happen: `rota watch`, and `rota show --follow`."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from cli import find, terminal
from cli.client import Api, match_agent
from cli.options import AgentOption, JsonOption
from cli.stream import ALL, Message, follow
from cli.terminal import escape

INTERRUPTED = 130
_ID = 18  # characters that tell ids apart; every command takes an id by how it begins
TypeOption = Annotated[
    list[str] | None, typer.Option("--type", help="Only these types, or patterns such as 'task.*'. Repeatable.")
]


def watch(
    types: TypeOption = None,
    agent: AgentOption = None,
    task: Annotated[str | None, typer.Option(help="Only events of this task.")] = None,
    after: Annotated[str | None, typer.Option(help="Cursor: begin with the events after it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow what happens in the organisation. Ctrl-C ends it."""
    api = Api.find()
    query: dict[str, Any] = {"type": types or [], "agent": match_agent(api, agent) if agent else None}
    query["task"] = find.task_id(api, task) if task else None
    try:
        for message in follow(api, ALL, after=after, **query):
            if as_json:
                typer.echo(json.dumps({"id": message.id, "type": message.event, "data": message.data}))
            elif message.event == "ready":
                terminal.out.print("Waiting for events. Ctrl-C ends this.", style="dim")
            else:
                terminal.out.print(line_of(message))
    except KeyboardInterrupt as interrupt:
        raise typer.Exit(INTERRUPTED) from interrupt


def follow_task(api: Api, task_id: str) -> None:
    """Print the events of a task until it ends. Ctrl-C leaves the task running."""
    try:
        for message in follow(api, f"/v1/tasks/{task_id}/events"):
            terminal.out.print(line_of(message, is_of_one_task=True))
    except KeyboardInterrupt as interrupt:
        typer.echo(f"rota: The task continues: {task_id}", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt


def line_of(message: Message, *, is_of_one_task: bool = False) -> str:
    """Return an event as one line: time, type, agent, what it tells, and how the id of its task begins."""
    data = message.data
    if message.event == "reset":
        return f"[yellow]{escape(data['reason'])}[/] Tasks that have not ended: {len(data['tasks'])}"
    at = f"{datetime.fromisoformat(data['at']).astimezone():%H:%M:%S}" if "at" in data else ""
    task = "" if is_of_one_task else (data.get("task_id") or "")[:_ID]
    parts = (at or " " * 8, f"{message.event:<17}", escape(data.get("agent") or ""), summary(message), task)
    return "  ".join(part for part in parts if part)


def summary(message: Message) -> str:
    """Return the most telling fields of an event, in colour where that is a status."""
    data = message.data
    if message.event.startswith("task.") and message.event != "task.step":
        said = terminal.status(data["status"])
        more = data.get("waiting_for") or data.get("error")
        return f"{said} [dim]{escape(more)}[/]" if more else said
    if message.event == "decision.made":
        tools = ", ".join(action["tool"] for action in data.get("actions") or [])
        return escape(tools or "answers")
    if message.event == "message.delta":
        return escape(data["text"].replace("\n", " "))
    telling = ("title", "tool", "name", "slug", "rule", "reason", "status")
    return escape(str(next((data[field] for field in telling if data.get(field)), "")))
