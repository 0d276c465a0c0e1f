"""Model servers for the contract suite."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from agents.llm.base import Reply, Request, UserMessage
from agents.llm.models import Models
from core.model_providers import PROVIDERS, ProviderName
from core.settings import Settings
from embedded.rehearsal.server import make_app
from tests.support.models import Parrot, all_at
from tests.support.servers import serving
from tests.support.tools import FRONT_DESK

MODELS: dict[ProviderName, str] = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}


@dataclass
class Line:
    """One provider in one manner of asking: `complete` or `stream`."""

    provider: ProviderName
    manner: str
    models: Models

    def ask(self, **changes: Any) -> Reply:
        """The reply to the standard request, with changes."""
        request = self.request(**changes)
        if self.manner == "complete":
            return self.models.complete(self.provider, request)
        last = list(self.models.stream(self.provider, request))[-1]
        assert isinstance(last, Reply)
        return last

    def request(self, fault: str = "", **changes: Any) -> Request:
        """The standard request; `fault` is ordered through the model's name."""
        model = MODELS[self.provider] + (";" + fault.replace(" ", ";") if fault else "")
        values: dict[str, Any] = {
            "model": model,
            "system": "You help. It is now Friday 2026-11-20 10:00 (Europe/Madrid).",
            "messages": [UserMessage(text="Can you book Ana Torres into Thursday's spin class?")],
            "tools": [tool.spec for tool in FRONT_DESK],
        }
        return Request.model_validate(values | changes)


@pytest.fixture(scope="session")
def rehearsal() -> Iterator[str]:
    """A rehearsal server."""
    with serving(make_app()) as url:
        yield url


@pytest.fixture(params=list(PROVIDERS))
def provider(request: pytest.FixtureRequest) -> ProviderName:
    """Each provider in turn."""
    name: ProviderName = request.param
    return name


@pytest.fixture(params=["complete", "stream"])
def line(request: pytest.FixtureRequest, provider: ProviderName, rehearsal: str) -> Iterator[Line]:
    """Each provider in each manner, talking to the rehearsal server."""
    models = Models(Settings(rehearsal_url=rehearsal))
    yield Line(provider, request.param, models)
    models.close()


@pytest.fixture(scope="session")
def _aviary() -> Iterator[tuple[Parrot, str]]:
    bird = Parrot()
    with serving(bird.app()) as url:
        yield bird, url


@pytest.fixture
def parrot(_aviary: tuple[Parrot, str]) -> tuple[Parrot, str]:
    """A server that says what it is given, and its URL."""
    bird, _ = _aviary
    bird.answers, bird.asked, bird.bodies = [], [], []
    return _aviary


MakeLine = Callable[[ProviderName, str, str], Line]


@pytest.fixture
def line_to() -> Iterator[MakeLine]:
    """Makes lines to a server of one's own, for a provider and a manner."""
    made: list[Models] = []

    def make(provider: ProviderName, manner: str, url: str) -> Line:
        made.append(Models(all_at(url, provider_headers={"x-tenant": "t1"})))
        return Line(provider, manner, made[-1])

    yield make
    for models in made:
        models.close()
