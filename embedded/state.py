"""The state of a running `rota up`: one file in its data folder, and a pointer to that folder in the user's home."""

import contextlib
import json
import os
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, Field

from core.model_providers import ADDRESS_VARIABLES, KEY_VARIABLES
from core.settings import load_settings, settings
from embedded.processes import write_secret

_FILE = "up.json"


class Running(BaseModel):
    """What a running `rota up` reports about itself. `database` is the URL of the application's role."""

    event: Literal["ready"] = "ready"
    api: str
    api_key: str
    flower: str
    flower_auth: str
    database: str
    redis: str
    model: Literal["rehearsal", "live"]
    data: str
    starts_per_minute: int
    moved: list[str] = Field(default=[], exclude=True, description="for the banner: what is not at its usual port, why")


class StateFile(BaseModel):
    """The contents of the file: how to reach the installation, its supervisor, and the environment of its processes."""

    running: Running
    pid: int
    started_at: float
    environment: dict[str, str]
    children: dict[str, tuple[int, float]] = {}

    @property
    def is_alive(self) -> bool:
        """Whether the supervisor that wrote the file still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started_at) < 1
        except psutil.NoSuchProcess:
            return False


_PROVIDERS = (*KEY_VARIABLES, *ADDRESS_VARIABLES)


def is_shared(name: str) -> bool:
    """Whether an environment variable configures the installation, and so applies to all its processes."""
    return name.startswith("ROTA_") or name in {"DATABASE_URL", "REDIS_URL", *_PROVIDERS}


def join_running(configured_by: str = "database_url") -> StateFile | None:
    """Adopt the environment of the `rota up` that runs here, unless a database or the setting `configured_by` is
    configured: its servers and its providers, so that all processes call the same models. Return its state; None if
    nothing was adopted.
    """
    if not load_settings().model_fields_set.isdisjoint({"database_url", configured_by}):
        return None
    state = find_running(Path.cwd())
    if state is not None:
        for name in (name for name in _PROVIDERS if name not in state.environment):
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in state.environment.items() if is_shared(name)})
        settings.cache_clear()
    return state


def write_state(data: Path, state: StateFile) -> None:
    """Write the state file, readable only by its owner."""
    write_secret(data / _FILE, state.model_dump_json(indent=2))


def point_to(data: Path) -> None:
    """Leave a pointer in the user's home, so that the CLI finds the installation from any folder."""
    pointer = _pointer()
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(json.dumps({"data": str(data.resolve())}))
    except OSError:
        return  # without the pointer, the CLI searches only the current folder and those above it


def read_state(data: Path) -> StateFile | None:
    """Return the state in the data folder; None if there is none."""
    try:
        path = data / _FILE
        if path.stat().st_uid != os.geteuid():
            return None  # another user's file could point us to that user's servers
        return StateFile.model_validate_json(path.read_text())
    except (OSError, ValueError):
        return None


def clear_state(data: Path) -> None:
    """Delete the state file."""
    (data / _FILE).unlink(missing_ok=True)


def find_running(start: Path) -> StateFile | None:
    """Return the running `rota up` nearest to the folder `start`: in `.rota` there or in a folder above, else the one
    that the pointer names.
    """
    candidates = [folder / ".rota" for folder in (start, *start.parents)]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        candidates.append(Path(json.loads(_pointer().read_text())["data"]))
    for data in candidates:
        state = read_state(data)
        if state is not None and state.is_alive:
            return state
    return None


def _pointer() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "rota" / "running.json"
