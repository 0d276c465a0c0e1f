"""Governing the queues of a running installation from the command line, as its operator does."""

import json
import os
import signal
from typing import Any

from tests.support.installation import Installation
from tests.support.servers import wait_until


def worker(rota: Installation, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = rota.http.get("/v1/workers").json()
    return next(one for one in found if one["name"] == name and one["status"] == "alive")


def test_workers_are_resized_by_name_and_use_their_new_size(rota: Installation) -> None:
    before = worker(rota, "agents")["concurrency"]
    rota.run("workers", "scale", "agents", "2")
    wait_until(lambda: worker(rota, "agents")["concurrency"] == 2, what="the worker follows")
    rota.director.expect(*["slow=1.5"] * 5, match="(resized)")
    ids = [rota.submit(f"hello {number} (resized)") for number in range(5)]
    wait_until(lambda: worker(rota, "agents")["running"] == 2, what="two tasks run")
    assert sum(rota.task(task_id)["status"] == "running" for task_id in ids) <= 2
    rota.run("workers", "scale", "agents", str(before))
    wait_until(lambda: worker(rota, "agents")["concurrency"] == before, what="the worker follows")
    assert {rota.ended(task_id)["status"] for task_id in ids} == {"succeeded"}
    rota.run("workers", "scale", "agents", "reset")
    assert "no living worker" in rota.run("workers", "scale", "nobody", "5", check=False).stderr


def test_a_pause_holds_tasks_and_says_so(rota: Installation) -> None:
    rota.run("pause", "queue", "low", "--reason", "stocktaking")
    task_id = rota.submit("What's on today?", priority="low")
    assert "The queue low is paused (stocktaking)." in rota.run("show", task_id).stdout
    assert "stocktaking" in rota.run("limits").stdout
    rota.run("resume", "queue", "low")
    assert rota.ended(task_id)["status"] == "succeeded"
    assert "not paused" in rota.run("resume", "queue", "low", check=False).stderr


def test_a_conversation_runs_in_order(rota: Installation) -> None:
    rota.director.expect("slow=0.5", match="first (talk)")
    ids = [rota.submit(f"{word} (talk)", concurrency_key="talk") for word in ("first", "second", "third")]
    ended = [rota.ended(task_id)["finished_at"] for task_id in ids]
    assert ended == sorted(ended)
    started = [rota.task(task_id)["started_at"] for task_id in ids]
    assert all(begin >= end for begin, end in zip(started[1:], ended, strict=False))


def test_a_call_under_way_ends_within_two_seconds_of_being_cancelled(rota: Installation) -> None:
    rota.director.expect("hang", match="(two seconds)")
    before = rota.director.troubled()
    task_id = rota.submit("hello (two seconds)")
    wait_until(lambda: rota.director.troubled() > before, what="the call is under way")
    rota.run("cancel", task_id)
    task = rota.ended(task_id)
    assert task["status"] == "cancelled"
    ((seconds,),) = rota.query(
        "SELECT extract(epoch FROM finished_at - cancel_requested_at)::float FROM tasks WHERE id = %s", task_id
    )
    # Two promised; the rest is for a machine that is busy with other tests.
    assert seconds < 6


def test_failures_are_counted_and_retried_by_their_fingerprint(rota: Installation) -> None:
    rota.director.expect("status=400", "status=400", match="(broken)")
    ids = [rota.submit(f"hello {number} (broken)") for number in range(2)]
    assert {rota.ended(task_id)["status"] for task_id in ids} == {"failed"}
    groups = json.loads(rota.run("failures", "--json").stdout)
    group = next(one for one in groups if set(one["examples"]) & set(ids))
    assert group["tasks"] >= 2
    assert group["fingerprint"] in rota.run("failures").stdout
    done = json.loads(rota.run("retry", "--fingerprint", group["fingerprint"], "--yes", "--json").stdout)
    assert done["changed"] == done["matching"]
    assert {rota.ended(task_id)["status"] for task_id in ids} == {"succeeded"}


def test_a_replay_asks_anew_with_other_words(rota: Installation) -> None:
    old = rota.ended(rota.submit("What's on today? (replayed)"))
    new = json.loads(rota.run("replay", old["id"], "--message", "And tomorrow?", "--json").stdout)
    assert (new["origin_id"], new["input"]["message"]) == (old["id"], "And tomorrow?")
    assert rota.ended(new["id"])["status"] == "succeeded"


def test_a_worker_that_is_told_to_stop_hands_its_task_on_without_a_counted_attempt(rota: Installation) -> None:
    rota.director.expect("slow=2", match="(handed on)")
    before = rota.director.troubled()
    task_id = rota.submit("hello (handed on)")
    wait_until(lambda: rota.director.troubled() > before, what="the call is under way")
    os.kill(rota.process_id("worker"), signal.SIGTERM)
    task = rota.ended(task_id, seconds=40)
    assert (task["status"], task["attempts"]) == ("succeeded", 1)
    assert [attempt["outcome"] for attempt in task["attempt_history"]] == ["released", "succeeded"]
    wait_until(
        lambda: any(one["name"] == "agents" and one["status"] == "alive" for one in rota.http.get("/v1/workers").json())
    )
