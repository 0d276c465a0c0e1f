"""What every kind of test may use. Settings come from the tests alone, never from the machine they run on."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from core.model_providers import PROVIDERS

# A busy machine is slow, and no test says how fast the code must be.
hypothesis.settings.register_profile("rota", deadline=None)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=5_000)
hypothesis.settings.load_profile("rota")

for _name in list(os.environ):
    if _name.startswith(("ROTA_", *(f"{name.upper()}_" for name in PROVIDERS))) or _name in {
        "DATABASE_URL",
        "REDIS_URL",
    }:
        del os.environ[_name]
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored, and every process that a test starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["ROTA_CONFIG"] = os.devnull
os.environ["NO_PROXY"] = "*"
os.environ["ROTA_PRIVATE_NETWORKS"] = '["127.0.0.0/8"]'  # the servers that tests start
os.environ["ROTA_TOOLS"] = '["tests.support.outward:TOOLS", "tests.support.outward:OWN_TOOLS"]'


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's unprivileged user can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="rota-test-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


@pytest.fixture
def told_to_stop() -> Iterator[list[int]]:
    """The times this process was told to stop, instead of stopping."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)
