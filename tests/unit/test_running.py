"""What `rota up` leaves behind and relies on: its state file, ports, secret files, and children that end."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core.errors import Misconfigured, Unavailable
from embedded import processes, state
from embedded.supervisor import CANNOT_START, Child, Supervisor
from tests.support.servers import wait_until


def running(data: Path, *, pid: int | None = None, age: float = 0) -> state.StateFile:
    """The state of an installation whose supervisor is this process, or another."""
    here = pid or os.getpid()
    return state.StateFile(
        running=state.Running(
            api="http://127.0.0.1:1", api_key="k", flower="", flower_auth="", database="", redis="",
            model="rehearsal", data=str(data), starts_per_minute=1,
        ),
        pid=here, started_at=psutil.Process(here).create_time() - age, environment={"ROTA_SECRET_KEY": "s"},
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, without a pointer to an installation."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def put(folder: Path, written: state.StateFile) -> Path:
    folder.mkdir(parents=True)
    state.write_state(folder, written)
    return folder


def test_the_nearest_installation_is_found_from_a_folder_below_it(home: Path) -> None:
    below = home / "a" / "b"
    below.mkdir(parents=True)
    assert state.find_running(below) is None
    far = put(home / ".rota", running(home))
    found = state.find_running(below)
    assert found is not None
    assert found.running.data == str(home)
    near = put(home / "a" / ".rota", running(home / "a"))
    found = state.find_running(below)
    assert found is not None
    assert found.running.data == str(home / "a")
    state.clear_state(near)
    state.clear_state(far)
    state.clear_state(far)  # a second time does nothing
    assert state.find_running(below) is None


def test_an_installation_elsewhere_is_found_by_the_pointer(home: Path) -> None:
    data = put(home / "elsewhere", running(home / "elsewhere"))
    state.point_to(data)
    found = state.find_running(home)
    assert found is not None
    assert found.running.data == str(data)


@pytest.mark.parametrize("pointer", ["", "[]", "{}", '{"data": 5}', '{"data": "/nowhere"}', "null"])
def test_a_damaged_pointer_points_nowhere(home: Path, pointer: str) -> None:
    file = home / "state" / "rota" / "running.json"
    file.parent.mkdir(parents=True)
    file.write_text(pointer)
    assert state.find_running(home) is None


def test_a_pointer_that_cannot_be_written_is_left_out(home: Path) -> None:
    (home / "state").write_text("a file where the folder should be")
    state.point_to(home)
    assert state.find_running(home) is None


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"pid": 1}'])
def test_a_damaged_state_is_none(home: Path, text: str) -> None:
    (home / "up.json").write_text(text)
    assert state.read_state(home) is None


def test_a_process_that_took_the_supervisors_id_is_not_the_supervisor(home: Path) -> None:
    put(home / ".rota", running(home, age=60))
    assert state.find_running(home) is None


def test_the_state_is_readable_by_its_owner_alone_and_written_whole(home: Path) -> None:
    data = put(home / ".rota", running(home))
    assert stat.S_IMODE((data / "up.json").stat().st_mode) == 0o600
    assert [file.name for file in data.iterdir()] == ["up.json"]
    assert state.read_state(data) == running(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_state_that_another_user_wrote_is_not_trusted(home: Path) -> None:
    data = put(home / ".rota", running(home))
    os.chown(data / "up.json", 65534, 65534)
    assert state.read_state(data) is None


@pytest.mark.parametrize(
    ("name", "is_shared"),
    [("ROTA_LOG_LEVEL", True), ("DATABASE_URL", True), ("OPENAI_API_KEY", True), ("PATH", False), ("HOME", False)],
)
def test_only_variables_that_configure_rota_are_shared(name: str, is_shared: bool) -> None:
    assert state.is_shared(name) is is_shared


# ── ports, secrets, processes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_replaced_and_none_is_given_twice(taken: int) -> None:
    assert not processes.is_port_free(taken)
    given: set[int] = set()
    ports = [processes.preferred_port(taken, given), *(processes.preferred_port(0, given) for _ in range(5))]
    assert taken not in ports
    assert len(set(ports)) == 6
    assert given == set(ports)
    free = processes.free_port()
    assert processes.preferred_port(free, set()) == free
    assert processes.preferred_port(free, {free}) != free


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_a_server_that_could_not_listen_is_refused_with_its_address(taken: int, host: str) -> None:
    with pytest.raises(Unavailable, match=f"No server can listen at {host}:{taken}: .* choose another --port"):
        processes.ensure_can_listen(host, taken)
    processes.ensure_can_listen("127.0.0.1", processes.free_port())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"password": "x"}'])
def test_damaged_secrets_are_refused_by_the_name_of_their_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secrets.json"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=r"secrets\.json cannot be read"):
        processes.read_secrets(file, ["password", "key"])


def test_secrets_are_replaced_whole_and_stay_private(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    for password in ("first", "second"):
        processes.write_secret(file, json.dumps({"password": password, "more": 1}))
        assert processes.read_secrets(file, ["password"]) == {"password": password}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_process_that_reused_the_id_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        begun = psutil.Process(process.pid).create_time()
        assert not processes.end_process(process.pid, started_at=begun - 60)
        assert process.poll() is None
        assert processes.end_process(process.pid, started_at=begun)
        assert not psutil.pid_exists(process.pid)
    assert not processes.end_process(process.pid, started_at=begun)


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Watched:
    """A supervisor of one child, a shell script, and what it said."""

    def __init__(self, logs: Path, script: str) -> None:
        self.said: list[str] = []
        self.supervisor = Supervisor(logs, self.said.append)
        self.child = Child("worker", lambda: ["/bin/sh", "-c", script], dict)
        self.supervisor.start(self.child)

    def watch_until_said(self, count: int) -> None:
        def is_said() -> bool:
            self.supervisor.watch()
            return len(self.said) >= count

        wait_until(is_said, what="the end of the child is noticed")


def test_a_child_that_ends_is_started_again_after_a_growing_pause(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "logs", "echo hello; exit 3")
    watched.watch_until_said(2)
    assert watched.said == [
        "worker ended (exit 3); starting it again in 0.5 s",
        "worker ended (exit 3); starting it again in 1 s",
    ]
    assert watched.supervisor.log_tail("worker") == "hello\nhello\n"
    watched.supervisor.ensure_can_start("worker")  # twice may be bad luck
    watched.child.deaths = 3
    with pytest.raises(Misconfigured, match=r"(?s)worker does not start; it ended 3 times.*hello"):
        watched.supervisor.ensure_can_start("worker")


def test_a_child_that_cannot_start_as_configured_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "logs", f"echo noise; echo 'rota: no key'; echo 'set one'; exit {CANNOT_START}")
    watched.watch_until_said(2)
    watched.supervisor.watch()
    assert not watched.child.is_running
    assert watched.said[-1] == "no key\nset one"
    with pytest.raises(Misconfigured, match=r"worker cannot start\. no key"):
        watched.supervisor.ensure_can_start("worker")


def test_a_child_that_a_signal_ended_names_the_signal(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "logs", "kill -KILL $$")
    watched.watch_until_said(1)
    assert watched.said == ["worker ended (SIGKILL); starting it again in 0.5 s"]


def test_a_child_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "logs", "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    wait_until(lambda: "deaf" in watched.supervisor.log_tail("worker"))
    found = watched.supervisor.processes()["worker"]
    watched.supervisor.stop(grace=0.2, for_servers=0)
    assert watched.said == ["worker did not stop in time and was ended"]
    assert not psutil.pid_exists(found[0])


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "logs", lambda _: None)
    with pytest.raises(Misconfigured, match=r"/nowhere/program does not start: No such file"):
        supervisor.start(Child("worker", lambda: ["/nowhere/program"], dict))
