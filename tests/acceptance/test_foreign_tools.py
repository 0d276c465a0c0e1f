"""Tools of somebody else's, in a real worker with two slots: whatever they raise, the slots come back; and however many
calls a decision asks for, another task's go on; and bulk leaves a slot to what is urgent.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import Installation, installation
from tests.support.models import Actor
from tests.support.servers import serving, wait_until


@pytest.fixture(scope="module")
def rota(home: Path) -> Iterator[Installation]:
    with serving(Actor().app()) as url:
        environment = {
            "OPENAI_API_KEY": "none-needed",
            "OPENAI_BASE_URL": f"{url}/v1",
            "ROTA_TOOLS": '["tests.support.foreign:TOOLS"]',
        }
        with installation(home / "foreign", environment, "--concurrency", "2", "--no-demonstration") as made:
            agent = {
                "slug": "alien", "name": "Alien", "role": "x", "description": "x", "system_prompt": "x",
                "model": "gpt-4o-mini", "tools": ["blow_up", "take_time"], "retry": {"max_attempts": 2, "base": 0.01},
            }  # fmt: skip
            assert made.http.post("/v1/agents", json=agent).status_code == 201
            yield made


def play(rota: Installation, *turns: list[tuple[str, str]], **more: Any) -> str:
    return rota.submit(json.dumps(turns), agent="alien", **more)


def blow_up(kind: str) -> tuple[str, str]:
    return "blow_up", json.dumps({"kind": kind})


@pytest.mark.parametrize("calls", [1, 2], ids=["the task's own thread", "helper threads"])
@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "CancelledError", "GeneratorExit"])
def test_slots_are_free_again_and_the_failure_is_counted_and_named(rota: Installation, kind: str, calls: int) -> None:
    broken = [play(rota, [blow_up(kind)] * calls) for _ in range(4)]
    for task_id in broken:
        task: dict[str, Any] = rota.ended(task_id)
        assert (task["status"], task["attempts"], task["error"]["kind"]) == ("failed", 2, "tool_failed")
        assert f"The tool blow_up failed: {kind}" in task["error"]["message"]
    assert rota.ended(play(rota, [("take_time", '{"seconds": 0}')]))["status"] == "succeeded"
    assert [task["outcome"] for task in rota.task(broken[0])["attempt_history"]] == ["retry", "failed"]


def take_time(seconds: float) -> tuple[str, str]:
    return "take_time", json.dumps({"seconds": seconds})


def test_three_hundred_calls_of_one_decision_do_not_keep_anothers_two_waiting(rota: Installation) -> None:
    many = play(rota, [take_time(2)] * 300)
    wait_until(lambda: rota.task(many)["status"] == "running" and rota.task(many)["steps"], what="it is at work")
    few = rota.ended(play(rota, [take_time(1)] * 2))
    assert few["status"] == "succeeded"
    assert rota.task(many)["status"] == "running"
    acts = [step for step in few["steps"] if step["stage"] == "act"]
    assert [step["output"]["ok"] for step in acts] == [True, True]
    begun = min(step["started_at"] for step in acts)
    ended = max(
        datetime.fromisoformat(step["started_at"]) + timedelta(milliseconds=step["duration_ms"]) for step in acts
    )
    assert ended - datetime.fromisoformat(begun) < timedelta(seconds=2)  # one after the other they take this long

    whole = rota.ended(many, seconds=90)
    assert whole["status"] == "succeeded"
    acts = [step for step in whole["steps"] if step["stage"] == "act"]
    assert [step["output"]["ok"] for step in acts] == [True] * 64 + [False] * 236
    assert "only the first 64 were" in acts[64]["output"]["message"]["content"]


def test_an_urgent_task_starts_while_bulk_is_at_work(rota: Installation) -> None:
    bulk = [play(rota, [take_time(3)], priority="low") for _ in range(4)]
    wait_until(lambda: any(rota.task(task_id)["status"] == "running" for task_id in bulk), what="bulk is at work")
    urgent = rota.ended(play(rota, [take_time(0)], priority="critical"))
    ends = [rota.ended(task_id)["finished_at"] for task_id in bulk]
    assert urgent["status"] == "succeeded"
    assert urgent["finished_at"] < min(ends)
