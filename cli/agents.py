"""Commands about agents and the tools they can have."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import agent_views, terminal
from cli.client import Api, fail, match_agent
from cli.files import as_yaml, edited, mapping, parse_yaml, read_mapping, read_text
from cli.layout import Column
from cli.options import JsonOption

agents_app = typer.Typer(help="Agents: prompts, models, tools and limits.", invoke_without_command=True)

_STORED = ("id", "created_at", "updated_at")
_TOOL = [
    Column("name", "id"), Column("category", rank=3), Column("risk", rank=2), Column("tokens", rank=4),
    Column("description", "text", rank=1),
]  # fmt: skip

Slug = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's slug or its beginning.")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="YAML or JSON, as `rota agents show` prints it; - for standard input."),
]
NameOption = Annotated[str | None, typer.Option(help="Display name.")]
RoleOption = Annotated[str | None, typer.Option(help="Role, in a few words.")]
DescriptionOption = Annotated[str | None, typer.Option(help="Description.")]
PromptOption = Annotated[str | None, typer.Option(help="System prompt; @FILE reads it from a file.")]
ModelOption = Annotated[str | None, typer.Option(help="Model, such as claude-haiku-4-5.")]
FallbackOption = Annotated[str | None, typer.Option(help="Model to call if the first one is unavailable; or none.")]
ToolOption = Annotated[list[str] | None, typer.Option("--tool", help="A tool; may be repeated. Replaces all tools.")]
ModeOption = Annotated[str | None, typer.Option(help="manual, semi-auto or auto.")]
MostOption = Annotated[
    str | None, typer.Option("--max-in-flight", help="Maximum tasks published or running at once; or none.")
]


@agents_app.callback()
def agents(context: typer.Context, as_json: JsonOption = False) -> None:
    """List agents with their statistics of the last 30 days."""
    if context.invoked_subcommand:
        return
    api = Api.find()
    found = api.get("/v1/agents")
    if as_json:
        terminal.out.print_json(data=found)
    elif found:
        terminal.out.print(agent_views.agent_table(found, api.get("/v1/agent-statistics")))
    else:
        terminal.out.print("No agents. Add the ready-made ones: rota agents seed")


@agents_app.command("show")
def show(agent: Slug, as_json: JsonOption = False) -> None:
    """Print an agent as YAML, for `rota agents edit --file`."""
    _print(_agent(Api.find(), agent), as_json=as_json)


@agents_app.command("create")
def create(
    slug: Annotated[str, typer.Argument(help="Slug: lower-case letters, digits and hyphens.")],
    file: FileOption = None,
    name: NameOption = None,
    role: RoleOption = None,
    description: DescriptionOption = None,
    prompt: PromptOption = None,
    model: ModelOption = None,
    fallback: FallbackOption = None,
    tool: ToolOption = None,
    mode: ModeOption = None,
    max_in_flight: MostOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an agent from a file, from options, or from both: options override the file."""
    said = _options(name, role, description, prompt, model, fallback, tool, mode, max_in_flight)
    fields = _without(read_mapping(file), _STORED) if file else {}
    _print(Api.find().post("/v1/agents", fields | said | {"slug": slug}), as_json=as_json)


@agents_app.command("edit")
def edit(
    agent: Slug,
    file: FileOption = None,
    name: NameOption = None,
    role: RoleOption = None,
    description: DescriptionOption = None,
    prompt: PromptOption = None,
    model: ModelOption = None,
    fallback: FallbackOption = None,
    tool: ToolOption = None,
    mode: ModeOption = None,
    max_in_flight: MostOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change an agent by options or a file; without either, in your editor. Tasks that have started keep their prompt
    and model.
    """
    api = Api.find()
    slug = match_agent(api, agent)
    change = _options(name, role, description, prompt, model, fallback, tool, mode, max_in_flight)
    if file:
        change = _without(read_mapping(file), ("slug", *_STORED)) | change
    if not change:
        change = _edited(api.get(f"/v1/agents/{slug}"))
    _print(api.patch(f"/v1/agents/{slug}", change), as_json=as_json)


def _options(
    name: str | None,
    role: str | None,
    description: str | None,
    prompt: str | None,
    model: str | None,
    fallback: str | None,
    tools: list[str] | None,
    mode: str | None,
    max_in_flight: str | None,
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": name,
        "role": role,
        "description": description,
        "system_prompt": read_text(Path(prompt[1:])) if prompt and prompt.startswith("@") else prompt,
        "model": model,
        "tools": tools,
        "mode": mode,
    }
    said = {field: value for field, value in said.items() if value is not None}
    for field, value in (("fallback_model", fallback), ("max_in_flight", max_in_flight)):
        if value is not None:
            said[field] = None if value == "none" else value
    return said


def _edited(agent: dict[str, Any]) -> dict[str, Any]:
    """Open an agent in the user's editor, and return the fields that they changed."""
    before = _without(agent, ("slug", *_STORED))
    after = mapping(parse_yaml(edited(as_yaml(before) + "\n"), "The edited text"), "The edited text")
    change = {field: value for field, value in after.items() if field not in before or before[field] != value}
    return change or fail("Nothing was changed.")


@agents_app.command("enable")
def enable(agent: Slug) -> None:
    """Enable an agent."""
    _switch(agent, is_on=True)


@agents_app.command("disable")
def disable(agent: Slug) -> None:
    """Disable an agent: it starts no tasks, and its running tasks stop at their next step."""
    _switch(agent, is_on=False)


def _switch(agent: str, *, is_on: bool) -> None:
    api = Api.find()
    found = api.patch(f"/v1/agents/{match_agent(api, agent)}", {"enabled": is_on})
    terminal.out.print(f"{found['slug']} is {'enabled' if found['enabled'] else 'disabled'}.")


@agents_app.command("delete")
def delete(
    agent: Slug, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False
) -> None:
    """Delete an agent and cancel its unfinished tasks."""
    api = Api.find()
    slug = match_agent(api, agent)
    if not yes:
        typer.confirm(f"Delete the agent {slug} and cancel its unfinished tasks?", abort=True)
    api.delete(f"/v1/agents/{slug}")
    terminal.out.print(f"{slug} is deleted.")


@agents_app.command("seed")
def seed() -> None:
    """Add the ready-made agents that are missing."""
    added = Api.find().post("/v1/agents/seed")["added"]
    terminal.out.print(f"added: {', '.join(added)}" if added else "All ready-made agents already exist.")


def tools(as_json: JsonOption = False) -> None:
    """List the tools that agents can use."""
    found = Api.find().get("/v1/tools")
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [one | {"tokens": one["price"] or ""} for one in found]
    terminal.out.print(terminal.plain_table(rows, _TOOL))


def _agent(api: Api, said: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/v1/agents/{match_agent(api, said)}")
    return found


def _without(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    terminal.out.print_json(data=found) if as_json else typer.echo(as_yaml(_without(found, _STORED)))
