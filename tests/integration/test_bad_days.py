"""Providers on their bad days: outages by every sign, fallbacks, quotas that all processes share."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as Path

from agents.interrupt import Interrupt
from agents.llm.errors import ModelError
from agents.llm.gates import CoolingDown, Gates
from agents.llm.models import Models
from core import db
from core.settings import Settings, settings
from domain.claims import service as claims
from domain.pacing import service as pacing
from domain.pacing.schemas import Account, Known, Limits, Route, Seen
from domain.tasks import service as tasks
from embedded.processes import free_port
from tests.support.desk import Desk
from tests.support.factories import change_agent, submit
from tests.support.models import Canned, Parrot, asking, saying
from tests.support.servers import serving, wait_until

MINUTE = timedelta(minutes=1)
ROUTE = Route("openai", "m", "key")
NOW = timedelta(0)

OVERLOADED = Canned(529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
THANKS = Canned(
    body={
        "content": [{"type": "text", "text": "from claude"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 5, "output_tokens": 5},
    }
)
SIGNS = {
    "overloaded": Canned(503, {"error": {"message": "no capacity"}}),
    "529": Canned(529, {"error": {"message": "overloaded"}}),
    "500": Canned(500, {"error": {"message": "oh"}}),
    "502": Canned(502, "<html>bad gateway</html>"),
    "504": Canned(504, "<html>gateway time-out</html>"),
    "408": Canned(408, {"error": {"message": "took too long"}}),
}


class Trouble:
    """A server of OpenAI's wire that does what `then` says, and Anthropic's that thanks."""

    def __init__(self, then: Callable[[], Any]) -> None:
        self.then = then
        self.asked = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Path("/v1/chat/completions", self._trouble, methods=["POST"]),
                Path("/v1/messages", self._thanks, methods=["POST"]),
            ]
        )

    async def _trouble(self, _: Request) -> Response:
        self.asked += 1
        found = self.then()
        canned = await found if asyncio.iscoroutine(found) else found
        body = canned.body if isinstance(canned.body, str) else json.dumps(canned.body)
        return Response(body, canned.status, {"content-type": "application/json"} | canned.headers)

    async def _thanks(self, _: Request) -> Response:
        return Response(json.dumps(THANKS.body), headers={"content-type": "application/json"})


@contextlib.contextmanager
def desk_at(**config: Any) -> Iterator[Desk]:
    desk = Desk(Models(Settings(**config)))
    try:
        yield desk
    finally:
        desk.close()


@contextlib.contextmanager
def breaking_server(*, after: bytes | None) -> Iterator[str]:
    """A server that resets every connection: at once, or in the middle of an answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65_536)
                    if after is not None:
                        connection.sendall(after)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname()).close()
        thread.join(5)
        listener.close()


@contextlib.contextmanager
def bad_openai(sign: str) -> Iterator[str]:
    """The address of a provider that shows `sign`."""
    if sign == "refused":
        yield f"http://127.0.0.1:{free_port()}"
    elif sign == "unknown host":
        yield "http://no-such-host.invalid"
    elif sign in {"reset", "cut"}:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
        with breaking_server(after=head if sign == "cut" else None) as url:
            yield url
    else:

        async def hang() -> Canned:
            await asyncio.sleep(5)
            return Canned(500, {})

        with serving(Trouble(hang if sign == "hangs" else lambda: SIGNS[sign]).app()) as url:
            yield url


EVERY_SIGN = [*SIGNS, "refused", "unknown host", "reset", "cut", "hangs"]


@pytest.mark.parametrize("sign", EVERY_SIGN)
def test_an_outage_by_any_sign_costs_no_attempt(org: UUID, sign: str) -> None:
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None, limits={"step_timeout": 0.5})
    with bad_openai(sign) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        task = desk.run(org, submit(org).id)
    assert (task.status, task.attempts) == ("queued", 0)
    assert [(attempt.outcome, attempt.counted) for attempt in task.attempt_history] == [("deferred", False)]


