"""The job: two calls of the model through the official SDK, a tool between them, result and bill in Postgres."""

import json
import os
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import cache
from typing import Any

from openai import OpenAI
from sqlalchemy import Engine, create_engine, text

URL = os.environ.get("PEER_DATABASE_URL", "")
MODEL_URL = os.environ.get("PEER_MODEL_URL", "")
BROKER_URL = os.environ.get("PEER_REDIS_URL", "")
CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "2"))

_SYSTEM = "Answer. " * 60
_TOOL = {
    "type": "function",
    "function": {
        "name": "search_classes",
        "description": "Search the classes that the gym offers, by name.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}
_ACCEPT = text("INSERT INTO jobs (id, message) VALUES (:id, :message)")
_SEARCH = text("SELECT id, name, category, description FROM classes WHERE name ILIKE '%' || :query || '%' LIMIT 20")
_FINISH = text("""
    UPDATE jobs SET status = 'succeeded', answer = :answer, tokens = :tokens, cost = :cost, finished_at = now()
     WHERE id = :id
""")


_making = threading.Lock()  # hundreds of threads may ask at once, and all must have the same


def engine() -> Engine:
    """The database, one pool a process."""
    with _making:
        return _engine()


@cache
def _engine() -> Engine:
    return create_engine(URL, pool_size=16, max_overflow=0)


def client() -> OpenAI:
    """The SDK, one client a process."""
    with _making:
        return _client()


@cache
def _client() -> OpenAI:
    return OpenAI(base_url=MODEL_URL, api_key="x", max_retries=0, timeout=60)


def accept(message: str) -> str:
    """Write a job down."""
    job_id = str(uuid.uuid4())
    with engine().begin() as connection:
        connection.execute(_ACCEPT, {"id": job_id, "message": message})
    return job_id


def first_messages(message: str) -> list[Any]:
    """The conversation as it begins."""
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": message}]


def ask(messages: list[Any]) -> dict[str, Any]:
    """One call of the model: what it said, and what it used."""
    answer = client().chat.completions.create(model="bench-model", messages=messages, tools=[_TOOL])  # type: ignore[list-item]
    said = answer.choices[0].message.model_dump(exclude_none=True)
    return {"message": said, "tokens": answer.usage.total_tokens if answer.usage else 0}


def search(arguments: str) -> str:
    """The tool."""
    with engine().begin() as connection:
        rows = connection.execute(_SEARCH, {"query": json.loads(arguments)["query"]}).mappings().all()
    return json.dumps([dict(row) for row in rows])


def finish(job_id: str, answer: str, tokens: int) -> None:
    """Result and bill."""
    with engine().begin() as connection:
        values = {"id": job_id, "answer": answer, "tokens": tokens, "cost": Decimal(tokens) / 1_000_000}
        connection.execute(_FINISH, values)


def carry_out(
    job_id: str, message: str, *, call: Callable[..., Any] = lambda function, *given: function(*given)
) -> None:
    """The whole of it; `call` makes a step of each part where a peer has steps."""
    messages, tokens = first_messages(message), 0
    while True:
        found = call(ask, messages)
        messages, tokens = [*messages, found["message"]], tokens + found["tokens"]
        calls = found["message"].get("tool_calls")
        if not calls:
            break
        for one in calls:
            result = call(search, one["function"]["arguments"])
            messages = [*messages, {"role": "tool", "tool_call_id": one["id"], "content": result}]
    call(finish, job_id, messages[-1]["content"], tokens)


def submit_all(submit: Callable[[str], Any]) -> None:
    """Submit as many jobs as the command line says, eight at a time."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: submit(f"When is spin? {number}"), range(int(sys.argv[2]))))
