"""JavaScript clients: the official packages of `tests/javascript`, run by the Node.js of the test tools."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.settings import ROOT
from tests.support.servers import wait_until

_FOLDER = ROOT / "tests" / "javascript"
_NODE = Path(sys.executable).parent / "node"


def start(script: str, **arguments: Any) -> "subprocess.Popen[str]":
    """A running script, which is given its arguments as JSON."""
    assert (_FOLDER / "node_modules").is_dir(), "the JavaScript packages are not installed: run `make test-setup` first"
    command = [str(_NODE), str(_FOLDER / script), json.dumps(arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=_FOLDER, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run(script: str, **arguments: Any) -> Any:
    """What a script prints last, as JSON."""
    with start(script, **arguments) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


class Node:
    """A client of Socket.IO in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._heard: list[tuple[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, data = json.loads(line)
            self._heard.append((name, data))

    def _say(self, command: str, *given: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, given]) + "\n")
        self._process.stdin.flush()

    def call(self, name: str, data: Any) -> Any:
        """The acknowledgement of an event."""
        before = len(self.named("ack"))
        self._say("emit", name, data)
        wait_until(lambda: len(self.named("ack")) > before, what=f"{name} is acknowledged")
        return self.named("ack")[before]

    def tell(self, name: str, data: Any) -> None:
        """Send an event, and want no acknowledgement."""
        self._say("tell", name, data)

    def named(self, name: str) -> list[Any]:
        """What has come under a name; events have `on:` before theirs."""
        return [data for heard, data in [*self._heard] if heard == name]

    def until(self, name: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """What is told under a name, once it is."""
        found: list[Any] = wait_until(
            lambda: [data for data in self.named(name) if fits(data)], what=f"{name}: {self._heard}"
        )
        return found[0]


@contextlib.contextmanager
def node(url: str, key: str | None, namespace: str = "/events", **options: Any) -> Iterator[Node]:
    """The official client, in a namespace, with a key."""
    given = {"transports": ["websocket"], "auth": {"token": key} if key else {}} | options
    process = start("socketio.mjs", url=url + namespace, options=given)
    assert process.stdin is not None
    try:
        yield Node(process)
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
