"""Commands about feedback on answers."""

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from cli import find, terminal
from cli.client import Api, match_agent, say
from cli.find import TaskId
from cli.layout import Column, Listing
from cli.options import AgentOption, JsonOption
from cli.terminal import escape, moment
from domain.feedback.schemas import Rating

_FEEDBACK = (
    Column("rating", rank=1), Column("comment", "text", rank=2), Column("agent", rank=4), Column("given", rank=5),
    Column("task", "id", rank=3),
)  # fmt: skip


def rate(
    task_id: TaskId,
    rating: Annotated[Rating, typer.Argument(help="up: the answer was good; down: it was not.")],
    comment: Annotated[str, typer.Argument(help="Why, in a word or more.")] = "",
) -> None:
    """Say what you think of a task's answer."""
    api = Api.find()
    found = find.task_id(api, task_id)
    api.put(f"/v1/tasks/{found}/feedback", {"rating": rating, "comment": comment})
    say(f"Rated {rating}: {found}")


def feedback(
    agent: AgentOption = None,
    rating: Annotated[Rating | None, typer.Option("--rating", help="Only of this rating.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="At most so many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what people thought of answers, latest first."""
    api = Api.find()
    slug = match_agent(api, agent) if agent else None
    found = api.get("/v1/feedback", agent=slug, rating=rating, limit=limit)["feedback"]
    terminal.out.print_json(data=found) if as_json else terminal.out.print(_table(found))


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    if not rows:
        return Text("No feedback yet. Give some: rota rate TASK up, or /down in rota chat.", style="dim")
    return Listing(
        _FEEDBACK,
        [
            (row["rating"], escape(row["comment"]), escape(row["agent"]), moment(row["given_at"]), row["task_id"])
            for row in rows
        ],
    )
