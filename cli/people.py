"""Commands about people and keys: users, roles, API keys, messages, the audit log, secrets."""

from typing import Annotated, Any

import typer

from cli import people_views, terminal
from cli.client import Api, fail, match_agent
from cli.find import TaskOption, id_in, task_id_or_none
from cli.layout import Column
from cli.options import JsonOption

users_app = typer.Typer(help="Users and their roles.", invoke_without_command=True)
keys_app = typer.Typer(help="API keys.", invoke_without_command=True)
publishable_app = typer.Typer(
    help="Publishable keys, which stand in web pages and admit visitors.", invoke_without_command=True
)
keys_app.add_typer(publishable_app, name="publishable")
secrets_app = typer.Typer(help="Secrets stored in the database.", no_args_is_help=True)

_AUDIT_EVENT = [Column("at", "id"), Column("actor", "text"), Column("action", "text"), Column("task")]

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, its beginning or end, or last.")]
RoleOption = Annotated[
    list[str] | None, typer.Option("--role", "-r", help="A role, or role@location; may be repeated.")
]


@users_app.callback()
def users(context: typer.Context, as_json: JsonOption = False) -> None:
    """List users with their roles."""
    if context.invoked_subcommand is None:
        found = Api.find().get("/v1/users")
        terminal.out.print_json(data=found) if as_json else terminal.out.print(people_views.user_table(found))


@users_app.command("add")
def add_user(email: str, name: str, role: RoleOption = None, as_json: JsonOption = False) -> None:
    """Add a user."""
    body = {"email": email, "name": name, "grants": _grants(role or [])}
    found = Api.find().post("/v1/users", body)
    terminal.out.print_json(data=found) if as_json else terminal.out.print(people_views.user_table([found]))