@pytest.mark.parametrize("sign", EVERY_SIGN)
def test_the_fallback_is_asked_for_every_sign_of_an_outage(org: UUID, sign: str) -> None:
    change_agent(
        org,
        "support-assistant",
        model="gpt-4o-mini",
        fallback_model="claude-haiku-4-5",
        limits={
            "step_timeout": 1.5 if sign == "hangs" else 30
        },  # the fallback has the same time, on a busy machine too
    )
    with (
        serving(Trouble(lambda: SIGNS["500"]).app()) as claude,
        bad_openai(sign) as url,
        desk_at(openai_base_url=f"{url}/v1", anthropic_base_url=claude) as desk,
    ):
        task = desk.run(org, submit(org).id)
    assert (task.status, task.result and task.result["answer"]) == ("succeeded", "from claude")


def test_a_fallback_without_a_key_is_skipped_and_the_first_error_kept(org: UUID) -> None:
    bird = Parrot()
    bird.answers = [OVERLOADED, THANKS]
    change_agent(org, "support-assistant", model="claude-haiku-4-5", fallback_model="gpt-4o-mini")
    with serving(bird.app()) as url, desk_at(anthropic_base_url=url) as desk:
        task = desk.run(org, submit(org).id)
        assert (task.status, task.attempts, task.error.kind) == ("queued", 0, "overloaded")
        assert [step.input["model"] for step in task.steps if step.stage == "decide"] == ["claude-haiku-4-5"]
        assert desk.run(org, task.id, number=1).status == "succeeded"


def test_a_fallback_that_cannot_answer_either_leaves_the_first_error(org: UUID) -> None:
    bird = Parrot()
    bird.answers = [OVERLOADED, Canned(401, {"error": {"message": "wrong key"}})]
    change_agent(org, "support-assistant", model="claude-haiku-4-5", fallback_model="gpt-4o-mini")
    with serving(bird.app()) as url, desk_at(anthropic_base_url=url, openai_base_url=f"{url}/v1") as desk:
        task = desk.run(org, submit(org).id)
    assert (task.status, task.attempts, task.error.kind) == ("queued", 0, "overloaded")


