"""Commands about money: the wallet, budgets, bills, the price list."""

from typing import Annotated, Any

import typer

from cli import render
from cli.client import Api, fail
from cli.options import JsonOption
from core.ids import new_id

wallet_app = typer.Typer(help="Prepaid tokens.", invoke_without_command=True)
budgets_app = typer.Typer(help="Monthly limits on what is billed.", invoke_without_command=True)

_ENTRY = ["created_at", "tokens", "reason", "item", "source", "target", "task_id", "seq", "note"]


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
    task: Annotated[str | None, typer.Option(help="Only what this task spent.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500)] = 30,
    as_json: JsonOption = False,
) -> None:
    """List the ledger's entries, newest first."""
    found = Api.find().get("/v1/wallet/statement", task=task, limit=limit)
    if as_json:
        render.out.print_json(data=found)
        return
    rows = [entry | {"created_at": render.moment(entry["created_at"])} for entry in found["entries"]]
    render.out.print(render.plain_table(rows, _ENTRY) if rows else "No token was ever moved here.")


@wallet_app.command()
def prices(
    history: Annotated[bool, typer.Option("--history", help="All there ever were.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what actions cost, in tokens."""
    found = Api.find().get("/v1/token-prices", history=history)
    if as_json:
        render.out.print_json(data=found)
        return
    rows = [row | {"since": render.moment(row["effective_from"]) or "ever"} for row in found]
    render.out.print(render.plain_table(rows, ["item", "tokens", "since"]))


@wallet_app.command("check")
def check(as_json: JsonOption = False) -> None:
    """Hold the balance against the whole ledger."""
    found = Api.find().get("/v1/wallet/reconciliation")
    is_good = not (found["difference"] or found["held_difference"] or found["sum_over_accounts"])
    verdict = "it agrees to the token" if is_good else "IT DOES NOT AGREE"
    render.out.print_json(data=found) if as_json else render.out.print(
        f"{found['entries']} entries say {found['ledger_available']}, the wallet {found['wallet_available']}: {verdict}"
    )
    raise typer.Exit(0 if is_good else 1)


def _print_balance(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        render.out.print_json(data=found)
        return
    owed = f"; [red]{found['owed']} owed in fees, which the next top-up pays first[/]" if found["owed"] else ""
    render.out.print(f"[bold]{found['balance']}[/] tokens, {found['held']} of them promised to tasks at work{owed}")


@budgets_app.callback()
def budgets(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the budgets and how far this month has used them."""
    if context.invoked_subcommand is None:
        _print_budgets(Api.find().get("/v1/budgets"), as_json=as_json)


@budgets_app.command("set")
def set_budget(
    dollars: Annotated[float, typer.Argument(min=0, help="US dollars a month.")],
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Of one agent; else of the organisation.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Limit what is billed in a month; tasks beyond it wait."""
    path = f"/v1/budgets/{agent}" if agent else "/v1/budgets"
    _print_budgets(Api.find().put(path, {"monthly_limit": str(dollars)}), as_json=as_json)


@budgets_app.command("lift")
def lift_budget(
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Of one agent; else of the organisation.")] = None,
) -> None:
    """Lift a budget."""
    Api.find().delete(f"/v1/budgets/{agent}" if agent else "/v1/budgets")
    typer.echo("lifted")


def _print_budgets(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        render.out.print_json(data=found)
        return
    rows = [
        {
            "of": row["agent"] or "(organisation)",
            "limit": render.money(row["monthly_limit"]),
            "spent": render.money(row["spent"]),
            "held": render.money(row["held"]),
            "share": f"{row['share']:.0%}",
        }
        for row in found
    ]
    columns = ["of", "limit", "spent", "held", "share"]
    render.out.print(render.plain_table(rows, columns) if rows else "No budget is set: rota budgets set 50")


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
    render.out.print_json(data=found) if as_json else render.out.print(render.bill(found))
