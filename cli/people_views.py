"""How users, keys and messages are shown."""

from typing import Any

from rich.console import RenderableType

from cli.layout import Column, shorten
from cli.terminal import MESSAGE, moment, plain_table


def user_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of users with their roles."""
    shown = [
        {
            "email": row["email"],
            "name": row["name"],
            "roles": ", ".join(
                grant["role"] + (f"@{grant['location']}" if grant["location"] else "") for grant in row["grants"]
            ),
            "operator": row["is_operator"],
            "disabled": moment(row["disabled_at"]),
        }
        for row in rows
    ]
    return plain_table(shown, ["email", "name", "roles", "operator", "disabled"])


def key_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of API keys."""
    shown = [
        row
        | {
            "scopes": " ".join(row["scopes"]),
            "last_used": moment(row["last_used_at"]) or "never",
            "ends": "revoked" if row["revoked_at"] else moment(row["expires_at"]),
        }
        for row in rows
    ]
    columns = [
        Column("id", "id"), Column("name", "text", rank=1), Column("user", "text", rank=2),
        Column("scopes", "text", rank=4), Column("last_used", rank=5), Column("ends", rank=3),
    ]  # fmt: skip
    return plain_table(shown, columns)


def publishable_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of publishable keys."""
    shown = [
        row
        | {
            "agents": " ".join(row["agents"]),
            "origins": " ".join(row["origins"]) or "any",
            "permissions": " ".join(row["permissions"]),
            "today": row["messages_today"],
            "ends": "revoked" if row["revoked_at"] else moment(row["expires_at"]),
        }
        for row in rows
    ]
    columns = [
        Column("id", "id"), Column("name", "text", rank=1), Column("agents", "text", rank=2),
        Column("origins", "text", rank=4), Column("permissions", "text", rank=6), Column("today", rank=5),
        Column("ends", rank=3),
    ]  # fmt: skip
    return plain_table(shown, columns)


def actor(line: dict[str, Any]) -> str:
    """Return who did what a line of the audit log tells."""
    if line["agent"]:
        return f"{line['agent']} for {line['user']}"
    return "a visitor" if line["visitor_id"] else line["user"] or "Rota"


def message_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of the outbox."""
    shown = [
        row
        | {
            "at": moment(row["sent_at"] or row["send_after"]),
            "what": shorten(("[Rehearsal] " if row["is_rehearsal"] else "") + (row["subject"] or row["body"]), MESSAGE),
        }
        for row in rows
    ]
    return plain_table(shown, _MESSAGES)


_MESSAGES = (
    Column("id", "id"), Column("channel", rank=4), Column("recipient", "text", rank=2), Column("status", rank=1),
    Column("attempts", rank=7), Column("at", rank=6), Column("what", "text", rank=5), Column("error", "text", rank=3),
)  # fmt: skip
