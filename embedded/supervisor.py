"""A process supervisor: children are started, watched, restarted with back-off, and stopped in order."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pwd import struct_passwd

import psutil

from core.clock import Stopwatch
from core.errors import Misconfigured
from embedded.processes import spawn

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_TOO_OFTEN = 3
_HEALTHY_AFTER, _SETTLED_AFTER = 20.0, 4.0
_LOG_TAIL = 2_000
# The exit status of a process that cannot start as configured (EX_CONFIG of sysexits.h): a restart would not help.
CANNOT_START = 78


@dataclass
class Child:
    """A process to keep running. `command` and `environment` are called at each start."""

    name: str
    command: Callable[[], list[str]]
    environment: Callable[[], Mapping[str, str]]
    user: struct_passwd | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    is_server: bool = False  # other children need it, so it is stopped last
    process: subprocess.Popen[bytes] | None = None
    started: Stopwatch = field(default_factory=Stopwatch)
    pause: float = _FIRST_PAUSE
    resume_at: float = 0.0
    deaths: int = 0
    has_given_up: bool = False

    @property
    def is_running(self) -> bool:
        """Whether the process is running."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Runs a few children with one log file each. Single-threaded: the caller calls `watch()` repeatedly."""

    def __init__(self, logs: Path, say: Callable[[str], None]) -> None:
        self._logs = logs
        self._say = say
        self._children: list[Child] = []
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self, child: Child) -> None:
        """Start a child; `watch` restarts it from now on."""
        self._children.append(child)
        self._spawn(child)

    def watch(self) -> None:
        """Check all children once, and restart those that ended, with a growing pause if they keep ending."""
        for child in self._children:
            if child.is_running:
                if child.started.elapsed().total_seconds() > _HEALTHY_AFTER:
                    child.pause = _FIRST_PAUSE
            elif child.process is not None:
                self._take_note_of_end(child, child.process)
            elif time.monotonic() >= child.resume_at and not child.has_given_up:
                self._spawn(child)

    def _take_note_of_end(self, child: Child, process: "subprocess.Popen[bytes]") -> None:
        child.process = None
        child.deaths += 1
        if process.returncode == CANNOT_START:
            child.has_given_up = True
            self._say(f"{child.name} cannot start and is not tried again; mend this, then start rota up anew:")
            self._say(self.last_words(child.name))
            return
        if process.returncode == 0 and child.started.elapsed().total_seconds() > _SETTLED_AFTER:
            child.pause = _FIRST_PAUSE  # an orderly exit, to be replaced by a new process
        self._say(f"{child.name} ended ({_ending(process)}); starting it again in {child.pause:g} s")
        child.resume_at = time.monotonic() + child.pause
        child.pause = min(_LONGEST_PAUSE, 2 * child.pause)

    def ensure_can_start(self, name: str) -> None:
        """Check that waiting for a child makes sense.

        Raises:
            Misconfigured: the child cannot start, or ended repeatedly; the message quotes its log.
        """
        child = next(child for child in self._children if child.name == name)
        if child.has_given_up:
            raise Misconfigured(f"{name} cannot start. {self.last_words(name)}")
        if child.deaths >= _TOO_OFTEN:
            raise Misconfigured(
                f"{name} does not start; it ended {child.deaths} times. Its log ends:\n{self.log_tail(name)}"
            )

    def stop(self, *, grace: float, for_servers: float) -> None:
        """Stop the children within `grace` seconds, of which the last `for_servers` are reserved for the servers. Kill
        those that do not stop in time.
        """
        end = time.monotonic() + grace
        servers = [child for child in self._children if child.is_server]
        others = [child for child in self._children if not child.is_server]
        for group, deadline in ((others, end - for_servers), (servers, end)):
            for child in group:
                if child.is_running and child.process is not None:
                    child.process.send_signal(child.stop_signal)
            for child in group:
                self._await_end(child, deadline)

    def processes(self) -> dict[str, tuple[int, float]]:
        """Return each child's process id and start time (Unix seconds)."""
        found: dict[str, tuple[int, float]] = {}
        for child in self._children:
            if child.process is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[child.name] = (child.process.pid, psutil.Process(child.process.pid).create_time())
        return found

    def log_tail(self, name: str) -> str:
        """Return the end of a child's log."""
        with contextlib.suppress(OSError):
            return (self._logs / f"{name}.log").read_text(errors="replace")[-_LOG_TAIL:]
        return ""

    def last_words(self, name: str) -> str:
        """Return the last message in a child's log that begins with `rota: `, to the end of the log; without one, the
        last line.
        """
        lines = self.log_tail(name).rstrip().split("\n")
        begin = max((n for n, line in enumerate(lines) if line.startswith("rota: ")), default=len(lines) - 1)
        return "\n".join(lines[begin:]).removeprefix("rota: ")

    def _spawn(self, child: Child) -> None:
        command = child.command()
        with (self._logs / f"{child.name}.log").open("ab") as log:
            try:
                child.process = spawn(
                    command, env=child.environment(), log=log, user=child.user, parting_signal=child.stop_signal
                )
            except OSError as error:
                raise Misconfigured(f"{command[0]} does not start: {error.strerror}.") from error
        child.started = Stopwatch()

    def _await_end(self, child: Child, deadline: float) -> None:
        if child.process is None:
            return
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._say(f"{child.name} did not stop in time and was ended")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            child.process.wait()


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
