"""The description of the API: whole, and true of what occurs when every operation is driven."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator, FormatChecker
from sqlalchemy import text

from api.app import make_app
from api.openapi import operations
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.tenants.permissions import GOVERN
from tests.support.everything import Everything, make_everything
from tests.support.factories import make_key, make_location, make_organisation
from tests.support.servers import SECRET_KEY, configured

Json = dict[str, Any]
SCALARS = {"string", "integer", "number", "boolean"}
ALWAYS = {"408", "429", "431", "500", "503"}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}

FORMATS = FormatChecker(formats=())
_DURATION = re.compile(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")  # RFC 3339, and parts of seconds


def _reads(format_name: str, read: Callable[[str], Any]) -> None:
    FORMATS.checks(format_name, (ValueError, ArithmeticError))(lambda value: not isinstance(value, str) or read(value))


_reads("uuid", lambda value: str(UUID(value)) == value)
_reads("date-time", lambda value: datetime.fromisoformat(value).utcoffset() is not None)
_reads("date", lambda value: bool(date.fromisoformat(value)))
_reads("time", lambda value: time.fromisoformat(value).tzinfo is not None)
_reads("partial-time", lambda value: time.fromisoformat(value).tzinfo is None)
_reads("decimal", lambda value: Decimal(value).is_finite())
_reads("duration", lambda value: bool(_DURATION.fullmatch(value)))
_reads("uri-reference", lambda value: bool(re.fullmatch(r"/[\w/.~-]+", value)))


@pytest.fixture(scope="module")
def anonymous(config: Settings) -> Iterator[TestClient]:
    many = dict.fromkeys(("key", "organisation", "stranger"), "1000000")
    with (
        configured(**{f"requests_per_minute_{name}": number for name, number in many.items()}),
        TestClient(
            make_app(), client=("openapi", 1), raise_server_exceptions=False, headers={"accept": "application/json"}
        ) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def description(anonymous: TestClient) -> Json:
    found: Json = anonymous.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def things(anonymous: TestClient) -> Everything:
    """An organisation with one of everything, whose owner governs the installation."""
    org = make_organisation(f"described-{new_id().hex[-12:]}")
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE users SET is_operator = true WHERE org_id = :org"), {"org": org})
    anonymous.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, scopes=['*', GOVERN])}"
    make_location(org, "centro")
    return make_everything(org, anonymous)


def every(description: Json) -> Iterator[tuple[str, str, Json]]:
    """Every operation: method, path, what is said of it."""
    found = list(operations(description))
    assert len(found) > 130
    for path, operation in found:
        method = next(name for name, item in description["paths"][path].items() if item is operation)
        yield method, path, operation


# ── whole ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_names_make_good_names_of_functions_and_classes(description: Json) -> None:
    ids = [operation["operationId"] for _, _, operation in every(description)]
    assert len(set(ids)) == len(ids)
    for name in ids:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name), name
    for name in description["components"]["schemas"]:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", name), name


def test_every_operation_says_what_it_does_and_every_status_that_any_request_may_meet(description: Json) -> None:
    for method, path, operation in every(description):
        where = f"{method} {path}"
        wanted = set(ALWAYS)
        if path.startswith("/v1/"):
            wanted |= {"401", "403"}
            assert operation["security"], where
        if "requestBody" in operation:
            wanted |= {"400", "413", "415", "422"}
        if operation.get("parameters"):
            wanted |= {"422"}
        assert wanted <= operation["responses"].keys(), where
        assert operation["description"], where
        assert operation["summary"], where
        for status, answer in operation["responses"].items():
            assert answer["description"], where
            if status >= "400" and (path, status) != ("/health/ready", "503"):
                assert answer["content"] == PROBLEM, f"{where} {status}"
            elif status != "204":
                assert all(content["schema"] for content in answer["content"].values()), f"{where} {status}"
            if status in {"429", "503"}:
                assert answer["headers"]["retry-after"] == {"$ref": "#/components/headers/RetryAfter"}, where
            if status == "401":
                assert "www-authenticate" in answer["headers"], where


def test_every_reference_leads_somewhere(description: Json) -> None:
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(description))):
        found: Any = description
        for part in reference.split("/"):
            found = found[part]
    for name, schema in description["components"]["schemas"].items():
        mapping = [schema.get("discriminator", {}).get("mapping", {})]
        assert all(value.startswith("#/components/schemas/") for one in mapping for value in one.values()), name
        Draft202012Validator.check_schema(schema)


def test_every_parameter_is_described(description: Json) -> None:
    for method, path, operation in every(description):
        for parameter in operation.get("parameters", []):
            said = f"{method} {path}: describe {parameter['name']} in PARAMETERS of api/glossary.py"
            assert parameter.get("description"), said


def test_every_field_is_described_and_has_an_example_that_fits(description: Json) -> None:
    for name, schema in description["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}: describe it in its model, or in api/glossary.py"
            kinds = {option.get("type") for option in described.get("anyOf", [described])}
            if kinds & SCALARS:
                assert described.get("examples"), f"{name}.{field} has no example: name one in api/glossary.py"
                example = described["examples"][0]
                assert misfits(description, described, example) == [], f"{name}.{field}: {example}"


def misfits(description: Json, schema: Json, value: Any) -> list[str]:
    """What is wrong with a value."""
    whole = schema | {"components": description["components"]}
    found = Draft202012Validator(whole, format_checker=FORMATS).iter_errors(value)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


# ── true ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = {
    "slug": "secret-agent", "model": "secret-model", "name": "secret-template", "agent": "secret-agent",
    "month": "2026-10", "kind": "agent", "item": "call", "provider": "openai", "seq": "1",
}  # fmt: skip
# Bodies that say something only together, and that examples of single fields do not make.
FURTHER: dict[str, list[Json]] = {
    "validate_schedule": [{"cron": "61 * * * *", "timezone": "Mars/Base"}],
    "cancel_tasks": [{"filter": {"status": ["running"]}}],
    "retry_tasks": [{"filter": {"status": ["failed"]}, "preview": True}],
    "replay_tasks": [{"filter": {"status": ["failed"]}}],
    "backfill_schedule": [{"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z", "preview": True}],
    "set_up_channel": [{"url": "https://gateway.example.com/"}],
    "put_follow_up_rule": [
        {"name": "x", "trigger": {"kind": "trial_booked"}, "steps": [{"after": "-PT24H", "brief": "x"}]}
    ],
    "put_schedule": [
        {"name": "x", "times": {"kind": "cron", "cron": "0 8 * * *"},
         "task": {"agent": "support-assistant", "input": {"message": "x"}}}
    ],
}  # fmt: skip
BY_PATH = {
    "workflows": "secret-flow", "roles": "secret-role", "schedules": "secret-schedule",
    "follow-up-rules": "secret-rule", "channels": "sms",
}  # fmt: skip


def filled(path: str, things: Everything, known: bool) -> str:
    """A path with what exists in its places, or with what does not."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in {"slug", "name", "kind"}:
            mine = next((own for part, own in BY_PATH.items() if f"/{part}/" in path), NAMES[name])
            return mine if known or name == "kind" else "no-such-thing"
        if name in NAMES:
            return NAMES[name] if known or name in {"month", "item", "seq"} else "no-such-thing"
        found = things.id_of(name)
        return found if known else str(new_id())

    return re.sub(r"\{([^}]+)\}", value, path)


