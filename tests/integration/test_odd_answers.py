"""Tasks whose models answer oddly: the real pipeline and tables, and a server that refuses what providers refuse."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from agents.llm.models import Models
from agents.sink import Sink
from core import db
from core.model_providers import PROVIDERS, ProviderName
from tests.contract.conftest import MODELS
from tests.support.desk import Desk
from tests.support.dialects import dialect_of
from tests.support.factories import change_agent, submit
from tests.support.listening import Ear
from tests.support.models import Canned, Parrot, all_at, asking, saying
from tests.support.servers import serving


@pytest.fixture(scope="module")
def aviary() -> Iterator[tuple[Parrot, str]]:
    bird = Parrot(is_strict=True)
    with serving(bird.app()) as url:
        yield bird, url


class Bench:
    """An agent of one provider, and the server that answers it."""

    def __init__(self, org: UUID, bird: Parrot, url: str) -> None:
        self.org, self.bird = org, bird
        bird.answers, bird.asked, bird.bodies = [], [], []
        self.desk = Desk(Models(all_at(url)))

    def uses(self, provider: ProviderName, **changes: Any) -> None:
        change_agent(self.org, "support-assistant", model=MODELS[provider], **({"fallback_model": None} | changes))

    def run(self, *answers: Canned, tries: int = 1) -> Any:
        self.bird.answers = list(answers)
        task = submit(self.org, "Find Ana.")
        for number in range(tries):
            seen = self.desk.run(self.org, task.id, number)
        return seen


@pytest.fixture
def bench(org: UUID, aviary: tuple[Parrot, str]) -> Iterator[Bench]:
    made = Bench(org, *aviary)
    yield made
    made.desk.close()


def words(said: str, stop: str = "end_turn") -> Canned:
    """An answer on Anthropic's wire in words."""
    content = [{"type": "text", "text": said}] if said else []
    return Canned(body={"content": content, "stop_reason": stop, "usage": {"input_tokens": 9, "output_tokens": 4}})