def test_the_fallbacks_error_counts_where_only_that_one_may_pass(org: UUID) -> None:
    bird = Parrot()
    bird.answers = [Canned(402, {"error": {"message": "no credit"}}), OVERLOADED]
    change_agent(
        org,
        "support-assistant",
        model="gpt-4o-mini",
        fallback_model="claude-haiku-4-5",
        retry={"fallback_on": ["quota"]},
    )
    with serving(bird.app()) as url, desk_at(anthropic_base_url=url, openai_base_url=f"{url}/v1") as desk:
        task = desk.run(org, submit(org).id)
    assert (task.status, task.attempts, task.error.kind) == ("queued", 0, "overloaded")


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (
            Canned(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}),
            "authentication",
        ),
        (Canned(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}), "quota"),
        (Canned(402, {"error": {"message": "Insufficient credits"}}), "quota"),
    ],
)
@pytest.mark.parametrize("where", ["agent", "installation", "nowhere"])
def test_quota_and_key_errors_go_elsewhere_where_that_is_configured(
    org: UUID, refusal: Canned, kind: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_agent(
        org,
        "support-assistant",
        model="gpt-4o-mini",
        fallback_model="claude-haiku-4-5",
        retry={"fallback_on": [kind]} if where == "agent" else {},
    )
    if where == "installation":
        monkeypatch.setenv("ROTA_FALLBACK_ON", json.dumps([kind]))
    with (
        fresh_settings(),
        serving(Trouble(lambda: refusal).app()) as url,
        desk_at(openai_base_url=f"{url}/v1", anthropic_base_url=url) as desk,
    ):
        task = desk.run(org, submit(org).id)
    assert task.status == ("failed" if where == "nowhere" else "succeeded")
    with db.system_transaction() as connection:
        (alert,) = pacing.alerts(connection)
    assert (alert.provider, alert.kind) == ("openai", kind)


def test_an_alert_ends_with_the_next_success(org: UUID) -> None:
    answers = iter([Canned(401, {"error": {"message": "no"}}), saying("hello")])
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
    with serving(Trouble(lambda: next(answers)).app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        assert desk.run(org, submit(org).id).status == "failed"
        assert desk.run(org, submit(org).id).status == "succeeded"
    with db.system_transaction() as connection:
        assert pacing.alerts(connection) == []


def test_a_heartbeat_that_was_read_before_an_alert_does_not_keep_it_from_ending(org: UUID) -> None:
    answers = iter([Canned(401, {"error": {"message": "no"}}), saying("hello")])
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
    with serving(Trouble(lambda: next(answers)).app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        assert desk.run(org, submit(org).id).status == "failed"
        desk.workplace.gates.learn(Known())  # as it was a moment before
        assert desk.run(org, submit(org).id).status == "succeeded"
    with db.system_transaction() as connection:
        assert pacing.alerts(connection) == []


def test_three_outages_in_one_task_each_after_progress_are_no_end(org: UUID) -> None:
    bird = Parrot()
    look_up = asking(("search_clients", '{"query": "ana"}'))
    bird.answers = [look_up, SIGNS["529"], look_up, SIGNS["529"], look_up, SIGNS["529"], saying("done")]
    change_agent(
        org,
        "support-assistant",
        model="gpt-4o-mini",
        fallback_model=None,
        retry={"patience": 0, "max_attempts": 2},
    )
    with serving(bird.app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        task_id = submit(org).id
        seen = [desk.run(org, task_id, number) for number in range(4)]
    assert [(task.status, task.attempts) for task in seen] == [
        ("queued", 1), ("queued", 1), ("queued", 1), ("succeeded", 2),
    ]  # fmt: skip


def test_progress_before_a_worker_was_drained_is_progress_too(org: UUID) -> None:
    bird = Parrot()
    look_up = asking(("search_clients", '{"query": "ana"}'))
    bird.answers = [SIGNS["529"], look_up, saying("done"), SIGNS["529"]]
    change_agent(
        org, "support-assistant", model="gpt-4o-mini", fallback_model=None, retry={"patience": 0, "max_attempts": 2}
    )
    with serving(bird.app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        task_id = submit(org).id
        assert desk.run(org, task_id).attempts == 1
        desk.run(org, task_id, number=1)
        with db.transaction(org) as connection:  # it was handed back before its last answer
            connection.execute(text("DELETE FROM steps WHERE task_id = :task AND seq > 2"), {"task": task_id})
            back = "UPDATE tasks SET status = 'queued', finished_at = NULL, attempts = 1 WHERE id = :task"
            connection.execute(text(back), {"task": task_id})
            released = "UPDATE attempts SET outcome = 'released', counted = false WHERE task_id = :task AND claim = 2"
            connection.execute(text(released), {"task": task_id})
        task = desk.run(org, task_id, number=2)
    assert (task.status, task.attempts) == ("queued", 1)


def test_patience_ends_and_begins_anew_when_a_person_retries(org: UUID) -> None:
    change_agent(
        org, "support-assistant", model="gpt-4o-mini", fallback_model=None, retry={"patience": 60, "max_attempts": 1}
    )
    with serving(Trouble(lambda: SIGNS["529"]).app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        task_id = submit(org).id
        assert desk.run(org, task_id).status == "queued"
        later(org, timedelta(seconds=61))
        assert desk.run(org, task_id, number=1).status == "failed"
        with db.transaction(org) as connection:
            tasks.retry(connection, task_id)
        assert desk.run(org, task_id, number=2).status == "queued"


@contextlib.contextmanager
def fresh_settings() -> Iterator[None]:
    """Within, settings are read from the environment as it is now."""
    settings.cache_clear()
    yield
    settings.cache_clear()


def later(org: UUID, span: timedelta) -> None:
    """Have what was tried so far lie further back."""
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE attempts SET ended_at = ended_at - :span"), {"span": span})
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE provider_paces SET held_until = held_until - :span, next_at = next_at - :span"),
                           {"span": span})  # fmt: skip


def test_a_worker_lost_after_progress_leaves_the_task_its_attempts(org: UUID) -> None:
    bird = Parrot()
    bird.answers = [asking(("search_clients", '{"query": "ana"}')), SIGNS["529"]]
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
    with serving(bird.app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        task = desk.run(org, submit(org).id)
    with db.system_transaction() as connection:
        back_to_running = "UPDATE tasks SET status = 'running', worker = 'gone', attempts = 2 WHERE id = :task"
        connection.execute(text(back_to_running), {"task": task.id})
        assert claims.reap_orphaned(connection, MINUTE) == {"queued": 1}


# ── the shared pace ──────────────────────────────────────────────────────────────────────────────────────────────────


def known() -> Known:
    with db.system_transaction() as connection:
        found = connection.execute(text(pacing.KNOWN.sql)).scalar_one()
    return Known.model_validate(found)


def call(gates: Gates, outcome: ModelError | None = None, limit: timedelta = MINUTE) -> None:
    with gates.passing(ROUTE, Interrupt(), limit):
        if outcome:
            raise outcome


def fail(gates: Gates, kind: Any = "overloaded", retry_after: float | None = None, limit: timedelta = MINUTE) -> None:
    asked = None if retry_after is None else timedelta(seconds=retry_after)
    with pytest.raises(ModelError):
        call(gates, ModelError(kind, "no", retry_after=asked), limit)


def test_what_one_process_ran_into_holds_back_the_others(org: UUID) -> None:
    first, second = Gates(), Gates()
    fail(first, "rate_limited", retry_after=50)
    second.learn(known())
    for gates in (first, second):
        with pytest.raises(CoolingDown, match="m may be called in") as raised:
            call(gates)
        assert (raised.value.cause, raised.value.wait > timedelta(seconds=20)) == ("limit", True)


@pytest.mark.parametrize("kind", ["overloaded", "server_error", "timeout", "network", "incomplete"])
def test_an_outage_cools_the_model_down_for_the_others(org: UUID, kind: str) -> None:
    first, second = Gates(), Gates()
    fail(first, kind, retry_after=30)
    second.learn(known())
    with pytest.raises(CoolingDown, match="openai is down"):
        call(second)


def test_a_process_that_begins_with_many_tasks_asks_once_and_not_a_hundred_times(org: UUID) -> None:
    gates, asked, all_there = Gates(), [], threading.Barrier(20)

    def ask() -> None:
        all_there.wait(10)
        with contextlib.suppress(CoolingDown, ModelError), gates.passing(ROUTE, Interrupt(), MINUTE):
            asked.append(1)
            time.sleep(0.05)  # on its way
            raise ModelError("rate_limited", "no", retry_after=MINUTE)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(asked) == 1


def test_other_models_and_other_keys_go_on(org: UUID) -> None:
    gates = Gates()
    fail(gates, "rate_limited", retry_after=30)
    for route in (Route("openai", "other", "key"), Route("openai", "m", "other"), Route("anthropic", "m", "key")):
        with gates.passing(route, Interrupt(), MINUTE):
            pass


def test_one_failure_among_many_successes_is_no_outage(org: UUID) -> None:
    gates = Gates()
    call(gates)
    fail(gates)
    fail(gates)
    assert known().paced == []
    fail(gates)
    assert known().paced == [("openai", "m", "key")]


def test_a_time_out_of_an_impatient_agent_says_nothing_of_the_provider(org: UUID) -> None:
    gates = Gates()
    fail(gates, "timeout", limit=timedelta(microseconds=1))
    assert known().paced == []
    fail(gates, "timeout")
    assert known().paced


def test_a_call_waits_for_its_time_and_a_stop_ends_the_wait(org: UUID) -> None:
    gates = Gates()
    began = time.monotonic()
    fail(gates, "rate_limited", retry_after=0.2)
    call(gates)
    assert time.monotonic() - began >= 0.3
    fail(gates, "rate_limited", retry_after=9)
    interrupt = Interrupt()
    threading.Timer(0.1, interrupt.trigger, ["cancelled"]).start()
    began = time.monotonic()
    with pytest.raises(Exception, match="cancelled"), gates.passing(ROUTE, interrupt, MINUTE):
        pass
    assert time.monotonic() - began < 9


def test_those_who_wait_when_another_is_refused_wait_anew(org: UUID) -> None:
    first, second = Gates(), Gates()
    fail(first, "rate_limited", retry_after=0.3)
    with db.system_transaction() as connection:
        connection.execute(text("UPDATE provider_paces SET rate = 0.3"))
    second.learn(known())
    begun = threading.Event()

    def wait() -> None:
        with contextlib.suppress(CoolingDown):
            call(second)
            begun.set()

    waiting = threading.Thread(target=wait)
    with first.passing(ROUTE, Interrupt(), MINUTE):  # it is the first's turn, the second's comes after
        waiting.start()
        wait_until(lambda: standing().ahead > 4)
    with db.system_transaction() as connection:
        pacing.refused(connection, ROUTE, NOW, number=None, asked=MINUTE, limits=None)
    waiting.join(20)
    assert not begun.is_set()


def standing() -> Any:
    with db.system_transaction() as connection:
        (found,) = pacing.standings(connection)
    return found


def test_after_an_outage_a_few_successes_set_the_model_free(org: UUID) -> None:
    gates = Gates()
    fail(gates)
    for _ in range(6):
        call(gates)
    assert known().paced == []
    call(gates)


def test_headers_that_tell_of_the_last_requests_make_a_pace_before_a_refusal(org: UUID) -> None:
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0",
               "x-ratelimit-reset-requests": "1m0s"}  # fmt: skip
    answer = saying("hello")
    answer.headers = headers
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
    with serving(Trouble(lambda: answer).app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        assert desk.run(org, submit(org).id).status == "succeeded"
    assert 0.9 < standing().rate < 1


def test_headers_that_tell_of_plenty_cost_nothing(org: UUID) -> None:
    with db.system_transaction() as connection:
        pacing.foresee(connection, ROUTE, Limits(requests=Seen(60, 50, 10)), 100)
    assert known().paced == []


def test_a_task_that_is_held_back_is_queued_uncounted_and_tried_nothing(org: UUID) -> None:
    trouble = Trouble(lambda: Canned(429, {"error": {"message": "slow down"}}, {"retry-after": "30"}))
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None)
    with serving(trouble.app()) as url, desk_at(openai_base_url=f"{url}/v1") as desk:
        desk.run(org, submit(org).id)
        held = desk.run(org, submit(org).id)
    assert trouble.asked == 1
    assert (held.status, held.attempts, held.error.kind) == ("queued", 0, "held_back")
    assert [step.stage for step in held.steps] == ["perceive"]
    assert held.run_after - held.created_at > timedelta(seconds=29)


def test_accounts_are_told_apart_without_telling_the_key() -> None:
    keys = ("sk-1", "sk-1", "sk-2")
    first, again, second = (Models(Settings(openai_api_key=key)).account_key("openai") for key in keys)
    assert first == again != second
    assert "sk" not in first


def test_what_was_of_no_use_for_long_is_forgotten(org: UUID) -> None:
    with db.system_transaction() as connection:
        pacing.failed(connection, ROUTE, NOW, asked=None)
        pacing.raise_alert(connection, Account("openai", "key"), "quota", "no credit")
        for table, columns in {
            "provider_paces": ("changed_at", "held_until", "next_at"),
            "provider_alerts": ("last_at",),
        }.items():
            values = ", ".join(f"{column} = {column} - interval '25 hours'" for column in columns)
            connection.execute(text(f"UPDATE {table} SET {values}"))  # noqa: S608
        pacing.forget(connection)
    assert known() == Known()
