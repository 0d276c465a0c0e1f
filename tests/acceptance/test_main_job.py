"""What a newcomer does, on real processes: submit, watch, look, pay; and what happens on bad days."""

import contextlib
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.settings import ROOT
from embedded.rehearsal.lexicon import language_of
from tests.support.installation import Installation
from tests.support.servers import wait_until

MESSAGES = ROOT / "examples" / "gym_messages.jsonl"


def bookings(rota: Installation) -> set[Any]:
    return {row[0] for row in rota.query("SELECT id FROM bookings")}


def day_of_a_spin_class(rota: Installation) -> str:
    """A day of the week, not today, on which every spin class has places left and Emily is in none."""
    days = rota.query("""
        SELECT to_char(s.starts_at AT TIME ZONE o.time_zone, 'FMDay')
          FROM class_sessions s JOIN classes c ON c.id = s.class_id JOIN organisations o ON o.id = s.org_id
         WHERE c.name = 'Spin' AND s.status = 'scheduled'
           AND (s.starts_at AT TIME ZONE o.time_zone)::date > (now() AT TIME ZONE o.time_zone)::date
           AND s.starts_at < now() + interval '6 days'
         GROUP BY 1
        HAVING bool_and(s.capacity > (SELECT count(*) FROM bookings b
                                       WHERE b.session_id = s.id AND b.status <> 'cancelled'))
           AND NOT bool_or(EXISTS (SELECT FROM bookings b JOIN contacts p ON p.id = b.client_id
                                    WHERE b.session_id = s.id AND b.status <> 'cancelled'
                                      AND p.name = 'Emily Clarke'))""")
    assert days, "no day with free spin classes within a week"
    day: str = days[0][0]
    return day


def test_the_ready_line_says_everything_a_program_needs(rota: Installation) -> None:
    assert set(rota.ready) == {
        "event", "api", "api_key", "flower", "flower_auth", "database", "redis", "model", "data",
        "starts_per_minute",
    }  # fmt: skip
    assert rota.ready["event"] == "ready"
    assert rota.ready["model"] == "rehearsal"
    assert "rota_app" in rota.ready["database"]


def test_a_message_becomes_a_booking_a_journal_and_a_bill(rota: Installation) -> None:
    before = bookings(rota)
    message = f"Can you book Emily Clarke into {day_of_a_spin_class(rota)}'s spin class?"
    done = rota.run("submit", message, "--agent", "support", "--wait", "--json")
    task = json.loads(done.stdout)
    assert task["status"] == "succeeded"
    assert len(bookings(rota) - before) == 1
    assert {step["stage"] for step in task["steps"]} == {"perceive", "decide", "act", "learn"}
    decides = [step for step in task["steps"] if step["stage"] == "decide"]
    rows = rota.query("SELECT seq, billed_cost FROM usage WHERE task_id = %s ORDER BY seq", task["id"])
    assert [seq for seq, _ in rows] == [step["seq"] for step in decides]
    assert all(cost > 0 for _, cost in rows)
    shown = rota.run("show", task["id"]).stdout
    assert "book_class" in shown
    assert "[Rehearsal]" in shown


def test_the_demonstration_messages_all_end_and_the_sums_agree(rota: Installation) -> None:
    calls_before = rota.director.answered()
    done = rota.run("submit", "--file", str(MESSAGES), "--agent", "support-assistant", "--wait", "--json")
    summary = json.loads(done.stdout)
    messages = [json.loads(line)["message"] for line in MESSAGES.read_text().splitlines()]
    assert len(messages) >= 200
    assert summary["by_status"] == {"succeeded": len(messages)}
    ids = summary["ids"]
    [(calls, cost)] = rota.query("SELECT count(*), sum(billed_cost) FROM usage WHERE task_id = ANY(%s::uuid[])", ids)
    [(task_calls, task_cost)] = rota.query(
        "SELECT sum(model_calls), sum(billed_cost) FROM tasks WHERE id = ANY(%s::uuid[])", ids
    )
    assert (calls, cost) == (task_calls, task_cost)
    assert calls == rota.director.answered() - calls_before == summary["model_calls"]
    marks: Counter[bool] = Counter()
    for message, answer in rota.query(
        "SELECT input ->> 'message', result ->> 'answer' FROM tasks WHERE id = ANY(%s::uuid[])", ids
    ):
        spanish = language_of(message) == "es"
        assert answer.startswith("[Ensayo]" if spanish else "[Rehearsal]")
        marks[spanish] += 1
    assert marks[True] > 60
    assert marks[False] > 60