def answer(said: str | None, finish: str, **usage: Any) -> Canned:
    """An answer on OpenAI's wire."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": finish}]
    return Canned(body={"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 5} | usage})


GIVEN = '{"query": "Ana", "_why": "zz comes after a", "_confidence": 1.0, "_alternatives": "1e16"}'


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_retry_sends_the_very_same_conversation(bench: Bench, provider: ProviderName) -> None:
    bench.uses(provider)
    dialect = dialect_of(provider)
    ask, say = dialect.asking(("c1", "search_clients", GIVEN)), Canned(body=dialect.saying("ok"))
    task = bench.run(ask, Canned(500, {"error": {"message": "oops"}}), say, tries=2)
    assert task.status == "succeeded", task.error
    assert len(bench.bird.bodies) == 3
    assert bench.bird.bodies[1] == bench.bird.bodies[2]
    # That is no accident of the order in which jsonb keeps these keys.
    (stored,) = task.steps[1].output["message"]["tool_calls"]
    assert stored["text"] == GIVEN
    assert list(stored["arguments"]) != list(json.loads(GIVEN))


ODD_IDS = ("functions.search_clients:0", "toolu_1", "toolu_1", "", "call_" + "x" * 60)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_odd_ids_and_invented_names_do_not_end_a_task(bench: Bench, provider: ProviderName) -> None:
    bench.uses(provider)
    dialect = dialect_of(provider)
    looked = ("search_clients", '{"query": "a"}')
    many = dialect.asking(*((odd, *looked) for odd in ODD_IDS), ("c6", "multi_tool_use.parallel", "{}"))
    answers = [many, dialect.asking(("c1", *looked)), Canned(body=dialect.saying("ok"))]
    task = bench.run(*answers)
    assert (task.status, task.result and task.result["answer"]) == ("succeeded", "ok"), task.error
    assert len(bench.bird.asked) == 3


def test_arguments_that_are_no_json_do_not_end_a_task(bench: Bench) -> None:
    bench.uses("openai")
    task = bench.run(asking(("search_clients", '{"query": "a"}'), ("search_clients", "{")), saying("ok"))
    assert (task.status, task.result and task.result["answer"]) == ("succeeded", "ok"), task.error


@pytest.mark.parametrize(("first", "other"), list(itertools.permutations(PROVIDERS, 2)))
def test_another_provider_goes_on_with_the_conversation(bench: Bench, first: ProviderName, other: ProviderName) -> None:
    bench.uses(first, fallback_model=MODELS[other])
    twice = [("toolu_9", "search_clients", '{"query": "a"}')] * 2
    say = Canned(body=dialect_of(other).saying("ok"))
    task = bench.run(dialect_of(first).asking(*twice), Canned(529, {"error": {"message": "Overloaded"}}), say)
    assert (task.status, task.result and task.result["answer"]) == ("succeeded", "ok"), task.error


def test_a_pause_goes_on_and_does_not_end_with_the_assistants_words(bench: Bench) -> None:
    bench.uses("anthropic")
    task = bench.run(words("Let me see. \n", "pause_turn"), words("", "pause_turn"), words("ok"))
    assert (task.status, task.result["answer"]) == ("succeeded", "ok")


def test_an_answer_spent_on_thinking_is_asked_for_with_twice_the_room(bench: Bench) -> None:
    bench.uses("openai")
    task = bench.run(answer("", "length"), answer("ok", "stop"))
    assert (task.status, task.model_calls) == ("succeeded", 2)
    first, second = (body["max_tokens"] for body in bench.bird.asked)
    assert second == 2 * first


def test_where_twice_the_room_is_refused_the_first_reason_is_told(bench: Bench) -> None:
    bench.uses("openai")
    task = bench.run(answer("", "length"), Canned(400, {"error": {"message": "max_tokens is too large"}}))
    assert (task.status, task.error.kind) == ("failed", "truncated")
    assert "max_output_tokens" in task.error.message


@pytest.mark.parametrize(
    ("provider", "bad", "kind"),
    [
        ("anthropic", words(""), "empty"),
        ("openai", answer("", "stop"), "empty"),
        ("openai", answer(" ", "tool_calls"), "unfinished"),
        ("openai", answer("Half an", "abort"), "unfinished"),
        ("anthropic", words("Half an", "overheated"), "unfinished"),
    ],
)
def test_an_answer_that_is_none_is_asked_for_once_more_and_billed(
    bench: Bench, provider: ProviderName, bad: Canned, kind: str
) -> None:
    bench.uses(provider)
    good = Canned(body=dialect_of(provider).saying("ok"))
    task = bench.run(bad, good)
    assert (task.status, task.result and task.result["answer"], task.model_calls) == ("succeeded", "ok", 2), task.error
    task = bench.run(bad, bad)
    assert (task.status, task.error.kind, task.model_calls) == ("failed", kind, 2)
    assert task.billed_cost > 0


def test_an_estimated_call_is_billed_and_marked(bench: Bench) -> None:
    bench.uses("openai")
    task = bench.run(Canned(body={"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}], "usage": {}}))
    assert task.status == "succeeded"
    assert task.input_tokens > 1_000  # the tools' schemas, too
    with db.transaction(bench.org) as connection:
        row = connection.execute(text("SELECT is_estimated, input_tokens, billed_cost FROM usage")).one()
    assert (row.is_estimated, row.input_tokens) == (True, task.input_tokens)
    assert row.billed_cost == task.billed_cost > 0


def test_a_stream_that_breaks_off_is_billed_for_what_came(bench: Bench, listening: Callable[[Desk], Sink]) -> None:
    bench.uses("openai")
    chunk = {"choices": [{"index": 0, "delta": {"content": "Let me think about it"}, "finish_reason": None}]}
    listening(bench.desk)
    task = bench.run(Canned(events=[chunk]))
    assert (task.status, task.error.kind, task.model_calls) == ("queued", "incomplete", 1)
    assert task.billed_cost > 0
    assert [step.status for step in task.steps if step.stage == "decide"] == ["failed"]


@pytest.fixture
def listening() -> Callable[[Desk], Sink]:
    def listen(desk: Desk) -> Sink:
        desk.executor._sink = Ear()
        return desk.executor._sink

    return listen


def test_a_window_smaller_than_thought_is_met_with_less_and_less(bench: Bench) -> None:
    bench.uses("openai")
    too_long = Canned(400, {"error": {"code": "context_length_exceeded", "message": "maximum context length is 8192"}})
    long = json.dumps({"query": "Ana " * 2_000})
    task = bench.run(*[asking(("search_clients", long))] * 3, too_long, too_long, saying("ok"))
    assert task.status == "succeeded", task.error
    sizes = [len(body) for body in bench.bird.bodies[-3:]]
    assert sizes[1] < 0.7 * sizes[0]
    assert sizes[2] < 0.5 * sizes[0]
