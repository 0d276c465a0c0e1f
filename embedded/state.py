"""Where a running `rota up` can be found: one file in its data folder, and a pointer to it in the user's home."""

import contextlib
import json
import os
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, Field

from core.settings import load_settings, settings
from embedded.processes import write_secret

_FILE = "up.json"


class Running(BaseModel):
    """What a running `rota up` says of itself. `database` is the URL of the application's role."""

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
    """What stands in the file: how to reach it, whose it is, and how its processes are configured."""

    running: Running
    pid: int
    started_at: float
    environment: dict[str, str]
    children: dict[str, tuple[int, float]] = {}

    @property
    def is_alive(self) -> bool:
        """Whether the supervisor that wrote it still runs."""
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started_at) < 1
        except psutil.NoSuchProcess:
            return False


_PROVIDERS = ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL")


def is_shared(name: str) -> bool:
    """Whether a variable of the environment belongs to an installation, and to every process of it alike."""
    return name.startswith("ROTA_") or name in {"DATABASE_URL", "REDIS_URL", *_PROVIDERS}


def join_running(configured_by: str = "database_url") -> StateFile | None:
    """Where no database is configured (or another setting, `configured_by`), take over the environment of the `rota up`
    that runs here: its servers and its providers, so that all its processes call the same models.
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
    """Write the file, for its owner's eyes only."""
    write_secret(data / _FILE, state.model_dump_json(indent=2))


def point_to(data: Path) -> None:
    """Leave a pointer in the user's home, so that the CLI finds the installation from any folder."""
    pointer = _pointer()
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(json.dumps({"data": str(data.resolve())}))
    except OSError:
        return  # a home that cannot be written to only means that the CLI looks near the folder it is in


def read_state(data: Path) -> StateFile | None:
    """The state in the data folder, None where there is none."""
    try:
        path = data / _FILE
        if path.stat().st_uid != os.geteuid():
            return None  # somebody else's, who would choose our servers
        return StateFile.model_validate_json(path.read_text())
    except (OSError, ValueError):
        return None


def clear_state(data: Path) -> None:
    """Forget what ran."""
    (data / _FILE).unlink(missing_ok=True)


def find_running(start: Path) -> StateFile | None:
    """The living `rota up` nearest to the folder `start`: in `.rota` there or in a folder above, else the last one."""
    candidates = [folder / ".rota" for folder in (start, *start.parents)]
    with contextlib.suppress(OSError, ValueError, KeyError):
        candidates.append(Path(json.loads(_pointer().read_text())["data"]))
    for data in candidates:
        state = read_state(data)
        if state is not None and state.is_alive:
            return state
    return None


def _pointer() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "rota" / "running.json"
