"""Commands about workflows: sequences of tasks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import task_views, terminal
from cli.client import Api, fail
from cli.files import as_yaml, read_mapping
from cli.find import id_in, is_whole
from cli.layout import Column
from cli.options import JsonOption

workflows_app = typer.Typer(help="Sequences of tasks.", invoke_without_command=True)

_WORKFLOW = [Column("workflow", "id"), Column("name", "text"), Column("steps"), Column("agents", "text")]
_RUN = [Column("run", "id"), Column("started", rank=1), Column("tasks", rank=2), Column("variables", "line", rank=3)]

Slug = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's slug.")]


@workflows_app.callback()
def workflows(context: typer.Context, as_json: JsonOption = False) -> None:
    """List workflows."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/workflows")
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {"workflow": one["slug"], "name": one["name"], "steps": len(one["steps"])}
        | {"agents": ", ".join(dict.fromkeys(step["agent"] for step in one["steps"]))}
        for one in found
    ]
    none = "No workflows. Add one: rota workflows set welcome --file welcome.yaml"
    terminal.out.print(terminal.plain_table(rows, _WORKFLOW) if rows else none)


@workflows_app.command("show")
def show(slug: Slug, as_json: JsonOption = False) -> None:
    """Print a workflow as YAML, for `rota workflows set`."""
    _print(Api.find().get(f"/v1/workflows/{slug}"), as_json=as_json)


@workflows_app.command("set")
def set_workflow(
    slug: Slug,
    file: Annotated[
        Path,
        typer.Option(
            "--file", "-f", help="YAML or JSON: name, and steps with agent and message; - for standard input."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Add or change a workflow."""
    fields = {name: value for name, value in read_mapping(file).items() if name not in {"slug", "changed_at"}}
    _print(Api.find().put(f"/v1/workflows/{slug}", fields), as_json=as_json)


@workflows_app.command("remove")
def remove(slug: Slug) -> None:
    """Remove a workflow. Its runs are kept."""
    Api.find().delete(f"/v1/workflows/{slug}")
    terminal.out.print(f"{slug} is removed.")


@workflows_app.command("start")
def start(
    slug: Slug,
    variables: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: replaces {{NAME}} in the messages; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a workflow."""
    given = dict(_variable(one) for one in variables or [])
    _print_run(Api.find().post(f"/v1/workflows/{slug}/runs", {"variables": given}), as_json=as_json)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    return (name, value) if name and equals else fail(f"--set {text!r}: write NAME=VALUE.")


@workflows_app.command("runs")
def runs(slug: Slug, as_json: JsonOption = False) -> None:
    """List the latest runs of a workflow."""
    found = Api.find().get(f"/v1/workflows/{slug}/runs")
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {"run": one["id"], "started": terminal.moment(one["started_at"]), "tasks": len(one["tasks"])}
        | {"variables": ", ".join(f"{name}={value}" for name, value in one["variables"].items())}
        for one in found
    ]
    none = f"No runs of {slug}. Start one: rota workflows start {slug}"
    terminal.out.print(terminal.plain_table(rows, _RUN) if rows else none)


@workflows_app.command("run")
def show_run(
    slug: Slug,
    run: Annotated[str, typer.Argument(help="The run's id, its beginning or end, or last.")] = "last",
    as_json: JsonOption = False,
) -> None:
    """Show a run and the status of its tasks."""
    api = Api.find()
    listed_by = f"rota workflows runs {slug}"
    whole = run if is_whole(run) else id_in(api, f"/v1/workflows/{slug}/runs", run, what="run", listed_by=listed_by)
    found = api.get(f"/v1/runs/{whole}")
    if as_json:
        terminal.out.print_json(data=found)
        return
    _print_run(found, as_json=False)
    tasks = {task["id"]: task for task in api.get("/v1/tasks", id=found["tasks"], limit=200)["tasks"]}
    terminal.out.print(task_views.task_table([tasks[one] for one in found["tasks"] if one in tasks]))


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    terminal.out.print_json(data=found) if as_json else typer.echo(as_yaml({n: found[n] for n in ("name", "steps")}))


def _print_run(found: dict[str, Any], *, as_json: bool) -> None:
    line = f"{found['id']}  {len(found['tasks'])} tasks\n  follow it: rota workflows run {found['slug']}"
    terminal.out.print_json(data=found) if as_json else terminal.out.print(line)
