"""A Celery task that raises what is no error: Celery is told of a failure, and frees the slot."""

import asyncio
from typing import Any

import pytest
from celery import Celery

from workers.contained import ContainedTask
from workers.pool import ElasticThreadPool

app = Celery("test", task_cls=ContainedTask, set_as_current=False)
app.conf.task_eager_propagates = False


@app.task
def fail(kind: type[BaseException]) -> None:
    raise kind("why")


@app.task
def answer() -> int:
    return 42


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, ValueError])
def test_celery_sees_an_ordinary_failure(kind: type[BaseException]) -> None:
    done: Any = fail.apply((kind,))
    assert done.state == "FAILURE"
    assert "why" in str(done.result)


def test_what_returns_returns() -> None:
    assert answer.apply().result == 42


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, ValueError])
def test_the_pool_calls_back_so_that_the_slot_is_free(kind: type[BaseException]) -> None:
    pool: Any = ElasticThreadPool(limit=1)
    called: list[Any] = []
    pool.start()
    pool.apply_async(fail.apply, ((kind,),), callback=called.append, accept_callback=lambda *_: None).wait(10)
    pool.stop()
    assert [one.state for one in called] == ["FAILURE"]
