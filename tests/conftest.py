"""What every kind of test may use. Settings come from the tests alone, never from the machine they run on."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

for _name in list(os.environ):
    if _name.startswith(("ROTA_", "OPENAI_", "ANTHROPIC_")) or _name in {"DATABASE_URL", "REDIS_URL"}:
        del os.environ[_name]
os.environ["ROTA_CONFIG"] = os.devnull
os.environ["NO_PROXY"] = "*"


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's unprivileged user can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="rota-test-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path
