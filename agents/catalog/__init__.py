"""Ready-made agents, one YAML file each."""

from pathlib import Path

import yaml

from domain.agents.schemas import AgentFields

_HERE = Path(__file__).parent


def load_catalogue() -> list[AgentFields]:
    """The ready-made agents, by slug (which is the file's name)."""
    return [
        AgentFields.model_validate({"slug": path.stem, **yaml.safe_load(path.read_text(encoding="utf-8"))})
        for path in sorted(_HERE.glob("*.yaml"))
    ]
