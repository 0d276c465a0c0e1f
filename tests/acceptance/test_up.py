"""Starting, stopping, being killed, and starting again."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.settings import ROOT
from embedded.environments import SECRETS
from embedded.processes import free_port
from tests.support.installation import Installation, installation
from tests.support.servers import postgres, valkey, wait_until


def test_data_stay_over_a_stop_and_over_being_killed(home: Path) -> None:
    with installation(home / "again") as rota:
        task = rota.ended(rota.submit("What's on today?"))
        pids = rota.all_process_ids()
        assert rota.stop(signal.SIGINT) < 15
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
        first_key = rota.ready["api_key"]

        rota.start()
        assert rota.ready["api_key"] == first_key
        assert rota.task(task["id"])["status"] == "succeeded"

        rota.director.expect("hang", match="(killed)")
        task_id = rota.submit("hello (killed)")
        wait_until(lambda: rota.task(task_id)["status"] == "running", what="the task runs")
        pids = rota.all_process_ids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        rota.stop()
        rota.start()
        assert rota.ended(task_id, seconds=40)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api", {"DATABASE_URL", "ROTA_SYSTEM_DATABASE_URL", "REDIS_URL", "ROTA_SECRET_KEY"}),
        ("dispatcher", {"ROTA_SYSTEM_DATABASE_URL", "REDIS_URL"}),
        # The vault's keys are derived from the secret key here, so who opens the vault has it.
        ("worker", {"DATABASE_URL", "ROTA_SYSTEM_DATABASE_URL", "REDIS_URL", "ROTA_SECRET_KEY"}),
        ("worker-system", {"DATABASE_URL", "ROTA_SYSTEM_DATABASE_URL", "REDIS_URL", "ROTA_SECRET_KEY"}),
        ("beat", {"REDIS_URL"}),
        ("flower", {"REDIS_URL", "ROTA_FLOWER_AUTH"}),
        ("rehearsal", set()),
    ],
)
def test_each_process_holds_the_secrets_that_it_needs(rota: Installation, name: str, expected: set[str]) -> None:
    held = psutil.Process(rota.process_id(name)).environ()
    assert held.keys() & SECRETS == expected


def test_a_second_start_on_the_same_data_is_refused(rota: Installation) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "cli.main", "up", "--data", str(rota.data), "--port", "0"],
        cwd=ROOT, env=rota.environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "already" in second.stderr
    assert rota.http.get("/health").status_code == 200


def test_servers_of_ones_own_are_used_when_they_are_named(home: Path) -> None:
    with postgres(home / "own-pg") as server, valkey(home / "own-valkey", port=free_port()) as broker:
        environment = {"DATABASE_URL": server.url("postgres"), "REDIS_URL": broker.url()}
        with installation(home / "own", environment) as rota:
            assert rota.ready["redis"] == broker.url()
            assert rota.ended(rota.submit("What's on today?"))["status"] == "succeeded"
            assert not (rota.data / "postgres").exists()


def test_several_worker_processes_share_the_work_under_one_name(home: Path) -> None:
    with installation(home / "two", None, "--workers", "2", "--concurrency", "3") as rota:
        there = wait_until(lambda: agents_workers(rota, 2), what="both are there")
        assert [worker["concurrency"] for worker in there] == [3, 3]
        for task_id in [rota.submit(f"What's on today? {number}") for number in range(12)]:
            assert rota.ended(task_id)["status"] == "succeeded"
        os.kill(there[0]["pid"], signal.SIGKILL)
        wait_until(
            lambda: there[0]["pid"] not in {one["pid"] for one in agents_workers(rota, 2)}, what="it is replaced"
        )


def test_a_port_that_is_taken_is_moved_and_said(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with installation(home / "moved", None, "--port", str(port), "--no-demonstration") as rota:
            assert not rota.ready["api"].endswith(f":{port}")
            said = (rota.data / "up.log").read_text()
            where = rota.ready["api"].rpartition(":")[2]
            assert f"port {port} is taken: api is at {where}" in said


def is_replaced(rota: Installation, pid: int) -> bool:
    alive = agents_workers(rota, 2)
    return bool(alive) and pid not in {worker["pid"] for worker in alive}


def agents_workers(rota: Installation, number: int) -> list[dict[str, Any]]:
    """The agents' workers that are alive, where they are so many."""
    found = [one for one in rota.http.get("/v1/workers").json() if one["name"] == "agents" and one["status"] == "alive"]
    return found if len(found) == number else []


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DATABASE_URL": "mysql://nowhere"}, "postgresql://"),
        ({"ROTA_QUEUE_BOUND": "none"}, "queue_bound"),
    ],
)
def test_a_wrong_setting_is_told_in_words(home: Path, environment: dict[str, str], said: str) -> None:
    data = home / "wrong"
    made = Installation(data, environment)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--port", "0"],
        cwd=ROOT, env=made.environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
