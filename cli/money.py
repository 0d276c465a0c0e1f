"""Commands about money: the wallet, budgets, bills, the price list."""

from typing import Annotated, Any

import typer

from cli import money_views, terminal
from cli.client import Api, fail, match_agent
from cli.find import TaskOption, task_id_or_none
from cli.layout import Column
from cli.options import JsonOption
from core.ids import new_id

wallet_app = typer.Typer(help="Prepaid tokens.", invoke_without_command=True)
prices_app = typer.Typer(help="What models cost, where you set a price of your own.", invoke_without_command=True)
budgets_app = typer.Typer(help="Monthly limits on what is billed.", invoke_without_command=True)

_ENTRY = [
    Column("created_at", "id"), Column("tokens", rank=1), Column("reason", rank=2), Column("item", rank=3),
    Column("source", rank=6), Column("target", rank=7), Column("task_id", rank=4), Column("seq", rank=8),
    Column("note", "text", rank=5),
]  # fmt: skip


@wallet_app.callback()
def wallet(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show how many tokens there are."""
    if context.invoked_subcommand is None:
        _print_balance(Api.find().get("/v1/wallet"), as_json=as_json)


@wallet_app.command("top-up")
def top_up(
    tokens: Annotated[int, typer.Argument(min=1, help="Tokens that were bought.")],
    organisation: Annotated[str | None, typer.Option(help="Its slug; your own without it.")] = None,
    note: Annotated[str | None, typer.Option(help="Such as the invoice's number.")] = None,
    key: Annotated[str | None, typer.Option(help="With the same key again, nothing more is added.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add tokens; tasks that wait for funds go on. For operators."""
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
    """List the ledger's entries, newest first."""
    api = Api.find()
    found = api.get("/v1/wallet/statement", task=task_id_or_none(api, task), limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [entry | {"created_at": terminal.moment(entry["created_at"])} for entry in found["entries"]]
    terminal.out.print(
        terminal.plain_table(rows, _ENTRY)
        if rows
        else terminal.nothing("No token was ever moved here.", "No entry matches", "rota wallet statement", task)
    )


@wallet_app.command()
def prices(
    history: Annotated[bool, typer.Option("--history", help="All there ever were.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what actions cost, in tokens."""
    found = Api.find().get("/v1/token-prices", history=history)
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [row | {"since": terminal.moment(row["effective_from"]) or "ever"} for row in found]
    terminal.out.print(terminal.plain_table(rows, ["item", "tokens", "since"]))


@wallet_app.command("check")
def check(as_json: JsonOption = False) -> None:
    """Compare the balance with the whole ledger."""
    found = Api.find().get("/v1/wallet/reconciliation")
    is_good = not (found["difference"] or found["held_difference"] or found["sum_over_accounts"])
    verdict = "it agrees to the token" if is_good else "IT DOES NOT AGREE"
    terminal.out.print_json(data=found) if as_json else terminal.out.print(
        f"{found['entries']} entries say {found['ledger_available']}, the wallet {found['wallet_available']}: {verdict}"
    )
    raise typer.Exit(0 if is_good else 1)


def _print_balance(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    if not found["is_prepaid"]:
        terminal.out.print("This organisation does not buy tokens: no task spends any, or waits for them.")
        terminal.out.print(f"To sell it some: rota setup SLUG --prepaid. Kept from before: {found['balance']}")
        return
    owed = f"; [red]{found['owed']} owed in fees, which the next top-up pays first[/]" if found["owed"] else ""
    terminal.out.print(f"[bold]{found['balance']}[/] tokens, {found['held']} of them promised to tasks at work{owed}")


@budgets_app.callback()
def budgets(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the budgets and how far this month has used them."""
    if context.invoked_subcommand is None:
        _print_budgets(Api.find().get("/v1/budgets"), as_json=as_json)


@budgets_app.command("set")
def set_budget(
    dollars: Annotated[str, typer.Argument(help="US dollars a month, such as 50 or 12.5.")],
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Of one agent; else of the organisation.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what is billed in a month; tasks beyond the limit wait."""
    api = Api.find()
    _print_budgets(api.put(_path(api, agent), {"monthly_limit": dollars}), as_json=as_json)


@budgets_app.command("lift")
def lift_budget(
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Of one agent; else of the organisation.")] = None,
) -> None:
    """Lift a budget."""
    api = Api.find()
    api.delete(_path(api, agent))
    typer.echo("lifted")


def _path(api: Api, agent: str | None) -> str:
    return f"/v1/budgets/{match_agent(api, agent)}" if agent else "/v1/budgets"


def _print_budgets(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {
            "of": row["agent"] or "(organisation)",
            "limit": terminal.money(row["monthly_limit"]),
            "spent": terminal.money(row["spent"]),
            "held": terminal.money(row["held"]),
            "share": f"{row['share']:.0%}",
        }
        for row in found
    ]
    columns = ["of", "limit", "spent", "held", "share"]
    terminal.out.print(terminal.plain_table(rows, columns) if rows else "No budget is set: rota budgets set 50")


def bill(
    month: Annotated[str, typer.Argument(help="Such as 2026-11.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a month's bill, by model, agent, conversation and workflow."""
    if as_csv and as_json:
        fail("Either --csv or --json.")
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
    """List the prices of the models that you priced or that your agents use, in US dollars per million tokens."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/prices")
    if as_json:
        terminal.out.print_json(data=found)
        return
    none = "No price of your own: every model goes by the public table. Set one: rota prices set MODEL --input 1 …"
    terminal.out.print(terminal.plain_table(found, _PRICE) if found else none)


@prices_app.command("set")
def set_price(
    model: str,
    provider: Annotated[str, typer.Option(help="Whose wire format it is served over: anthropic or openai.")],
    price_in: Annotated[str, typer.Option("--input", help="US dollars per million tokens.")],
    price_out: Annotated[str, typer.Option("--output", help="US dollars per million tokens.")],
    cached: Dollars = None,
    cache_write: Dollars = None,
    window: Annotated[int | None, typer.Option(help="Tokens the model can take in.")] = None,
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
    """Remove your own price of a model: the public price applies again."""
    Api.find().delete(f"/v1/prices/{model}")
    typer.echo(f"{model} goes by the public price again.")
