"""What Flower shows of an agent's task: the command that shows it in Rota, instead of the ids in the message."""

from typing import Any

from tornado.options import options


def show_as_commands() -> None:
    """Make Flower show the command of each task."""
    import flower.options  # noqa: F401, PLC0415  defines the option; only Flower's process needs it

    options.format_task = with_command


def with_command(task: Any) -> Any:
    """Set the arguments of a Flower task to the command that shows it in Rota, and return it. The Celery id is the
    task's id, a dot, and the claim number.
    """
    task_id, dot, claim = str(task.uuid).rpartition(".")
    if dot and claim.isdecimal():
        task.args = f"rota show {task_id}"
    return task
