"""A tool's code is foreign wherever it is called: to run it, to weigh it, to read its parameters, to describe it."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pydantic import ConfigDict, field_validator
from sqlalchemy.exc import DBAPIError

from agents.tools.registry import NotDone, Parameters, Stake, Tool, ToolFailed
from core.errors import Conflict, InvalidInput, NotFound, NotPermitted
from core.text import described
from domain.wallet.schemas import InsufficientFunds
from workers.retry import failure_of

ENDS = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, StopIteration, ZeroDivisionError]


class Plain(Parameters):
    """No parameters."""


def made(run: Callable[..., Any] = lambda *_: {}, parameters: type[Parameters] = Plain, **more: Any) -> Tool:
    facts: dict[str, Any] = {"category": "crm", "description": "", "permission": "x:y"}
    return Tool(name="alien", parameters=parameters, run=run, **facts, **more)


def raising(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("kind", ENDS)
def test_running_and_weighing_are_guarded(kind: type[BaseException]) -> None:
    tool = made(raising(kind), stake=raising(kind))
    for call in (lambda: tool.run(None, None), lambda: tool.at_stake(Parameters.model_construct())):
        with pytest.raises(ToolFailed, match=rf"The tool alien failed: {kind.__name__}"):
            call()


@pytest.mark.parametrize("kind", [*ENDS[:-1], NotImplementedError])
def test_reading_the_parameters_is_guarded(kind: type[BaseException]) -> None:
    class Odd(Parameters):
        number: int

        @field_validator("number")
        @classmethod
        def _refuse(cls, _: int) -> int:
            raise kind

    with pytest.raises(ToolFailed, match=kind.__name__):
        made(parameters=Odd).validate({"number": 1})
    with pytest.raises(InvalidInput, match="number"):
        made(parameters=Odd).validate({"number": "one"})


def test_describing_is_guarded() -> None:
    class Undescribed(Parameters):
        model_config = ConfigDict(json_schema_extra=raising(SystemExit))

    with pytest.raises(ToolFailed, match="SystemExit"):
        _ = made(parameters=Undescribed).spec


@pytest.mark.parametrize("kind", [InvalidInput, NotFound, Conflict, NotPermitted, NotDone])
def test_what_a_tool_may_say_is_heard(kind: type[Exception]) -> None:
    for is_outward in (True, False):
        with pytest.raises(kind, match="said"):
            made(raising(kind("said")), is_outward=is_outward).run(None, None)


def test_money_and_the_database_are_the_business_of_tools_on_our_own_records_alone() -> None:
    refused = DBAPIError(None, None, psycopg.errors.CheckViolation("no"))
    for error in (InsufficientFunds(), refused):
        with pytest.raises(type(error)):
            made(raising(error)).run(None, None)
        with pytest.raises(ToolFailed):
            made(raising(error), is_outward=True).run(None, None)
    assert failure_of(refused).message == "CheckViolation: no in the tool alien"


def test_stakes_are_as_declared() -> None:
    assert made(stake=lambda _: Stake(recipients=("a",))).at_stake(Parameters.model_construct()) == Stake(
        recipients=("a",)
    )


def test_an_exception_that_cannot_be_printed_is_described_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    assert described(Mute()) == "Mute: (its message cannot be read: KeyboardInterrupt)"
    assert described(ValueError("half \udce9")) == "ValueError: half \ufffd"
    assert len(described(ValueError("x" * 9999))) == 500
