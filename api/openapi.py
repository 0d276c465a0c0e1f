"""The OpenAPI description, from which clients are generated.

FastAPI describes what each route declares. This module adds what holds for all routes: names of operations and schemas,
problem documents that any request may get and their headers, and descriptions of fields (`glossary.py`).
"""

import copy
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from api.glossary import AMOUNTS, EXAMPLES, FIELDS, PARAMETERS
from domain.channels.schemas import EmailChannel, GatewaySettings
from domain.events.kinds import event_kinds
from web.problems import MEDIA_TYPE, PROBLEM_SCHEMA

Json = dict[str, Any]

# Operation ids, which name the functions of generated clients, for route functions whose own name says too little.
_OPERATIONS = {
    "me": "get_me",
    "why": "explain_waiting",
    "settle": "settle_step",
    "usage": "get_usage",
    "pause": "add_pause",
    "resume": "remove_pause",
    "resume_organisation": "remove_organisation_pause",
    "correct": "correct_wallet",
    "top_up": "top_up_wallet",
    "statement": "list_wallet_entries",
    "reconcile": "reconcile_wallet",
    "price_list": "list_token_prices",
    "receive": "add_received_message",
    "list_received": "list_received_messages",
    "live": "get_health",
    "ready": "get_readiness",
    "detailed": "get_detailed_health",
    "metrics": "get_metrics",
    "agent_statistics": "list_agent_statistics",
    "effectiveness": "list_effectiveness",
    "mark_all_read": "mark_all_notifications_read",
    "mark_read": "mark_notification_read",
    "scheduler_status": "get_scheduler",
    "upcoming_runs": "list_upcoming_runs",
    "list_rules": "list_follow_up_rules",
    "get_rule": "get_follow_up_rule",
    "put_rule": "put_follow_up_rule",
    "remove_rule": "remove_follow_up_rule",
    "switch_rule": "switch_follow_up_rule",
    "list_runs": "list_workflow_runs",
    "get_run": "get_workflow_run",
}
# Operation ids by path, for route functions that have the same name in two files.
_OPERATIONS_BY_PATH = {"/v1/token-prices/{item}": "set_token_price"}

_PROBLEM = "ProblemDetails"
_CHANNELS = (EmailChannel, GatewaySettings)  # one route takes either, depending on the kind of channel

# Schema names to use instead of FastAPI's, which tells models of the same name apart by their module.
_SCHEMAS = {
    "Problem": "CronProblem",
    "domain__followups__schemas__Rule": "FollowUpRule",
    "domain__approvals__schemas__Rule-Output": "Rule",
    "domain__approvals__schemas__Rule-Input": "RuleInput",
    "domain__tasks__schemas__Step": "TaskStep",
    "domain__followups__schemas__Step": "FollowUpStep",
}


def operation_id(route: APIRoute) -> str:
    """Return the operation's id, which names the function of a generated client."""
    return _OPERATIONS_BY_PATH.get(route.path) or _OPERATIONS.get(route.name) or route.name


def describe(app: FastAPI) -> Json:
    """Return the complete description. It is built once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        app.openapi_schema = completed(made)
    return app.openapi_schema


def completed(description: Json) -> Json:
    """Add to FastAPI's description what holds for every operation, and return it."""
    schemas = description["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):  # every error is a problem document
        schemas.pop(unused, None)
    schemas[_PROBLEM] = copy.deepcopy(PROBLEM_SCHEMA)
    _, bodies = models_json_schema(
        [(model, "validation") for model in _CHANNELS], ref_template="#/components/schemas/{model}"
    )
    schemas |= bodies["$defs"]
    if "ShownEvent" in schemas:
        _type_events(schemas)
    description["components"]["headers"] = _HEADERS
    for path, operation in operations(description):
        _complete(operation, needs_key="security" in operation, is_public=not path.startswith("/v1/"))
    description = _renamed(description)
    for name, schema in description["components"]["schemas"].items():
        _explain_fields(name, schema)
    return description


def _type_events(schemas: Json) -> None:
    """Describe each kind of event: its type, and what its data holds."""
    shown = schemas.pop("ShownEvent")
    kinds = event_kinds()
    _, data = models_json_schema(
        [(kind.data, "serialization") for kind in kinds.values()], ref_template="#/components/schemas/{model}"
    )
    schemas |= data["$defs"]
    names = {name: "".join(part.title() for part in re.split(r"[._]", name)) + "Event" for name in kinds}
    for name, kind in kinds.items():
        properties = shown["properties"] | {
            "type": {"const": name, "type": "string", "description": kind.why},
            "data": {"$ref": f"#/components/schemas/{kind.data.__name__}"},
        }
        schemas[names[name]] = shown | {"title": names[name], "description": kind.why, "properties": properties}
    references = {name: f"#/components/schemas/{schema}" for name, schema in names.items()}
    schemas["Event"] = {
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "type", "mapping": references},
    }
    schemas["EventPage"]["properties"]["events"]["items"] = {"$ref": "#/components/schemas/Event"}


