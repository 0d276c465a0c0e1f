"""Every statement that a module holds is accepted by the migrated database: its tables, columns and types exist."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import TextClause, text

import agents
import business
import core
import domain
import workers
from core import engines
from core.fragments import Fragment
from core.prepared import PreparedQuery
from core.settings import Settings
from core.wire import Statement
from domain.followups.triggers import Trigger, kinds
from tests.support.fragments import fragments
from tests.support.tables import tables

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
    with psycopg.connect(engines.role_url(config, engines.OWNER), autocommit=True) as connection:
        for name, sql in STATEMENTS.items():
            if reason := _refusal(connection, sql):
                refused[name] = reason
    assert refused == {}


# ── whose tables they touch ──────────────────────────────────────────────────────────────────────────────────────────

SLICES = {
    name: importlib.import_module(name)
    for package in (domain, business)
    for _, name, is_package in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    if is_package
}
OWNERS = {table: name for name, module in SLICES.items() for table in getattr(module, "TABLES", ())}
OF_CORE = {"clock", "alembic_version"}

_ONE_TRIP = "a hot path: one statement, one round trip (decision 0022)"
_PLAN = "the dispatcher decides over all that bears on a task in one statement"
_JOINED = "a list or a figure that is joined with what it is about"
_LOOKED_UP = "whether a person or an agent is still there, in the statement that depends on it"
# What slices write of others' tables, and why.
WRITES = {
    ("domain.claims", "tasks"): "a claim is a state of the task",
    ("domain.claims", "audit_log"): "what a step read is in the audit log exactly when it is recorded",
    ("domain.claims", "events"): "a step is told of exactly when it is recorded",
    ("domain.claims", "usage"): "a step is charged exactly when it is recorded",
    ("domain.claims", "holds"): _ONE_TRIP,
    ("domain.claims", "wallets"): _ONE_TRIP,
    ("domain.claims", "wallet_entries"): _ONE_TRIP,
    ("domain.dispatch", "tasks"): "publishing is a state of the task",
    ("domain.dispatch", "organisations"): "limits of an organisation stand in its row, which is cached by its version",
    ("business.office", "payments"): "a charge is a payment that is asked for",
    ("domain.conversations", "tasks"): "with a conversation its journals go, which hold its words",
    ("domain.tasks", "steps"): "a person says what came of an action in doubt",
}
# What slices read of others' tables, and why.
READS = {
    "domain.approvals": ("audit_log grants tasks users", _JOINED),
    "domain.attachments": ("conversations", "what a deleted conversation had is gone with it"),
    "domain.audit": ("users", _JOINED),
    "domain.billing": ("providers", "an organisation's endpoint and its price are looked up together"),
    "domain.channels": (
        "events organisations steps tasks usage",
        "what the rehearsal model wrote leaves demonstrations only",
    ),
    "domain.claims": ("agents organisations users workers", _ONE_TRIP),
    "domain.dispatch": ("agents attempts prices provider_paces providers users workers", _PLAN),
    "domain.conversations": ("feedback tasks", "which of its answers are still to come, and what became of the others"),
    "domain.events": (
        "approvals conversation_messages conversations organisations steps tasks",
        "an event names the row that holds its details",
    ),
    "domain.feedback": ("tasks", "with which answer it goes"),
    "domain.followups": ("inbox outbox tasks", "what became of a follow-up is what became of its task and message"),
    "domain.monitoring": ("leaders tasks workers", "figures of the whole installation"),
    "domain.office": ("contacts outbox", _JOINED),
    "domain.retention": ("organisations", "what applies to an organisation that never chose"),
    "domain.schedules": ("tasks", "what became of a run is what became of its task"),
    "domain.tasks": ("agents attempts usage users", _LOOKED_UP),
    "domain.visitors": ("users", "a publishable key stops with its user, and is looked up together with it"),
    "domain.wallet": ("budget_holds organisations tasks", "holds of tasks that ended are found by their tasks"),
    "domain.workers": ("attempts tasks", _JOINED),
    "business.analytics": ("bookings class_sessions classes payments subscriptions", "figures about the gym's records"),
    "business.crm": ("organisations", "days are counted by the organisation's clock"),
    "business.followups": (
        "bookings carts class_sessions classes contacts payments products quotes trial_bookings",
        "a trigger looks for what happened in the gym's records",
    ),
    "business.office": ("bookings class_sessions classes organisations subscriptions", _JOINED),
}
_TOUCHED = re.compile(r"\b(FROM|JOIN|INTO|UPDATE)\s+(?:ONLY\s+)?\"?([a-z_]+)\"?")


def _touched(name: str, sql: str) -> set[tuple[str, str, str]]:
    """(slice, table, "reads" or "writes") of what a statement touches of others' tables."""
    place = name if name.split(".", maxsplit=1)[0] in {"domain", "business"} else f"business.followups.{name}"
    mine = ".".join(place.split(".")[:2])
    found = set()
    for verb, table in _TOUCHED.findall(sql):
        if OWNERS.get(table, mine) != mine:
            writes = verb in {"INTO", "UPDATE"} or re.search(rf"\bDELETE FROM {table}\b", sql)
            found.add((mine, table, "writes" if writes else "reads"))
    return found


