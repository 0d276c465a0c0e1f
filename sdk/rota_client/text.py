"""Folds what a task's models say into text."""

from typing import Any

from rota_client.models import Event

BETWEEN_STEPS = "\n\n"


class Text:
    """The text of the tasks of a stream, as far as it was said. An agent may say something in each of several steps."""

    def __init__(self) -> None:
        self._said: dict[str, dict[int, str]] = {}
        self._last = ""

    def hear(self, event: Event) -> bool:
        """Take an event, and return whether it changed the text."""
        data = event.data
        if event.type not in {"message.delta", "message.superseded", "decision.made"} or "step" not in data:
            return False
        steps = self._said.setdefault(data["task_id"], {})
        before = steps.get(data["step"], "")
        steps[data["step"]] = _after(event.type, before, data)
        self._last = data["task_id"]
        return steps[data["step"]] != before

    def of(self, task: str | None = None) -> str:
        """Return the text of a task, by its id; without one, of the task that was heard last."""
        steps = self._said.get(task or self._last, {})
        return BETWEEN_STEPS.join(said for _, said in sorted(steps.items()) if said)


def _after(kind: str, before: str, data: dict[str, Any]) -> str:
    """Return a step's text after an event of it."""
    if kind == "message.superseded":
        return ""
    text = str(data.get("text") or "")
    if kind == "decision.made":  # the whole text, if the journal still has it
        return text or before
    return before[: data["offset"]] + text
