"""Commands about contacts: their preferences and the messages received from them."""

from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api, fail
from cli.find import is_whole, one_of
from cli.layout import Column
from cli.options import JsonOption

contacts_app = typer.Typer(help="Contacts and their preferences.", invoke_without_command=True)
inbox_app = typer.Typer(help="Messages received from contacts.", invoke_without_command=True)

_CONTACT_HELP = "The contact's id, its beginning, or the e-mail address."
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
    return f"{len(ids)} contacts have the address {said}: {', '.join(ids)}. Write the id of one of them."


def _unknown(said: str) -> str:
    return f"No contact has the address {said!r}, or an id that begins with it. Search: rota contacts --search …"


@contacts_app.callback()
def contacts(
    context: typer.Context,
    search: Annotated[
        str | None, typer.Option("--search", "-q", help="Part of a name, e-mail address or telephone number.")
    ] = None,
    limit: LimitOption = 30,
    as_json: JsonOption = False,
) -> None:
    """List contacts by name."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/contacts", search=search, limit=limit)
    if as_json:
        terminal.out.print_json(data=found)
    elif found:
        terminal.out.print(terminal.plain_table([one | {"allows": _allows(one)} for one in found], _CONTACT))
    else:
        terminal.out.print(terminal.nothing("No contacts yet.", "No contact matches", "rota contacts", search))


def _allows(one: dict[str, Any]) -> str:
    if one["opted_out_at"]:
        return "none: opted out"
    return "advertising" if one["has_consented"] else ""


@contacts_app.command("show")
def show(contact: ContactId, as_json: JsonOption = False) -> None:
    """Show a contact's preferences."""
    api = Api.find()
    _print(api.get(f"/v1/contacts/{contact_id(api, contact)}/preferences"), as_json=as_json)


@contacts_app.command("change")
def change(
    contact: ContactId,
    consent: Annotated[bool | None, typer.Option("--consent/--no-consent", help="Consent to advertising.")] = None,
    opted_out: Annotated[bool | None, typer.Option("--opt-out/--opt-in", help="Opt out of all follow-ups.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA time zone; none for the organisation's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a contact's preferences. Options that are left out keep their values."""
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
    """List messages received from contacts, newest first."""
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
        terminal.out.print(terminal.nothing("No messages received yet.", "No message matches", "rota inbox", contact))


@inbox_app.command("add")
def add(
    words: Annotated[str, typer.Argument(help="Text of the message.")],
    contact: Annotated[str | None, typer.Option("--contact", help=_CONTACT_HELP)] = None,
    sender: Annotated[
        str | None, typer.Option("--from", help="Instead of --contact: sender's address or number.")
    ] = None,
    channel: Annotated[str, typer.Option(help="email, sms, whatsapp, in_person or phone.")] = "email",
    outside_id: Annotated[
        str | None, typer.Option(help="Id in the delivering system; makes the command idempotent.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record a message from a contact. It stops their follow-ups; STOP opts them out."""
    if (contact is None) == (sender is None):
        fail("Give either --contact or --from.")
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
    opted = "; the contact is opted out" if found["is_opt_out"] else ""
    terminal.out.print(f"{found['id']}  {found['stopped']} follow-ups stopped{opted}")
