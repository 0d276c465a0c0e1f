"""The registry of periodic duties, and what Celery makes of it."""

from datetime import timedelta

import pytest

from beat_schedule import BEAT_SCHEDULE
from core.duties import for_each, in_batches
from core.errors import Conflict
from workers import queues
from workers.app import RUN_TASK, app
from workers.contained import ContainedTask
from workers.duties import DUTIES


def test_each_duty_has_a_name_of_its_own_and_a_function_of_that_name() -> None:
    assert len({duty.name for duty in DUTIES}) == len(DUTIES)
    for duty in DUTIES:
        assert duty.run.__name__ == duty.name.replace("-", "_")
        assert duty.run.__doc__
        assert duty.every >= timedelta(seconds=1)


def test_beat_names_only_tasks_that_a_worker_knows() -> None:
    assert set(BEAT_SCHEDULE) == {duty.name for duty in DUTIES}
    assert app.conf.beat_schedule == BEAT_SCHEDULE
    for duty in DUTIES:
        entry = BEAT_SCHEDULE[duty.name]
        assert app.tasks[entry["task"]].run == duty.run
        assert entry["options"] == {"queue": queues.SYSTEM, "expires": duty.every.total_seconds()}
        assert entry["schedule"].run_every == duty.every


def test_a_duty_gives_its_slot_back_and_is_no_event_for_flower() -> None:
    for duty in DUTIES:
        task = app.tasks[duty.task]
        assert isinstance(task, ContainedTask)
        assert not task.send_events
    assert app.tasks[RUN_TASK].send_events


def test_a_failure_for_one_item_does_not_block_the_rest() -> None:
    def handle(item: int) -> int:
        if item == 2:
            raise Conflict("taken")
        return 10 * item

    assert for_each([1, 2, 3], "not handled", handle) == [10, 30]


def test_an_error_of_ours_in_the_code_ends_the_duty() -> None:
    with pytest.raises(ZeroDivisionError):
        for_each([1], "not handled", lambda item: item // 0)


def test_batches_go_on_until_one_is_empty() -> None:
    left = [100, 100, 7, 0, 5]
    assert in_batches("done", lambda: left.pop(0)) == 207
    assert left == [5]
