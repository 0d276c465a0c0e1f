"""Every statement that a module holds is accepted by the migrated database: its tables, columns and types exist."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import psycopg
from sqlalchemy import TextClause, text

import agents
import business
import core
import domain
import workers
from core import db
from core.db import PreparedQuery
from core.settings import Settings
from core.wire import Statement
from domain.followups.triggers import kinds

_ASKED = "asked (subject, contact, begun_at) AS (VALUES (gen_random_uuid(), gen_random_uuid(), now()))"
_PREPARABLE = re.compile(r"\s*(--[^\n]*\n\s*)*(SELECT|INSERT|UPDATE|DELETE|WITH|VALUES)\b", re.IGNORECASE)


def _modules() -> Iterator[Any]:
    for package in (core, domain, agents, business, workers):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield importlib.import_module(found.name)


def _held(value: object) -> Iterator[object]:
    """The statements in a value of a module."""
    if isinstance(value, TextClause | PreparedQuery | Statement):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _held(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _held(one)


def _numbered(statement: object) -> str:
    """A statement with `$1`, `$2` in place of its values."""
    if isinstance(statement, TextClause):
        statement = Statement(statement.text.replace("\\:", ":"))
    if isinstance(statement, PreparedQuery):
        statement = statement.statement
    assert isinstance(statement, Statement)
    return statement.sql.decode()


def _statements() -> dict[str, str]:
    """All statements, by module and name."""
    found = {
        f"{module.__name__}.{name}[{number}]": _numbered(statement)
        for module in _modules()
        for name, value in vars(module).items()
        for number, statement in enumerate(_held(value))
    }
    for kind in kinds():
        found[f"{kind.__name__}.found"] = _numbered(text(kind.found))
        found[f"{kind.__name__}.standing"] = _numbered(text(f"WITH {_ASKED} {kind.standing}"))
    return found


STATEMENTS = {name: sql for name, sql in _statements().items() if _PREPARABLE.match(sql)}


def _refusal(connection: psycopg.Connection[Any], sql: str) -> str | None:
    """Why the database does not accept a statement. A value whose type nothing tells counts as text."""
    types: dict[int, str] = {}
    while True:
        count = max([0, *(int(number) for number in re.findall(r"\$(\d+)", sql))])
        declared = ", ".join(types.get(number, "unknown") for number in range(1, count + 1))
        try:
            connection.execute(f"PREPARE tried{f' ({declared})' if count else ''} AS {sql}".encode())
        except psycopg.errors.IndeterminateDatatype as error:
            number = int(re.findall(r"\$(\d+)", str(error))[0])
            if number in types:
                return str(error)
            types[number] = "text"
            continue
        except psycopg.Error as error:
            return str(error)
        connection.execute("DEALLOCATE tried")
        return None


def test_there_are_statements_to_look_at() -> None:
    assert len(STATEMENTS) > 300
    slices = {name.split(".")[1] for name in STATEMENTS if name.startswith("domain.")}
    assert {"tasks", "dispatch", "wallet", "billing", "approvals", "followups", "contacts"} <= slices


def test_the_database_accepts_every_statement(config: Settings) -> None:
    refused = {}
    with psycopg.connect(db.role_url(config, db.OWNER), autocommit=True) as connection:
        for name, sql in STATEMENTS.items():
            if reason := _refusal(connection, sql):
                refused[name] = reason
    assert refused == {}
