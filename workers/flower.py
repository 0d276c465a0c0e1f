"""What Flower shows of an agent's task: how to see all of it, in place of the ids that the message carries."""

from typing import Any

from tornado.options import options


def show_as_commands() -> None:
    """Have Flower show each task's command."""
    import flower.options  # noqa: F401, PLC0415  defines the option; only the process that is Flower needs it

    options.format_task = with_command


def with_command(task: Any) -> Any:
    """A task of Flower's with the command that shows it in Rota. Its Celery id is the task's, a dot, and the claim."""
    task_id, dot, claim = str(task.uuid).rpartition(".")
    if dot and claim.isdecimal():
        task.args = f"rota show {task_id}"
    return task
