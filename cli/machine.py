"""Commands about the running installation: its address and key, its state, its logs."""

import shlex
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import terminal
from cli.client import Api, fail
from cli.options import JsonOption
from embedded.state import find_running

_DEFAULT_DATA = Path(".rota")
_LOOK_EVERY = 0.3
_TAIL_BYTES = 2_000_000
_MOST_APPROVALS = 200


def env(as_json: JsonOption = False) -> None:
    """Print the API's URL and key for a shell: eval "$(rota env)"."""
    api = Api.find()
    found = {"ROTA_API_URL": api.url, "ROTA_API_KEY": api.key}
    if as_json:
        terminal.out.print_json(data=found)
        return
    for name, value in found.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def status(as_json: JsonOption = False) -> None:
    """Show the state of API, workers, tasks, approvals and pauses, and the problems found."""
    api = Api.find()
    health = api.get("/health/detailed")
    queues, paused = api.get("/v1/queues"), api.look("/v1/pauses") or []
    waiting = (api.look("/v1/approvals", status="open", limit=_MOST_APPROVALS) or {"approvals": []})["approvals"]
    if as_json:
        said = {"api": api.url, "health": health, "queues": queues, "pauses": paused, "open_approvals": len(waiting)}
        terminal.out.print_json(data=said)
    else:
        terminal.out.print(terminal.facts(_summary(api.url, health, queues, paused, waiting)))
    raise typer.Exit(0 if health["status"] == "ok" else 1)


def _summary(
    url: str,
    health: dict[str, Any],
    queues: list[dict[str, Any]],
    paused: list[dict[str, Any]],
    waiting: list[dict[str, Any]],
) -> dict[str, str]:
    workers = [f"{one['workers']} {one['status']}" for one in health["workers"]] or ["none"]
    counts = {name: sum(one[name] for one in queues) for name in ("queued", "running", "waiting", "scheduled")}
    many = f"{len(waiting)}{' or more' if len(waiting) >= _MOST_APPROVALS else ''}"
    facts = {
        "API": f"{url}: {health['status']}",
        "model": health["model"],
        "workers": ", ".join(workers),
        "tasks": ", ".join(f"{count} {name}" for name, count in counts.items()),
        "approvals": f"{many} open: rota approvals" if waiting else "none open",
    }
    if paused:
        named = ", ".join(f"{one['kind']} {one['name']}".strip() for one in paused)
        facts["paused"] = f"{named}: rota resume …"
    if health["problems"]:
        facts["problems"] = "\n".join(health["problems"])
    return facts


def logs(
    process: Annotated[str | None, typer.Argument(help="A process, such as worker or api; default: all.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Number of lines per process.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print new lines until Ctrl-C.")] = False,
    data: Annotated[Path | None, typer.Option(help="Data folder; default: that of the running `rota up`.")] = None,
) -> None:
    """Print the logs of the processes of `rota up`."""
    folder = (data or _data_folder()) / "logs"
    files = sorted(folder.glob("*.log"))
    if not files:
        fail(f"There are no logs in {folder}. `rota up` writes them; give its data folder with --data.")
    chosen = [file for file in files if process in (None, file.stem)]
    if not chosen:
        fail(f"There is no process {process!r}. There are: {', '.join(file.stem for file in files)}.")
    width = max(len(file.stem) for file in chosen)
    places = {file: _print_tail(file, lines, width) for file in chosen}
    while follow:
        for file in chosen:
            places[file] = _print_new(file, places[file], width)
        time.sleep(_LOOK_EVERY)


def _data_folder() -> Path:
    state = find_running(Path.cwd())
    return Path(state.running.data) if state else _DEFAULT_DATA


def _print_tail(file: Path, lines: int, width: int) -> int:
    """Print the end of a log, and return the position up to which it was read."""
    with file.open("rb") as log:
        size = log.seek(0, 2)
        log.seek(max(0, size - _TAIL_BYTES))
        for line in deque(log, maxlen=lines):
            _print_line(file.stem, line, width)
        return log.tell()


def _print_new(file: Path, place: int, width: int) -> int:
    """Print the complete lines after `place`, and return the new position. A truncated log is read from its start."""
    with file.open("rb") as log:
        log.seek(0 if log.seek(0, 2) < place else place)
        for line in log:
            if not line.endswith(b"\n"):
                return log.tell() - len(line)
            _print_line(file.stem, line, width)
        return log.tell()


def _print_line(name: str, line: bytes, width: int) -> None:
    typer.echo(f"{name:<{width}}  {line.decode(errors='replace').rstrip()}")
