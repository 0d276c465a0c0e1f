"""One installation for the tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import Installation, installation


@pytest.fixture(scope="session")
def rota(home: Path) -> Iterator[Installation]:
    """A whole Rota in real processes."""
    with installation(home / "rota") as made:
        yield made
