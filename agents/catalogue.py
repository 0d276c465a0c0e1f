"""The ready-made agents of the packs, one YAML file each."""

from pathlib import Path

import yaml

from core.packs import installed
from domain.agents.schemas import AgentFields


def load_catalogue() -> list[AgentFields]:
    """The ready-made agents, by slug (which is the file's name)."""
    folders = [pack.catalogue for pack in installed() if pack.catalogue is not None]
    return [_read(path) for path in sorted((path for folder in folders for path in folder.glob("*.yaml")), key=_slug)]


def _slug(path: Path) -> str:
    return path.stem


def _read(path: Path) -> AgentFields:
    return AgentFields.model_validate({"slug": _slug(path), **yaml.safe_load(path.read_text(encoding="utf-8"))})