def body_for(description: Json, schema: Json, *, whole: bool) -> Any:
    """A body of the examples: with all its fields, or with those that are required."""
    if "$ref" in schema:
        schema = description["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "properties" in schema:
        properties: Json = schema["properties"]
        wanted = [*properties] if whole else schema.get("required", [])
        return {field: body_for(description, properties[field], whole=whole) for field in wanted}
    if schema.get("examples"):
        return schema["examples"][0]
    either: list[Json] = schema.get("anyOf") or schema.get("oneOf") or []
    options = [one for one in either if one.get("type") != "null"]
    if options:
        return body_for(description, options[0], whole=whole)
    if schema.get("type") == "array":
        return [body_for(description, schema["items"], whole=whole)]
    return schema.get("default", {} if schema.get("type") == "object" else "word")


def requests(description: Json, method: str, operation: Json) -> Iterator[Json]:
    """What to send to an operation, as arguments of the client: right, wrong, and hardly readable."""
    no_key = {"authorization": ""}
    if "requestBody" not in operation:
        yield from ({}, {"headers": no_key}, {"params": {"limit": "0", "month": "x", "status": "x", "before": "x"}})
        return
    if "application/octet-stream" in operation["requestBody"]["content"]:
        for content in (b"words", b"", b"\xff\xfe", b"x" * 10_000_001):
            yield {"content": content, "params": {"name": "a.txt"}}
        yield from ({}, {"content": b"words", "params": {"name": "a.txt"}, "headers": no_key})
        return
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    whole = body_for(description, schema, whole=True)
    yield {"json": body_for(description, schema, whole=False)}
    yield {"json": whole}
    yield from ({"json": more} for more in FURTHER.get(operation["operationId"], []))
    yield {"json": {**whole, "unknown": 1} if isinstance(whole, dict) else []}
    wrongs: list[Any] = [{}, [], "x", None, 10**400, {"name": 3, "input": []}]
    for wrong in wrongs:
        yield {"json": wrong}
    for content in (b"{", b"\xff\xfe", b'{"a": "\\ud800"}', b"[" * 5_000):
        yield {"content": content, "headers": {"content-type": "application/json"}}
    yield {"content": b"a=1", "headers": {"content-type": "text/plain"}}
    yield {"content": b" " * 1_000_001, "headers": {"content-type": "application/json"}}
    yield {"json": whole, "headers": no_key}


def untrue(description: Json, operation: Json, answer: Any) -> Iterator[str]:
    """What of an answer is not as it is described."""
    status = str(answer.status_code)
    described = operation["responses"].get(status)
    if described is None or status == "500":
        yield f"answers {status}: {answer.text[:300]}"
        return
    for name, header in described.get("headers", {}).items():
        said = description["components"]["headers"][header["$ref"].rpartition("/")[2]]["schema"]
        if name in answer.headers:
            value = answer.headers[name]
            yield from misfits(description, said, int(value) if said["type"] == "integer" else value)
        elif status != "415":  # which has one of two
            yield f"{status} without {name}"
    if more := answer.headers.keys() - described.get("headers", {}).keys() - {"content-length", "content-type"}:
        yield f"{status} with {more}"
    if status == "204":
        return
    kind = answer.headers["content-type"].partition(";")[0]
    if kind not in described["content"]:
        yield f"{status} as {kind}"
    elif kind.endswith("json"):
        yield from misfits(description, described["content"][kind]["schema"], answer.json())


def test_what_occurs_is_described(description: Json, things: Everything, anonymous: TestClient) -> None:
    seen: dict[str, set[int]] = {}
    problems: dict[str, str] = {}
    # What takes something away comes last, so that the others find it.
    in_order = sorted(every(description), key=lambda one: (one[0] == "delete", "cancel" in one[1]))
    for method, path, operation in in_order:
        for known in (False, True):
            for request in requests(description, method, operation):
                answer = anonymous.request(method, filled(path, things, known), **request)
                for problem in untrue(description, operation, answer):
                    problems.setdefault(f"{method} {path}: {problem}", str(request)[:200])
                seen.setdefault(operation["operationId"], set()).add(answer.status_code)
    assert problems == {}
    succeeded = [name for name, statuses in seen.items() if min(statuses) < 300]
    assert len(succeeded) > 110, "\n".join(f"{n} {sorted(seen[n])}" for n in sorted(seen.keys() - succeeded))
    assert {401, 422, 404, 409, 413, 415, 400} <= {status for statuses in seen.values() for status in statuses}
