"""Foreign code may raise anything, in any thread: a counted, named failure, and the worker goes on."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
import structlog

from agents.interrupt import Stopped
from agents.llm.models import Models
from agents.work import Parked
from core.errors import Unavailable
from core.logging import configure_logging
from core.settings import Settings
from domain.claims.service import ClaimLost
from tests.support.desk import Desk
from tests.support.factories import change_agent, submit
from tests.support.models import Parrot, asking, saying
from tests.support.outward import OWN_TOOLS, TOOLS, outside
from tests.support.servers import serving


class Mute(Exception):
    """An exception that cannot even be printed."""

    def __str__(self) -> str:
        raise SystemExit(4)


RAISED: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    KeyboardInterrupt,
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    GeneratorExit,
    StopIteration,
    lambda: BaseExceptionGroup("several", [SystemExit(1)]),
    lambda: ValueError("plain"),
    lambda: ValueError("half \udce9"),
    Mute,
    RecursionError,
    # Ours, raised by code that has no business to: none of them may be taken for what it means elsewhere.
    ClaimLost,
    lambda: Stopped("claim_lost"),
    lambda: Stopped("draining"),
    lambda: Parked("approval"),
    lambda: Unavailable("some other server"),
]
NAMES = [type(make()).__name__ for make in RAISED]


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Logs as a worker writes them: they print the exception, which is foreign code too."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure_logging(secrets=())
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.fixture
def bird() -> Parrot:
    return Parrot()


@pytest.fixture
def desk(org: UUID, bird: Parrot) -> Iterator[Desk]:
    outside.__init__()  # type: ignore[misc]  # the same object, as new: the tools hold on to it
    tools = [tool.name for tool in (*TOOLS, *OWN_TOOLS)]
    retry = {"base": 0.001, "max_attempts": 2}
    change_agent(org, "support-assistant", model="gpt-4o-mini", fallback_model=None, tools=tools, retry=retry)
    with serving(bird.app()) as url:
        made = Desk(Models(Settings(openai_base_url=f"{url}/v1")))
        yield made
        made.close()
    outside.__init__()  # type: ignore[misc]


def raising(make: Callable[[], BaseException]) -> Callable[[str], None]:
    def fail(_: str) -> None:
        raise make()

    return fail


@pytest.mark.parametrize("calls", [1, 2], ids=["the task's own thread", "helper threads"])
@pytest.mark.parametrize("tool", ["light_lamp", "look_around", "tidy_up"])
@pytest.mark.parametrize("make", RAISED, ids=NAMES)
def test_whatever_a_tool_raises_is_a_counted_failure_that_names_it(
    org: UUID, desk: Desk, bird: Parrot, make: Callable[[], BaseException], tool: str, calls: int
) -> None:
    bird.answers = [asking(*[(tool, "{}")] * calls)]
    outside.then = raising(make)
    task = desk.run(org, submit(org).id)
    assert (task.status, task.attempts, task.error.kind) == ("queued", 1, "tool_failed")
    task = desk.run(org, task.id, number=1)
    assert (task.status, task.attempts, task.error.kind) == ("failed", 2, "tool_failed")
    assert tool in task.error.message
    assert type(make()).__name__ in task.error.message
    assert desk.presence.in_hand() == []

    outside.then = lambda _: None
    bird.answers = [asking(*[(tool, "{}")] * calls), saying("done")]
    assert desk.run(org, submit(org).id).status == "succeeded"


@pytest.mark.parametrize("make", RAISED, ids=NAMES)
def test_where_repeating_does_harm_a_person_is_asked(
    org: UUID, desk: Desk, bird: Parrot, make: Callable[[], BaseException]
) -> None:
    bird.answers = [asking(("ring_bell", "{}"))]
    outside.then = raising(make)
    task = desk.run(org, submit(org).id)
    assert (task.status, task.waiting_for, task.attempts) == ("waiting", "outcome", 1)
    assert "ring_bell" in task.error.message
