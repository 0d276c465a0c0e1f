"""Helpers for processes, ports and secret files, for everything that starts a process."""

import contextlib
import ctypes
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from core.errors import Misconfigured, Unavailable

_PR_SET_PDEATHSIG = 1
_OUTSIDE_EPHEMERAL = range(20_000, 32_000)


def free_port() -> int:
    """Return a free TCP port of the loopback interface. It lies below the ephemeral range, so that no outgoing
    connection takes it before the server binds it.
    """
    for port in random.sample(_OUTSIDE_EPHEMERAL, k=50):
        if is_port_free(port):
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_port_free(port: int) -> bool:
    """Whether `port` can be bound on the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def ensure_can_listen(host: str, port: int) -> None:
    """Check that a server could listen at `host` and `port` now.

    Raises:
        Unavailable: the port is taken, or the address is not one of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise Unavailable(
            f"No server can listen at {host}:{port}: {error.strerror}. Stop what is there, or choose another --port."
        ) from error


def preferred_port(wanted: int, taken: set[int]) -> int:
    """Return `wanted` if it is free, otherwise any free port; 0 asks for any. Adds the port to `taken`."""
    port = wanted if wanted and wanted not in taken and is_port_free(wanted) else free_port()
    while port in taken:
        port = free_port()
    taken.add(port)
    return port


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    log: IO[bytes],
    user: pwd.struct_passwd | None = None,
    parting_signal: signal.Signals | None = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start `command` in its own session and process group. On Linux it gets `parting_signal` when this process dies.

    Linux ties that signal to the calling thread, not to the process. A caller with several threads passes None, which
    leaves it off.
    """
    return subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        preexec_fn=_die_with_parent(parting_signal) if parting_signal else None,  # noqa: PLW1509  the supervisor is single-threaded when it forks
    )


def _die_with_parent(parting_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork, where loading is safe

    def leash() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(parting_signal))

    return leash


def end_process(pid: int, *, started_at: float, patience: float = 5) -> bool:
    """End the process `pid` if it is the one that started at `started_at` (Unix seconds). Return whether it existed."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started_at) > 1:
            return False  # the process id was reused
        process.terminate()
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(patience)
    except psutil.NoSuchProcess:
        return False
    return True


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user for servers that refuse to run as root: `rota` if it exists, else `nobody`. None if this process
    does not run as root.
    """
    if os.geteuid() != 0:
        return None
    for name in ("rota", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Misconfigured("started as root, but there is neither a user `rota` nor `nobody` to run PostgreSQL as")


def is_reachable_by_others(path: Path) -> bool:
    """Whether any user may enter every folder above `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents if parent.exists())


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read. The write is atomic."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(path)


def read_secrets(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the secrets with these names from a file of ours.

    Raises:
        Misconfigured: the file is damaged, or of another version.
    """
    try:
        found = json.loads(path.read_text())
        return {name: str(found[name]) for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(
            f"{path} cannot be read: it is damaged, or was written by another version of Rota. Choose another folder "
            "with --data, or restore it from a backup; without it the data beside it cannot be opened."
        ) from error


def remove_tree(path: Path) -> None:
    """Remove a folder and everything in it, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
