"""Commands about contacts: clients and leads, what they allow, and what they wrote."""

from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api, fail
from cli.find import is_whole, one_of
from cli.layout import Column
from cli.options import JsonOption

contacts_app = typer.Typer(help="Clients and leads, and what they allow.", invoke_without_command=True)
inbox_app = typer.Typer(help="What clients and leads wrote or said.", invoke_without_command=True)

_CONTACT_HELP = "A client's or lead's id, how it begins, or their e-mail address."
ContactId = Annotated[str, typer.Argument(metavar="CONTACT", help=_CONTACT_HELP)]
ContactOption = Annotated[str | None, typer.Option("--contact", help=f"Only of this contact. {_CONTACT_HELP}")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=200)]

_CONTACT = [
    Column("id", "id"), Column("kind", rank=3), Column("name", "text", rank=1), Column("email", "line", rank=2),
    Column("phone", rank=6), Column("status", rank=5), Column("allows", "text", rank=4),
]  # fmt: skip
_RECEIVED = [
    Column("at", rank=1), Column("contact", "id"), Column("channel", rank=3), Column("body", "text", rank=2),
    Column("id", rank=4),
]  # fmt: skip


def contact_id(api: Api, said: str) -> str:
    """Return the id of the client or lead that the user means: by id, its beginning, or e-mail address."""
    if is_whole(said):
        return said
    found = api.get("/v1/contacts", search=said, limit=200)
    exact = [one["id"] for one in found if one["email"].lower() == said.lower()]
    if exact:
        return str(exact[0]) if len(exact) == 1 else fail(_several(said, exact))
    known = [one["id"] for one in found if one["id"].startswith(said.lower())]
    return one_of(known, said, what="contact", listed_by="rota contacts") if known else fail(_unknown(said))


def _several(said: str, ids: list[str]) -> str:
    return f"{len(ids)} contacts have the address {said}: {', '.join(ids)}. Name one of them by its id."


def _unknown(said: str) -> str:
    return f"No contact has the address {said!r}, or an id that begins so. Look by name: rota contacts --search …"


@contacts_app.callback()
def contacts(
    context: typer.Context,
    search: Annotated[str | None, typer.Option("--search", "-q", help="Part of a name, address or number.")] = None,
    limit: LimitOption = 30,
    as_json: JsonOption = False,
) -> None:
    """List clients and leads, by name."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/contacts", search=search, limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
    elif found:
        terminal.out.print(terminal.plain_table([one | {"allows": _allows(one)} for one in found], _CONTACT))
    else:
        terminal.out.print(terminal.nothing("No client or lead yet.", "No contact matches", "rota contacts", search))


def _allows(one: dict[str, Any]) -> str:
    if one["opted_out_at"]:
        return "nothing: opted out"
    return "advertising too" if one["has_consented"] else ""


@contacts_app.command("show")
def show(contact: ContactId, as_json: JsonOption = False) -> None:
    """Show what a contact allows, and their time zone."""
    api = Api.find()
    _print(api.get(f"/v1/contacts/{contact_id(api, contact)}/preferences"), as_json=as_json)


@contacts_app.command("change")
def change(
    contact: ContactId,
    consent: Annotated[bool | None, typer.Option("--consent/--no-consent", help="To advertising.")] = None,
    opted_out: Annotated[bool | None, typer.Option("--opt-out/--opt-in", help="Wants no follow-up at all.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA name, or none for the organisation's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what a contact allows; without an option, its value stays."""
    body: dict[str, Any] = {}
    if consent is not None:
        body["has_consented"] = consent
    if opted_out is not None:
        body["has_opted_out"] = opted_out
    if time_zone is not None:
        body["time_zone"] = None if time_zone == "none" else time_zone
    if not body:
        fail("Nothing to change: give --consent, --opt-out or --time-zone.")
    api = Api.find()
    _print(api.patch(f"/v1/contacts/{contact_id(api, contact)}/preferences", body), as_json=as_json)


def _print(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=found)
        return
    out = f"yes, since {terminal.local_time(found['opted_out_at'])}" if found["has_opted_out"] else "no"
    facts = {
        "contact": found["contact"],
        "consents to advertising": "yes" if found["has_consented"] else "no",
        "opted out": out,
        "time zone": found["time_zone"] or "the organisation's",
    }
    terminal.out.print(terminal.facts(facts))


@inbox_app.callback()
def inbox(
    context: typer.Context, contact: ContactOption = None, limit: LimitOption = 30, as_json: JsonOption = False
) -> None:
    """List what clients and leads wrote or said, the latest first."""
    if context.invoked_subcommand:
        return
    api = Api.find()
    found = api.get("/v1/inbox", contact=contact_id(api, contact) if contact else None, limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
    elif found:
        rows = [
            one | {"at": terminal.moment(one["received_at"]), "body": " ".join(one["body"].split())} for one in found
        ]
        terminal.out.print(terminal.plain_table(rows, _RECEIVED))
    else:
        terminal.out.print(terminal.nothing("Nobody has written yet.", "No reply matches", "rota inbox", contact))


@inbox_app.command("add")
def add(
    words: Annotated[str, typer.Argument(help="What they wrote or said.")],
    contact: Annotated[str | None, typer.Option("--contact", help=_CONTACT_HELP)] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Or the address or number it came from.")] = None,
    channel: Annotated[str, typer.Option(help="email, sms, whatsapp, in_person or phone")] = "email",
    outside_id: Annotated[
        str | None, typer.Option(help="The id that the deliverer knows it by; delivered twice, it is kept once.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record what a client or lead wrote or said: follow-ups for them stop; STOP opts them out."""
    if (contact is None) == (sender is None):
        fail("Who wrote it? Give either --contact or --from.")
    api = Api.find()
    body = {
        "contact": contact_id(api, contact) if contact else None,
        "sender": sender,
        "channel": channel,
        "body": words,
        "outside_id": outside_id,
    }
    found = api.post("/v1/inbox", body)
    if as_json:
        terminal.out.print_json(data=found)
        return
    opted = "; they are opted out now" if found["is_opt_out"] else ""
    terminal.out.print(f"{found['id']}  {found['stopped']} follow-ups stopped{opted}")
