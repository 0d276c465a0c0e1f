"""Commands about money: the wallet, budgets, bills, the price list."""

from typing import Annotated, Any

import typer

from cli import money_views, terminal
from cli.client import Api, fail, match_agent
from cli.find import TaskOption, task_id_or_none
from cli.layout import Column
from cli.options import JsonOption
from core.ids import new_id
from core.model_providers import PROVIDERS

wallet_app = typer.Typer(help="Prepaid tokens.", invoke_without_command=True)
prices_app = typer.Typer(help="Prices of models.", invoke_without_command=True)
budgets_app = typer.Typer(help="Monthly budgets.", invoke_without_command=True)

_ENTRY = [
    Column("created_at", "id"), Column("tokens", rank=1), Column("reason", rank=2), Column("item", rank=3),
    Column("source", rank=6), Column("target", rank=7), Column("task_id", rank=4), Column("seq", rank=8),
    Column("note", "text", rank=5),
]  # fmt: skip


@wallet_app.callback()
def wallet(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the balance in tokens."""
    if context.invoked_subcommand is None:
        _print_balance(Api.find().get("/v1/wallet"), as_json=as_json)


@wallet_app.command("top-up")
def top_up(
    tokens: Annotated[int, typer.Argument(min=1, help="Number of tokens bought.")],
    organisation: Annotated[str | None, typer.Option(help="Slug of the organisation; default: your own.")] = None,
    note: Annotated[str | None, typer.Option(help="Note, such as the invoice number.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: repeated with it, the command adds nothing.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add tokens and resume tasks that wait for funds. For operators."""
    api = Api.find()
    slug = organisation or api.get("/v1/me")["organisation"]["slug"]
    body = {"tokens": tokens, "note": note}
    found = api.post(f"/v1/organisations/{slug}/top-ups", body, key=key or str(new_id()))
    _print_balance(found, as_json=as_json)


@wallet_app.command()
def statement(
    task: TaskOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500)] = 30,
    as_json: JsonOption = False,
) -> None:
    """List the entries of the ledger, newest first."""
    api = Api.find()
    found = api.get("/v1/wallet/statement", task=task_id_or_none(api, task), limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [entry | {"created_at": terminal.moment(entry["created_at"])} for entry in found["entries"]]
    terminal.out.print(
        terminal.plain_table(rows, _ENTRY)
        if rows
        else terminal.nothing("No entries yet.", "No entry matches", "rota wallet statement", task)
    )


@wallet_app.command()
def prices(
    history: Annotated[bool, typer.Option("--history", help="Include earlier prices.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the prices of actions in tokens."""
    found = Api.find().get("/v1/token-prices", history=history)
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [row | {"since": terminal.moment(row["effective_from"]) or "start"} for row in found]
    terminal.out.print(terminal.plain_table(rows, ["item", "tokens", "since"]))


@wallet_app.command("check")
def check(as_json: JsonOption = False) -> None:
    """Compare the balance with the whole ledger."""
    found = Api.find().get("/v1/wallet/reconciliation")
    is_good = not (found["difference"] or found["held_difference"] or found["sum_over_accounts"])
    verdict = "they agree" if is_good else "THEY DIFFER"
    terminal.out.print_json(data=found) if as_json else terminal.out.print(
        f"{found['entries']} entries: ledger {found['ledger_available']}, wallet {found['wallet_available']}: {verdict}"
    )
    raise typer.Exit(0 if is_good else 1)


def _print_balance(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    if not found["is_prepaid"]:
        terminal.out.print("This organisation is not prepaid: its tasks need no tokens.")
        terminal.out.print(f"To sell it some: rota setup SLUG --prepaid. Kept from before: {found['balance']}")
        return
    owed = f"; [red]{found['owed']} owed in fees, which the next top-up pays first[/]" if found["owed"] else ""
    terminal.out.print(f"[bold]{found['balance']}[/] tokens, {found['held']} of them held for running tasks{owed}")


@budgets_app.callback()
def budgets(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the budgets and their use in this month."""
    if context.invoked_subcommand is None:
        _print_budgets(Api.find().get("/v1/budgets"), as_json=as_json)


@budgets_app.command("set")
def set_budget(
    dollars: Annotated[str, typer.Argument(help="US dollars a month, such as 50 or 12.5.")],
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", help="Budget of one agent; default: of the organisation.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Set a monthly budget. Tasks beyond it wait."""
    api = Api.find()
    _print_budgets(api.put(_path(api, agent), {"monthly_limit": dollars}), as_json=as_json)


@budgets_app.command("lift")
def lift_budget(
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", help="Budget of one agent; default: of the organisation.")
    ] = None,
) -> None:
    """Remove a budget."""
    api = Api.find()
    api.delete(_path(api, agent))
    typer.echo("removed")


def _path(api: Api, agent: str | None) -> str:
    return f"/v1/budgets/{match_agent(api, agent)}" if agent else "/v1/budgets"


def _print_budgets(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {
            "budget": row["agent"] or "(organisation)",
            "limit": terminal.money(row["monthly_limit"]),
            "spent": terminal.money(row["spent"]),
            "held": terminal.money(row["held"]),
            "share": f"{row['share']:.0%}",
        }
        for row in found
    ]
    columns = ["budget", "limit", "spent", "held", "share"]
    terminal.out.print(terminal.plain_table(rows, columns) if rows else "No budget is set: rota budgets set 50")


def bill(
    month: Annotated[str, typer.Argument(help="Month, such as 2026-11.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a month's bill, by model, agent, conversation and workflow."""
    if as_csv and as_json:
        fail("Give either --csv or --json.")
    api = Api.find()
    if as_csv:
        typer.echo(api.text(f"/v1/bills/{month}", format="csv"), nl=False)
        return
    found = api.get(f"/v1/bills/{month}")
    terminal.out.print_json(data=found) if as_json else terminal.out.print(money_views.bill(found))


_PRICE = [
    Column("model", "id"), Column("provider", rank=3), Column("input_per_million", rank=1, title="input"),
    Column("output_per_million", rank=2, title="output"), Column("cached_per_million", rank=4, title="cached"),
    Column("cache_write_per_million", rank=5, title="cache write"), Column("context_window", rank=6, title="window"),
]  # fmt: skip

Dollars = Annotated[str | None, typer.Option(help="US dollars per million tokens.")]


@prices_app.callback()
def model_prices(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the prices of models with a price of your own and of models that your agents use, markup included, in US
    dollars per million tokens.
    """
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/prices")
    if as_json:
        terminal.out.print_json(data=found)
        return
    none = (
        "No agent uses a model, and you have set no price of your own. To set one: "
        "rota prices set MODEL --provider openai --input 1 --output 2"
    )
    terminal.out.print(terminal.plain_table(found, _PRICE) if found else none)


@prices_app.command("set")
def set_price(
    model: str,
    provider: Annotated[str, typer.Option(help=f"Wire format of the model: {' or '.join(PROVIDERS)}.")],
    price_in: Annotated[str, typer.Option("--input", help="US dollars per million input tokens.")],
    price_out: Annotated[str, typer.Option("--output", help="US dollars per million output tokens.")],
    cached: Dollars = None,
    cache_write: Dollars = None,
    window: Annotated[int | None, typer.Option(help="Context window in tokens.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Set a price of your own for a model."""
    body = {
        "provider": provider,
        "input_per_million": price_in,
        "output_per_million": price_out,
        "cached_per_million": cached,
        "cache_write_per_million": cache_write,
        "context_window": window,
    }
    found = Api.find().put(f"/v1/prices/{model}", {name: value for name, value in body.items() if value is not None})
    terminal.out.print_json(data=found) if as_json else terminal.out.print(terminal.plain_table([found], _PRICE))


@prices_app.command("remove")
def remove_price(model: str) -> None:
    """Remove your own price of a model. The public price applies again."""
    Api.find().delete(f"/v1/prices/{model}")
    typer.echo(f"Your own price of {model} is removed. The public price applies again.")
