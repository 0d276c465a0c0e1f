"""Commands about the endpoints that serve models."""

from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api, fail
from cli.options import JsonOption
from core.model_providers import PROVIDERS

providers_app = typer.Typer(help="Endpoints that serve models.", invoke_without_command=True)

_COLUMNS = ["name", "source", "url", "key", "models", "unpriced"]


@providers_app.callback()
def providers(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the endpoints that agents can use: the organisation's own, then the installation's."""
    if context.invoked_subcommand is None:
        _print(Api.find().get("/v1/providers"), as_json=as_json)


@providers_app.command("set")
def set_provider(
    name: str,
    url: Annotated[
        str | None, typer.Option(help="Base URL; /chat/completions is appended to it: https://host/v1.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="A model that the endpoint serves; may be repeated.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(envvar="ROTA_PROVIDER_KEY", help="API key of the endpoint; - prompts for it.")
    ] = None,
    forget_key: Annotated[bool, typer.Option("--forget-key", help="Delete the stored key and send none.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add or change an endpoint that serves OpenAI's wire format. Options that are left out keep their values."""
    api = Api.find()
    before = next((one for one in _own(api) if one["name"] == name), None)
    if before is None and not (url and model):
        fail(f"Your organisation has no endpoint {name!r} yet: give --url and --model.")
    given = typer.prompt("Key", hide_input=True) if key == "-" else key
    body: dict[str, Any] = {
        "url": url or (before or {}).get("url"),
        "models": model or (before or {}).get("models"),
        "forget_key": forget_key,
    }
    found = api.put(f"/v1/providers/{name}", body | ({"key": given} if given else {}))
    _print([found], as_json=as_json)


@providers_app.command("remove")
def remove_provider(name: str) -> None:
    """Remove one of the organisation's own endpoints."""
    Api.find().delete(f"/v1/providers/{name}")
    typer.echo("removed")


def _own(api: Api) -> list[dict[str, Any]]:
    return [one for one in api.get("/v1/providers") if one["source"] == "organisation"]


def _print(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    if not found:
        terminal.out.print(
            f"No endpoints besides the providers of the settings: {', '.join(PROVIDERS)}. Add one: "
            "rota providers set house --url https://llm.example.com/v1 --model qwen3:8b"
        )
        return
    rows = [one | {"key": "set" if one["has_key"] else "none"} for one in found]
    terminal.out.print(terminal.plain_table(rows, _COLUMNS))
    if any(one["unpriced"] for one in found):
        terminal.out.print("Unpriced: no price is known, so calls are billed at 0. Set one: rota prices set MODEL …")
