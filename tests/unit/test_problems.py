"""Every error is a problem document: its status, its headers, and what it tells of the caller's input."""

import json
from typing import Annotated, Any
from uuid import UUID

import pytest
import structlog.testing
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from psycopg.errors import NumericValueOutOfRange
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from core import errors
from core.errors import RotaError
from web import problems

app = FastAPI(redirect_slashes=False)
problems.install(app)
app.add_middleware(problems.LimitBodies, most=lambda _: 100)
ERRORS: dict[str, Exception] = {}


class Body(BaseModel):
    name: Annotated[str, AfterValidator(str.strip), Field(min_length=1, max_length=5)]
    tags: list[Annotated[str, Field(min_length=2)]] = []


@app.get("/fail/{name}")
def fail(name: str) -> None:
    raise ERRORS[name]


@app.put("/fail/{name}")
def put(name: str) -> str:
    return name


@app.post("/bodies")
def take(body: Body) -> str:
    return body.name


@app.post("/any")
def take_any(body: dict[str, Any]) -> int:
    return len(body)


@app.get("/many")
def many(numbers: Annotated[list[int], Query()]) -> int:
    return sum(numbers)


@pytest.fixture
def client() -> TestClient:
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


def document_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    return found


def failed(client: TestClient, error: Exception) -> Any:
    ERRORS["one"] = error
    return client.get("/fail/one")


class Special(errors.Conflict):
    """This one is particular."""


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.InvalidInput(), 422, "unprocessable"),
        (errors.NotAuthenticated(), 401, "unauthorized"),
        (errors.NotPermitted(), 403, "forbidden"),
        (errors.NotFound(), 404, "not-found"),
        (errors.Conflict(), 409, "conflict"),
        (Special(), 409, "conflict"),
        (errors.PreconditionRequired(), 428, "precondition-required"),
        (errors.TooManyRequests(), 429, "too-many-requests"),
        (errors.Unavailable(), 503, "service-unavailable"),
        (errors.Misconfigured(), 500, "internal-server-error"),
        (RotaError(), 500, "internal-server-error"),
    ],
)
def test_each_kind_of_error_has_its_status(client: TestClient, error: RotaError, status: int, kind: str) -> None:
    found = document_of(failed(client, error), status)
    assert found["type"].startswith(f"urn:rota:problem:{kind}")
    assert found["detail"] == (type(error).__doc__ or "").strip()


def test_the_message_and_the_details_of_an_error_are_told(client: TestClient) -> None:
    one = UUID(int=7)
    found = document_of(failed(client, errors.Conflict("Taken.", by=one, left=3)), 409)
    assert (found["detail"], found["by"], found["left"]) == ("Taken.", str(one), 3)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.Unavailable(), {"retry-after": "2"}),
        (errors.TooManyRequests(), {"retry-after": "1"}),
        (errors.TooManyRequests("Wait.", retry_after=17), {"retry-after": "17"}),
        (errors.Unavailable("Wait.", retry_after=5), {"retry-after": "5"}),
        (errors.NotAuthenticated(), {"www-authenticate": "Bearer"}),
        (errors.NotPermitted(), {}),
        (errors.Conflict(), {}),
    ],
)
def test_headers_say_when_and_how_to_come_again(client: TestClient, error: RotaError, headers: dict[str, str]) -> None:
    answer = failed(client, error)
    assert {name: answer.headers[name] for name in ("retry-after", "www-authenticate") if name in answer.headers} == (
        headers
    )


def test_input_that_is_quoted_in_an_error_need_not_be_text(client: TestClient) -> None:
    found = document_of(failed(client, errors.NotFound("There is no \udcff\x00.")), 404)
    assert found["detail"] == "There is no \ufffd\ufffd."


def test_a_fault_of_ours_is_told_by_a_reference_and_nothing_else(client: TestClient) -> None:
    with structlog.testing.capture_logs() as logged:
        found = document_of(failed(client, ZeroDivisionError("password=hunter2")), 500)
        other = document_of(failed(client, ZeroDivisionError()), 500)
    assert [line["reference"] for line in logged] == [found["reference"], other["reference"]]
    assert logged[0]["path"] == "/fail/one"
    assert found["reference"] != other["reference"]
    assert "hunter2" not in json.dumps(found)
    assert "ZeroDivision" not in json.dumps(found)