def operations(description: Json) -> Iterator[tuple[str, Json]]:
    """Yield every operation with its path."""
    for path, item in description["paths"].items():
        for method, operation in item.items():
            if method in {"get", "put", "post", "delete", "patch"}:
                yield path, operation


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _header(meaning: str, example: Any, **schema: Any) -> Json:
    return {"description": meaning, "schema": {"type": "string"} | schema, "example": example}


_HEADERS: Json = {
    "RetryAfter": _header("seconds to wait before the next request", 2, type="integer", minimum=1),
    "WwwAuthenticate": _header("authentication scheme", "Bearer", const="Bearer"),
    "Accept": _header("accepted media type", "application/json"),
    "AcceptEncoding": _header("accepted content encoding", "identity"),
    "Location": _header(
        "URL of the created resource", "/v1/tasks/0198a1b2-0000-7000-8000-000000000001", format="uri-reference"
    ),
    "ETag": _header("digest of the approval; send it as If-Match with a vote", '"9f86d081884c7d65"'),
    "ContentDisposition": _header("file name", 'attachment; filename="rota-bill-2026-11.csv"'),
}
_PROBLEM_HEADERS = {
    401: {"www-authenticate": "WwwAuthenticate"},
    415: {"accept": "Accept", "accept-encoding": "AcceptEncoding"},
    429: {"retry-after": "RetryAfter"},
    503: {"retry-after": "RetryAfter"},
}
_ANSWER_HEADERS = {
    ("submit_task", "202"): {"location": "Location"},
    ("replay_task", "202"): {"location": "Location"},
    ("create_agent", "201"): {"location": "Location"},
    ("begin_conversation", "201"): {"location": "Location"},
    ("upload_attachment", "201"): {"location": "Location"},
    ("begin_visitor_conversation", "201"): {"location": "Location"},
    ("get_approval", "200"): {"etag": "ETag"},
    ("fetch_export", "200"): {"content-disposition": "ContentDisposition"},
    ("get_bill", "200"): {"content-disposition": "ContentDisposition"},
}
_MEANINGS = {
    400: "The request is not valid HTTP/1.1, or its body is not valid JSON.",
    401: "The API key is missing or not valid; for visitors, the publishable key or the token.",
    403: "The key's scopes or its user's roles do not include the permission, or it is a key of another kind.",
    404: "The resource does not exist in this organisation.",
    408: "The request was not received in time.",
    409: "The request conflicts with the current state of the resource.",
    413: "The body exceeds the size limit.",
    415: "The body is not JSON, or it is compressed.",
    421: "The server does not serve the name in the Host header.",
    422: "A value is missing or not valid; `errors` lists the fields.",
    428: "The request names no version of the resource: send its digest.",
    429: "The key, organisation, visitor or address exceeded its rate limit, or has too many connections.",
    431: "The URL and headers exceed the size limit.",
    500: "Internal error; `reference` identifies it in the server's log.",
    503: "The database or another required server does not answer, or the server is overloaded.",
}
# Any request may get these statuses: a connection is checked before its request is.
_ALWAYS = {400, 408, 421, 429, 431, 500, 503}
_WITH_KEY = {401, 403}
_WITH_BODY = {413, 415, 422}
_WITH_VALUES = {422}