def test_each_table_belongs_to_one_slice(config: Settings) -> None:
    assert len(OWNERS) == sum(len(getattr(module, "TABLES", ())) for module in SLICES.values())
    assert set(OWNERS) | OF_CORE == set(tables()) | {"alembic_version"}


def test_statements_keep_to_the_tables_of_their_slice_but_for_the_exceptions_with_a_reason() -> None:
    touched = {one for name, sql in STATEMENTS.items() for one in _touched(name, sql)}
    reads = {(name, table) for name, (listed, _) in READS.items() for table in listed.split()}
    written = {(name, table) for name, table, how in touched if how == "writes"}
    assert written == set(WRITES)
    assert {(name, table) for name, table, how in touched if how == "reads"} - written == reads - written


def test_only_the_statement_that_also_tells_of_them_writes_steps() -> None:
    # Statuses of tasks and steps change in many statements, which triggers tell of. New steps come from one place.
    writing = [sql for sql in STATEMENTS.values() if "INSERT INTO steps" in sql]
    assert len(writing) == 3
    assert all("INSERT INTO events" in sql for sql in writing)


# ── what slices write for each other's statements ────────────────────────────────────────────────────────────────────

# What stands in for the expressions that a statement fills in: nothing is found, held or paid.
_FILLED_IN = {
    "org": "CAST(NULL AS uuid)", "model": "CAST(NULL AS text)", "condition": "false", "is_last": "false",
    "task": "(SELECT * FROM tasks LIMIT 0)", "steps": "(SELECT * FROM steps LIMIT 0)",
}  # fmt: skip
_OF_TRIGGERS = {
    "found": ["subject", "contact", "begun_at", "facts", "not_after"],
    "standing": ["subject", "begun_at", "is_open", "ending", "converted_at", "revenue", "currency"],
}


def _columns(connection: psycopg.Connection[Any], sql: str) -> list[str]:
    """The columns of the result of a statement with null for each of its parameters."""
    unset = re.sub(r"\$\d+", "NULL", _numbered(text(sql)))
    found = connection.execute(unset.encode())
    return [column.name for column in found.description or ()]


@pytest.mark.parametrize("fragment", fragments(), ids=lambda fragment: fragment.name)
def test_a_fragment_declares_the_columns_of_its_result(config: Settings, fragment: Fragment) -> None:
    sql = fragment.fill(**{place: _FILLED_IN[place] for place in fragment.places})
    ctes = f"{fragment.name} AS ({sql})" if sql.lstrip().startswith("SELECT") else sql
    with psycopg.connect(engines.role_url(config, engines.OWNER)) as connection:
        found = _columns(connection, f"WITH {ctes} SELECT * FROM {fragment.name}")  # noqa: S608
        assert tuple(found) == fragment.columns
        connection.rollback()


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_trigger_selects_the_columns_that_follow_ups_read(config: Settings, kind: type[Trigger]) -> None:
    with psycopg.connect(engines.role_url(config, engines.OWNER)) as connection:
        assert _columns(connection, kind.found) == _OF_TRIGGERS["found"]
        assert _columns(connection, f"WITH {_ASKED} {kind.standing}") == _OF_TRIGGERS["standing"]
        connection.rollback()
