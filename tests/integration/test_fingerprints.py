"""Errors that are the same but for ids and numbers count as one; errors that differ in words do not."""

import json

import pytest
from sqlalchemy import text

from core import db
from core.settings import Settings


def fingerprint(message: str) -> str:
    with db.system_transaction() as connection:
        error = json.dumps({"kind": "bad_request", "message": message})
        statement = text("SELECT error_fingerprint(CAST(:error AS jsonb))")
        found: str = connection.execute(statement, {"error": error}).scalar_one()
        return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("anthropic answered 400: tools.0.name: too long.", "anthropic answered 400: max_tokens: must be positive."),
        ("openai answered 400: can't use this, it isn't there", "openai answered 400: can't use that, it isn't there"),
        ("The model's answer was empty", "The model's call was missing"),
        ("the name search_clients is unknown", "the name send_messages is unknown"),
    ],
)
def test_errors_that_differ_in_words_are_told_apart(config: Settings, one: str, other: str) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("wait 3 s", "wait 12 s"),
        ("no model 'gpt-9'", "no model 'gpt-x'"),
        ('unknown: "a"', 'unknown: "b"'),
        ("request req_011CSHoEeqs5C35K2UUqR7Fy failed", "request req_022XyZoEeqs5C35K2UUqAAbb failed"),
        ("task 01a22254-3e6a-7d96-9030-21f70ab5572d is gone", "task 01a2225c-f735-7826-92aa-5f86e09f3e00 is gone"),
    ],
)
def test_errors_that_differ_in_ids_and_numbers_are_the_same(config: Settings, one: str, other: str) -> None:
    assert fingerprint(one) == fingerprint(other)