def test_values_that_the_database_refuses_are_the_callers(client: TestClient) -> None:
    error = DataError("SELECT :secret", {}, NumericValueOutOfRange("value 99999 is out of range"))
    with structlog.testing.capture_logs():
        found = document_of(failed(client, error), 422)
    assert found["detail"] == "A value cannot be stored: out of range, or not valid text."


def test_an_error_of_http_keeps_its_words_and_headers(client: TestClient) -> None:
    answer = failed(client, HTTPException(418, "Short and stout.", {"X-Pot": "tea"}))
    assert document_of(answer, 418)["detail"] == "Short and stout."
    assert answer.headers["x-pot"] == "tea"


# ── addresses and methods ────────────────────────────────────────────────────────────────────────────────────────────


def test_another_method_is_told_which_ones_there_are(client: TestClient) -> None:
    answer = client.delete("/fail/x")
    assert document_of(answer, 405)["detail"] == "This address does not take that method, but GET, PUT, HEAD."
    assert answer.headers["allow"] == "GET, PUT, HEAD"
    assert client.get("/bodies").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        ("/bodies/", "/bodies"),
        ("/bodies///", "/bodies"),
        ("/fail/a%20b/?x=1&y=%2F", "/fail/a%20b?x=1&y=%2F"),
        ("/nothing/", None),
        ("/", None),
        ("//bodies/", None),
        ("//evil.example/", None),
        ("/bodies%2F", None),
    ],
)
def test_a_slash_too_many_leads_to_the_address_without_it(client: TestClient, asked: str, location: str | None) -> None:
    answer = client.get(f"http://testserver{asked}")
    if location is None:
        assert "nothing at this address" in document_of(answer, 404)["detail"]
    else:
        assert (answer.status_code, answer.headers["location"]) == (307, location)


# ── requests that are not valid ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "name", "Field required"),
        ({"name": ""}, "name", "Text should have at least 1 character"),
        ({"name": "  "}, "name", "Text should have at least 1 character"),
        ({"name": "abcdef"}, "name", "Text should have at most 5 characters"),
        ({"name": "a", "tags": ["ok", "x"]}, "tags.1", "at least 2 characters"),
        ([], "body", "dictionary or object"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_wrong(client: TestClient, body: Any, field: str, said: str) -> None:
    found = document_of(client.post("/bodies", json=body), 422)
    assert [error["field"] for error in found["errors"]] == [field]
    assert said in found["errors"][0]["problem"]
    assert found["detail"].startswith(f"{field}: ")


def test_many_errors_are_told_in_part_and_the_first_five_in_words(client: TestClient) -> None:
    found = document_of(client.get("/many", params={"numbers": ["x"] * 80}), 422)
    assert [error["field"] for error in found["errors"]] == [f"numbers.{number}" for number in range(50)]
    assert found["detail"].count("numbers.") == 5


@pytest.mark.parametrize("content", [b"{", b'{"a": 1}}', b"\xff\xfe"])
def test_a_body_that_is_no_json_is_a_bad_request(client: TestClient, content: bytes) -> None:
    answer = client.post("/any", content=content, headers={"content-type": "application/json"})
    assert "not valid JSON" in document_of(answer, 400)["detail"]


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("length", "status"), [(100, 200), (101, 413), (100_000, 413)])
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_may_be_as_large_as_the_limit_announced_or_not(
    client: TestClient, length: int, status: int, is_announced: bool
) -> None:
    body = b'{"a": "' + b"x" * (length - 9) + b'"}'
    assert len(body) == length
    pieces = [body[at : at + 60] for at in range(0, length, 60)]
    headers = {"content-type": "application/json"}
    answer = client.post("/any", content=body if is_announced else iter(pieces), headers=headers)
    assert answer.status_code == status, answer.text
    if status == 413:
        assert "max_body_bytes" in document_of(answer, 413)["detail"]