@users_app.command("change")
def change_user(
    email: str,
    role: RoleOption = None,
    disabled: Annotated[bool | None, typer.Option("--disable/--enable", help="Disable or enable the user.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a user's roles, or disable or enable the user. --role replaces all roles."""
    api = Api.find()
    user = next((one for one in api.get("/v1/users") if one["email"].lower() == email.lower()), None)
    if user is None:
        fail(f"There is no user with the e-mail address {email}.")
    change: dict[str, Any] = {}
    if role is not None:
        change["grants"] = _grants(role)
    if disabled is not None:
        change["is_disabled"] = disabled
    if not change:
        fail("Nothing to change: give --role, --disable or --enable.")
    found = api.patch(f"/v1/users/{user['id']}", change)
    terminal.out.print_json(data=found) if as_json else terminal.out.print(people_views.user_table([found]))


def _grants(roles: list[str]) -> list[dict[str, Any]]:
    parts = (role.partition("@") for role in roles)
    return [{"role": role, "location": location or None} for role, _, location in parts]


@keys_app.callback()
def keys(context: typer.Context, as_json: JsonOption = False) -> None:
    """List API keys, without their secrets."""
    if context.invoked_subcommand is None:
        found = Api.find().get("/v1/keys")
        terminal.out.print_json(data=found) if as_json else terminal.out.print(people_views.key_table(found))


@keys_app.command("make")
def make_key(
    name: str,
    user: Annotated[str | None, typer.Option(help="E-mail address of the user it acts for; default: yourself.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="Scope, such as tasks:*; may be repeated. Default: all.")
    ] = None,
    expires_at: Annotated[str | None, typer.Option(help="Time of expiry, such as 2027-01-01T00:00:00Z.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Create an API key and print it, only once."""
    body = {"name": name, "user": user, "scopes": scope or ["*"], "expires_at": expires_at}
    _print_key(Api.find().post("/v1/keys", body), as_json=as_json)


@keys_app.command("rotate")
def rotate_key(
    key_id: KeyId,
    overlap: Annotated[int, typer.Option(min=0, help="Seconds for which the old key stays valid.")] = 3600,
    as_json: JsonOption = False,
) -> None:
    """Create a key's successor and print it, only once."""
    api = Api.find()
    _print_key(api.post(f"/v1/keys/{_key(api, key_id)}/rotate", {"overlap": overlap}), as_json=as_json)


@keys_app.command("revoke")
def revoke_key(key_id: KeyId) -> None:
    """Revoke a key."""
    api = Api.find()
    api.delete(f"/v1/keys/{_key(api, key_id)}")
    typer.echo("revoked; takes effect in every process of the API within five seconds")


def _key(api: Api, said: str) -> str:
    return id_in(api, "/v1/keys", said, what="key", listed_by="rota keys")


def _print_key(found: dict[str, Any], *, as_json: bool) -> None:
    terminal.out.print_json(data=found) if as_json else typer.echo(found["key"])


@publishable_app.callback()
def publishable_keys(context: typer.Context, as_json: JsonOption = False) -> None:
    """List publishable keys."""
    if context.invoked_subcommand is None:
        found = Api.find().get("/v1/publishable-keys")
        if as_json:
            terminal.out.print_json(data=found)
        elif found:
            terminal.out.print(people_views.publishable_table(found))
        else:
            typer.echo("No publishable keys. Make one: rota keys publishable make site --agent support")


@publishable_app.command("make")
def make_publishable_key(
    name: str,
    agent: Annotated[list[str], typer.Option("--agent", "-a", help="An agent for visitors; may be repeated.")],
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="Origin of a page, such as https://www.example.com; may be repeated."),
    ] = None,
    permission: Annotated[
        list[str] | None,
        typer.Option("--permission", help="What agents may do for visitors, such as classes:read; may be repeated."),
    ] = None,
    location: Annotated[str | None, typer.Option(help="Location of the conversations.")] = None,
    messages_per_day: Annotated[
        int | None, typer.Option(min=1, help="Messages of all visitors together in a day.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a publishable key and print it. Visitors can make agents read whatever --permission opens."""
    api = Api.find()
    limits = {} if messages_per_day is None else {"messages_per_day_in_all": messages_per_day}
    body = {
        "name": name, "agents": [match_agent(api, one) for one in agent], "origins": origin or [],
        "permissions": permission or [], "location": location, "limits": limits,
    }  # fmt: skip
    _print_key(api.post("/v1/publishable-keys", body), as_json=as_json)


@publishable_app.command("revoke")
def revoke_publishable_key(key_id: KeyId) -> None:
    """Revoke a publishable key: its visitors' tokens end with it."""
    api = Api.find()
    found = id_in(api, "/v1/publishable-keys", key_id, what="publishable key", listed_by="rota keys publishable")
    api.delete(f"/v1/publishable-keys/{found}")
    typer.echo("revoked; takes effect within seconds, and ends the streams of its visitors")


def messages(
    status: Annotated[
        str | None, typer.Option("--status", "-s", help="Only with this status: queued, sent, failed, unknown, …")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 30,
    as_json: JsonOption = False,
) -> None:
    """List the messages of the outbox, newest first."""
    found = Api.find().get("/v1/messages", status=status, limit=limit)["messages"]
    if as_json:
        terminal.out.print_json(data=found)
    elif found:
        terminal.out.print(people_views.message_table(found))
    else:
        terminal.out.print(terminal.nothing("The outbox is empty.", "No message matches", "rota messages", status))


def audit(
    subject: Annotated[str | None, typer.Option(help="Only with this subject, such as tool/send_email.")] = None,
    task: TaskOption = None,
    record: Annotated[
        str | None, typer.Option(help="Id of a record, such as a client: who read it, and who changed it.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="change, read or any. Default: change; any with --record.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 30,
    as_json: JsonOption = False,
) -> None:
    """List audit events, newest first: actions of users and agents and, on request, what agents read."""
    api = Api.find()
    wanted = {"subject": subject, "task": task_id_or_none(api, task), "record": record, "kind": kind, "limit": limit}
    found = api.get("/v1/audit", **wanted)["lines"]
    if as_json:
        terminal.out.print_json(data=found)
        return
    rows = [
        {
            "at": terminal.moment(line["at"]),
            "actor": people_views.actor(line),
            "action": f"{line['verb']} {line['subject']}",
            "task": line["task_id"],
        }
        for line in found
    ]
    terminal.out.print(
        terminal.plain_table(rows, _AUDIT_EVENT)
        if rows
        else terminal.nothing(
            "No audit events yet.", "No audit event matches", "rota audit", subject, task, record, kind
        )
    )


@secrets_app.command("rotate")
def rotate_secrets() -> None:
    """Re-encrypt every secret in the database with the first of ROTA_ENCRYPTION_KEYS. Needs access to the database."""
    from core.db import system_transaction
    from core.vault import vault
    from domain.channels import service as channels
    from domain.providers import service as providers
    from embedded.state import join_running

    join_running()
    with system_transaction() as connection:
        count = channels.rotate_secrets(connection, vault()) + providers.rotate_secrets(connection, vault())
    typer.echo(f"{count} secrets are encrypted with the first key; older keys can be removed now.")
