"""The parts of the OpenAPI description: examples by type, formats of amounts and times, names of schemas."""

import copy
from typing import Any

import pytest

from api.openapi import completed, example_of, operations


def description(schemas: dict[str, Any], **operation: Any) -> dict[str, Any]:
    """A description with one operation, as FastAPI makes it."""
    shown = {"operationId": "list_things", "responses": {"200": {"description": "OK"}}} | operation
    return {"paths": {"/v1/things": {"get": shown}}, "components": {"schemas": schemas}}


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 60}, 60),
        ({"type": "integer", "minimum": 0}, 1),
        ({"type": "number", "minimum": 0.5}, 1),
        ({"type": "integer", "default": 50, "minimum": 1}, 50),
        ({"type": "boolean"}, True),
        ({"type": "boolean", "default": False}, False),
        ({"type": "string"}, None),
        ({"type": "string", "default": ""}, None),
        ({"type": "string", "default": "normal"}, "normal"),
        ({"enum": ["low", "high"], "default": "high"}, "low"),
        ({"const": "cron"}, "cron"),
        ({"type": "string", "format": "date"}, "2026-11-28"),
        ({"type": "string", "format": "duration"}, "PT1H"),
        ({"anyOf": [{"type": "number"}, {"type": "string", "format": "decimal"}]}, "12.5"),  # no precision is lost
        ({"anyOf": [{"type": "integer", "minimum": 7}, {"type": "null"}]}, 7),
        ({"anyOf": [{"type": "null"}, {"type": "string", "format": "uuid"}]}, "0198a1b2-0000-7000-8000-000000000001"),
        ({"type": "array", "items": {"type": "integer"}}, None),
        ({"type": "object"}, None),
        ({}, None),
    ],
)
def test_an_example_follows_from_the_type(schema: dict[str, Any], example: Any) -> None:
    found = example_of(copy.deepcopy(schema))
    assert (found, type(found)) == (example, type(example))


def fields(**properties: Any) -> dict[str, Any]:
    made = completed(description({"Thing": {"properties": properties}}))
    found: dict[str, Any] = made["components"]["schemas"]["Thing"]["properties"]
    return found


def test_a_time_of_day_has_the_format_without_an_offset() -> None:
    found = fields(
        at={"type": "string", "format": "time"}, on={"anyOf": [{"type": "string", "format": "time"}, {"type": "null"}]}
    )
    assert found["at"]["format"] == found["on"]["anyOf"][0]["format"] == "partial-time"
    assert found["at"]["examples"] == ["09:00:00"]


def test_an_amount_is_a_decimal_and_another_text_is_not() -> None:
    found = fields(max_cost={"type": "string"}, nickname={"type": "string"})
    assert found["max_cost"]["format"] == "decimal"
    assert "format" not in found["nickname"]


def test_what_a_model_says_of_its_field_stays() -> None:
    found = fields(slug={"type": "string", "description": "its own words", "examples": ["its-own"]})
    assert (found["slug"]["description"], found["slug"]["examples"]) == ("its own words", ["its-own"])


def test_references_follow_a_schema_to_its_new_name() -> None:
    prefix = "#/components/schemas/"
    made = completed(
        description(
            {
                "Thing-Output": {"properties": {"parts": {"type": "array", "items": {"$ref": f"{prefix}Part-Input"}}}},
                "Part-Input": {"discriminator": {"mapping": {"thing": f"{prefix}Thing-Output"}}},
                "Problem": {"description": "a problem of cron"},
            }
        )
    )
    schemas = made["components"]["schemas"]
    assert {"Thing", "PartInput", "CronProblem"} < set(schemas)
    assert not {"Thing-Output", "Part-Input", "Problem"} & set(schemas)
    assert schemas["Thing"]["properties"]["parts"]["items"] == {"$ref": f"{prefix}PartInput"}
    assert schemas["PartInput"]["discriminator"]["mapping"] == {"thing": f"{prefix}Thing"}


def test_two_schemas_of_one_name_are_an_error() -> None:
    with pytest.raises(ValueError, match="give one another in _SCHEMAS"):
        completed(description({"Thing": {}, "Thing-Output": {}}))


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ({}, set()),
        ({"security": [{"HTTPBearer": []}]}, {401, 403}),
        ({"requestBody": {}}, {413, 415, 422}),
        ({"parameters": [{"name": "limit"}]}, {422}),
        ({"responses": {"404": {"description": "Not Found"}, "200": {"description": "OK"}}}, {404}),
    ],
)
def test_an_operation_has_the_refusals_that_its_requests_may_meet(operation: dict[str, Any], more: set[int]) -> None:
    ((_, found),) = operations(completed(description({}, **operation)))
    statuses = list(found["responses"])
    assert statuses == sorted(statuses)
    refusals = {int(status) for status in statuses} - {200}
    assert refusals == {400, 408, 421, 429, 431, 500, 503} | more
    for status in refusals:
        answer = found["responses"][str(status)]
        assert answer["description"][-1] == "."
        assert answer["content"]["application/problem+json"]["schema"] == {
            "$ref": "#/components/schemas/ProblemDetails"
        }
        assert ("retry-after" in answer.get("headers", {})) is (status in {429, 503})


def test_only_methods_are_operations() -> None:
    item = {"get": {"operationId": "a"}, "delete": {"operationId": "b"}, "parameters": [], "summary": "x"}
    found = [(path, one["operationId"]) for path, one in operations({"paths": {"/x": item}})]
    assert found == [("/x", "a"), ("/x", "b")]
