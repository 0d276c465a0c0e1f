"""The base class of all our Celery tasks: whatever a task raises, Celery gets its slot back."""

from typing import Any

from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # younger than its stubs
from celery import Task

from core.text import described


class BrokenOff(Exception):
    """A task raised a `BaseException` that is not an `Exception`, such as `SystemExit`."""


class ContainedTask(Task):  # type: ignore[type-arg]  # generic in the type stubs alone
    """A task that raises only subclasses of `Exception`.

    Celery's thread pool counts a slot as free when the task returns or raises an `Exception`. After `SystemExit` or
    `CancelledError` the message is never acknowledged, and the slot is lost until the process ends.
    """

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        try:
            return self.run(*args, **kwargs)
        except Exception:
            raise
        except BaseException as error:
            raise BrokenOff(described(error)) from error
        finally:
            if terminate_handler_fired():  # the prefork child was told to exit: the code above may have swallowed that
                raise SystemExit
