"""Resolve an id as users type it: the whole id, its beginning or end, or `last`."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli.client import Api, fail

LAST = "last"
_WHOLE = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_BEGINNING = re.compile(r"[0-9a-fA-F-]{1,35}")
_NAMED = 5
_PAGE = 200

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id, its beginning, or last.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="Only of this task: its id, its beginning, or last.")]


def is_whole(said: str) -> bool:
    """Whether this is a complete id, which needs no look-up."""
    return _WHOLE.fullmatch(said) is not None


def one_of(known: Sequence[str], said: str, *, what: str, listed_by: str) -> str:
    """Return the id in `known`, which is newest first, that the user means. An id can also be given by its end, because
    ids of things made within a minute begin alike.

    Exits with a message if none or several fit.
    """
    if said in known:
        return said
    if said == LAST and known:
        return known[0]
    wanted = said.lower()
    matches = [one for one in known if one.startswith(wanted)] or [one for one in known if one.endswith(wanted)]
    if len(matches) == 1 and wanted:
        return matches[0]
    if matches and wanted:
        return fail(_ambiguous(said, what, matches))
    return fail(f"There is no {what} {said!r}. See: {listed_by}" if known else f"There is no {what} here.")


def _ambiguous(said: str, what: str, matches: Sequence[str]) -> str:
    more = ["…"] if len(matches) > _NAMED else []
    return f"{said!r} matches several {what}s: {', '.join([*matches[:_NAMED], *more])}. Write more of it."


def task_id(api: Api, said: str) -> str:
    """Return the id of the task that the user means."""
    if is_whole(said):
        return said
    if said == LAST:
        newest = api.get("/v1/tasks", limit=1)["tasks"]
        return str(newest[0]["id"]) if newest else fail('No tasks yet. Submit one: rota submit "…" --agent support')
    if not _BEGINNING.fullmatch(said):
        fail(f"{said!r} is not a task id. Write the id, its beginning, or last. See: rota tasks")
    found = [task["id"] for task in api.get("/v1/tasks", id_prefix=said, limit=_NAMED + 1)["tasks"]]
    return one_of(found, said, what="task", listed_by="rota tasks") if found else fail(_no_task(said))


def _no_task(said: str) -> str:
    return f"There is no task whose id (a UUID) begins with {said!r}. See: rota tasks"


def task_id_or_none(api: Api, said: str | None) -> str | None:
    """Return the id of the task that the user means, or None if none is named."""
    return None if said is None else task_id(api, said)


def id_in(api: Api, path: str, said: str, *, what: str, listed_by: str, **query: Any) -> str:
    """Return the id that the user means, among those that `path` lists."""
    if is_whole(said):
        return said
    found = api.get(path, **query)
    known = sorted((str(one["id"]) for one in found), reverse=True)  # ids sort by creation time
    return one_of(known, said, what=what, listed_by=listed_by)


def id_in_pages(api: Api, path: str, said: str, *, what: str, listed_by: str, **query: Any) -> str:
    """Return the id that the user means, where `path` lists pages, newest first, and `before` asks for the next."""
    if is_whole(said):
        return said
    known: list[str] = []
    while True:
        page = api.get(path, **query, before=known[-1] if known else None, limit=1 if said == LAST else _PAGE)
        rows = page if isinstance(page, list) else next(value for value in page.values() if isinstance(value, list))
        known += [str(one["id"]) for one in rows]
        if said == LAST or len(rows) < _PAGE:
            return one_of(known, said, what=what, listed_by=listed_by)