@pytest.mark.parametrize("fault", ["status=429 retry-after=1", "status=500", "status=529", "cut"])
def test_tasks_end_well_in_spite_of_the_provider(rota: Installation, fault: str) -> None:
    mark = f"(fault {fault})"
    rota.director.expect("ok", fault, match=mark)
    task_id = rota.submit(f"Show me the profile of Grace Mitchell {mark}", agent="retention-specialist")
    task = rota.ended(task_id)
    assert task["status"] == "succeeded", task["error"]
    assert [step["status"] for step in task["steps"]].count("failed") == 1
    counted = rota.query("SELECT count(*), count(DISTINCT seq) FROM usage WHERE task_id = %s", task_id)
    assert counted[0][0] == counted[0][1] == task["model_calls"]
    shown = rota.run("show", task_id).stdout
    kind = next(step["output"]["error"]["kind"] for step in task["steps"] if step["status"] == "failed")
    assert kind in shown


def test_a_hanging_provider_is_given_up_and_the_fallback_is_asked(rota: Installation) -> None:
    limits = {"step_timeout": 0.5}
    rota.http.patch("/v1/agents/operations-manager", json={"limits": limits, "retry": {"base": 0.1}}).raise_for_status()
    rota.director.expect("hang", match="(hang)")
    task = rota.ended(rota.submit("What's on tomorrow? (hang)", agent="operations-manager"))
    assert (task["status"], task["attempts"]) == ("succeeded", 1)  # an outage of a provider costs no attempt
    asked = [(step["name"], step["status"]) for step in task["steps"] if step["stage"] == "decide"]
    assert asked[:2] == [("gpt-4o-mini", "failed"), ("claude-haiku-4-5", "done")]


def test_a_killed_worker_is_replaced_and_its_task_goes_on_where_it_was(rota: Installation) -> None:
    rota.director.expect("ok", "slow=3", match="(kill)")
    calls_before = rota.director.answered()
    task_id = rota.submit("Show me the profile of Tom Wright (kill)")
    wait_until(lambda: len(rota.task(task_id)["steps"]) >= 3, what="the first steps are done")
    first = rota.task(task_id)["steps"][:3]
    os.kill(rota.process_id("worker"), signal.SIGKILL)
    wait_until(lambda: rota.task(task_id)["attempt_history"][1:], seconds=120, what="the task runs again")
    task = rota.ended(task_id)
    assert task["status"] == "succeeded"
    assert task["steps"][:3] == first
    assert [attempt["outcome"] for attempt in task["attempt_history"]] == ["lost", "succeeded"]
    # The call in flight when the worker died may have been answered to nobody; no finished step was asked again.
    assert rota.director.answered() - calls_before <= task["model_calls"] + 1
    assert task["model_calls"] == len([s for s in task["steps"] if s["model"]]) == 3


def test_a_killed_dispatcher_is_replaced(rota: Installation) -> None:
    os.kill(rota.process_id("dispatcher"), signal.SIGKILL)
    assert rota.ended(rota.submit("What's on today? (dispatcher)"))["status"] == "succeeded"


def test_submitting_goes_on_while_redis_is_away_and_the_tasks_run_when_it_is_back(rota: Installation) -> None:
    redis = rota.process_id("valkey")
    os.kill(redis, signal.SIGSTOP)
    try:
        started = time.monotonic()
        ids = [rota.submit(f"What's on today? (redis {n})") for n in range(5)]
        assert time.monotonic() - started < 3
    finally:
        os.kill(redis, signal.SIGCONT)
    assert {rota.ended(task_id, seconds=60)["status"] for task_id in ids} == {"succeeded"}
    os.kill(rota.process_id("valkey"), signal.SIGKILL)  # it comes back with nothing in it
    ids = [rota.submit(f"What's on today? (flushed {n})") for n in range(5)]
    assert {rota.ended(task_id, seconds=60)["status"] for task_id in ids} == {"succeeded"}