def _complete(operation: Json, *, needs_key: bool, is_public: bool) -> None:
    answers = operation["responses"]
    statuses = {int(status) for status in answers if int(status) >= HTTPStatus.BAD_REQUEST} | _ALWAYS
    statuses |= _WITH_KEY if needs_key else set()
    statuses |= _WITH_BODY if "requestBody" in operation else set()
    statuses |= _WITH_VALUES if operation.get("parameters") else set()
    for status in sorted(statuses):
        if is_public and "application/json" in answers.get(str(status), {}).get("content", {}):
            answers[str(status)]["headers"] = _references(
                _PROBLEM_HEADERS[status]
            )  # health answers with a schema of its own
        else:
            answers[str(status)] = _problem(status)
    for (name, answer), headers in _ANSWER_HEADERS.items():
        if operation["operationId"] == name:
            answers[answer]["headers"] = _references(headers)
    operation["responses"] = dict(sorted(answers.items()))
    if operation["operationId"] == "set_up_channel":
        choices = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in _CHANNELS]
        operation["requestBody"]["content"]["application/json"]["schema"] = {"anyOf": choices}
    for parameter in operation.get("parameters", []):
        meaning = PARAMETERS.get(parameter["name"]) or FIELDS.get(parameter["name"])
        if meaning:
            parameter.setdefault("description", meaning)


def _problem(status: int) -> Json:
    made: Json = {
        "description": _MEANINGS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}},
    }
    if status in _PROBLEM_HEADERS:
        made["headers"] = _references(_PROBLEM_HEADERS[status])
    return made


def _references(headers: dict[str, str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{header}"} for name, header in headers.items()}


# ── names and fields ─────────────────────────────────────────────────────────────────────────────────────────────────


def _renamed(description: Json) -> Json:
    """Return the description with schema names that make good class names."""
    schemas: Json = description["components"]["schemas"]
    names = {name: _SCHEMAS.get(name) or name.removesuffix("-Output").replace("-Input", "Input") for name in schemas}
    if len(set(names.values())) < len(names):
        raise ValueError(f"two schemas have the same name; give one another in _SCHEMAS: {sorted(names.values())}")
    description["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    prefix = "#/components/schemas/"

    def follow(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: prefix + names[item.removeprefix(prefix)]
                if name == "$ref" and item.startswith(prefix)
                else follow(item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [follow(item) for item in value]
        # A discriminator's mapping holds bare references.
        if isinstance(value, str) and value.startswith(prefix):
            return prefix + names.get(value.removeprefix(prefix), value.removeprefix(prefix))
        return value

    followed: Json = follow(description)
    return followed


def _explain_fields(name: str, schema: Json) -> None:
    """Describe each field that its model does not describe, and add an example."""
    for field, described in schema.get("properties", {}).items():
        meaning = FIELDS.get(f"{name}.{field}") or FIELDS.get(field)
        if meaning:
            described.setdefault("description", meaning)
        _mark_formats(field, described)
        example = example_of(described)
        if example is None:
            example = EXAMPLES.get(f"{name}.{field}", EXAMPLES.get(field))
        if example is not None:
            described.setdefault("examples", [example])


_EXAMPLES_BY_FORMAT = {
    "uuid": "0198a1b2-0000-7000-8000-000000000001",
    "date-time": "2026-11-28T09:00:00Z",
    "date": "2026-11-28",
    "partial-time": "09:00:00",
    "duration": "PT1H",
    "decimal": "12.5",
}


def _mark_formats(field: str, schema: Json) -> None:
    """Set the format of amounts, and of times of day, which have no offset here."""
    for option in (schema, *schema.get("anyOf", [])):
        if field in AMOUNTS and option.get("type") == "string" and "enum" not in option:
            option |= {"format": "decimal", "pattern": r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"}
        elif option.get("format") == "time":
            option["format"] = "partial-time"  # RFC 3339's name for it


def example_of(schema: Json) -> Any:
    """Return a value that fits a schema by its type alone; None for objects, lists and free text."""
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if isinstance(schema.get("default"), str | int | float) and schema["default"] != "":
        return schema["default"]
    # For an amount that may be a number or a string, use the string: it loses no precision.
    options = sorted(schema.get("anyOf", []), key=lambda option: option.get("type") != "string")
    least = max(1, schema.get("minimum", 1))
    by_kind = {"integer": least, "number": least, "boolean": True}
    found = by_kind.get(schema.get("type", "")) or _EXAMPLES_BY_FORMAT.get(schema.get("format", ""))
    return example_of(options[0]) if options else found