def test_a_running_task_is_cancelled_within_seconds(rota: Installation) -> None:
    rota.director.expect("hang", match="(cancel)")
    before = rota.director.troubled()
    task_id = rota.submit("hello (cancel)")
    wait_until(lambda: rota.director.troubled() > before, what="the call is under way")
    rota.run("cancel", task_id)
    # The provider would hang for two minutes: only an interrupted call can end so soon.
    assert rota.ended(task_id, seconds=20)["status"] == "cancelled"


def test_flower_asks_for_a_password_shows_agents_by_name_and_is_read_only(rota: Installation) -> None:
    flower = rota.ready["flower"]

    def asked() -> int | None:
        with contextlib.suppress(httpx2.TransportError):  # Flower starts after the others
            return int(httpx2.get(f"{flower}/api/tasks", trust_env=False).status_code)
        return None

    assert wait_until(asked, what="Flower answers") == 401
    user, _, password = rota.ready["flower_auth"].partition(":")
    auth = (user, password)

    def listed() -> dict[str, str]:
        tasks = httpx2.get(f"{flower}/api/tasks", params={"limit": 10_000}, auth=auth, trust_env=False).json()
        return {celery_id: task["name"] for celery_id, task in tasks.items()}

    def names_the_agent() -> bool:
        rota.ended(rota.submit("What's on today? (flower)"))  # it lists what begins after it has begun to listen
        return "support-assistant" in listed().values()

    wait_until(names_the_agent, what="Flower names the agent")
    runs = "SELECT 1 FROM workers WHERE name = 'system'"
    wait_until(lambda: rota.query(runs), what="duties run every second, and none is listed")
    assert [name for name in listed().values() if name.startswith("rota.")] == []
    celery_id = next(iter(listed()))
    page = httpx2.get(f"{flower}/task/{celery_id}", auth=auth, trust_env=False).text
    assert f"rota show {celery_id.partition('.')[0]}" in page
    sent = httpx2.post(f"{flower}/api/task/send-task/rota.run_task", json={"args": []}, auth=auth, trust_env=False)
    assert sent.status_code == 403


def test_the_lists_of_the_command_line(rota: Installation) -> None:
    rota.ended(rota.submit("What's on today? (lists)", priority="high"))
    assert "support-assistant" in rota.run("agents").stdout
    assert "claude-haiku-4-5" in rota.run("usage").stdout
    assert "(lists)" in rota.run("tasks", "--priority", "high").stdout
    assert "normal" in rota.run("queues").stdout
    assert "alive" in rota.run("workers").stdout
    assert "database at revision" in rota.run("doctor", check=False).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit"], "either a message or --file"),
        (["submit", "hi"], "Give --agent"),
        (["submit", "hi", "--agent", "nobody"], "There is no agent 'nobody'"),
        (["submit", "hi", "--agent", "support", "--priority", "urgent"], "priority"),
        (["submit", "--file", "/no/such/file", "--agent", "support"], "There is no file"),
        (["show", "17"], "UUID"),
        (["show", "01a1fb6d-0000-7000-8000-000000000000"], "There is no task"),
        (["usage", "--month", "soon"], "month"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(rota: Installation, arguments: list[str], said: str) -> None:
    done = rota.run(*arguments, check=False)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_file_names_its_line(rota: Installation, tmp_path: Path) -> None:
    file = tmp_path / "messages.jsonl"
    file.write_text('{"message": "hi"}\n{"massage": "ho"}\n')
    assert "line 2" in rota.run("submit", "--file", str(file), "--agent", "support", check=False).stderr


def test_the_bare_address_leads_to_the_documentation(rota: Installation) -> None:
    answer = rota.http.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert rota.http.get("/", follow_redirects=True).status_code == 200
