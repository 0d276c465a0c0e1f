"""What Chat Completions and Responses have in common: content in parts, tools of the caller, parts of an answer."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from api.openai_wire.files import FILES
from core.errors import InvalidInput
from domain.tasks.client_calls import ClientCall, client_calls
from domain.tasks.schemas import ClientTool, Step, TaskDetail

T = TypeVar("T")
_TEXTS = {"text", "input_text", "output_text"}
_TOOL_CHOICES = {None, "auto", "none"}


def text_of(content: str | Sequence[dict[str, Any]] | None, field: str, *, or_files: bool = False) -> str:
    """Return the text of a message's content.

    Raises:
        InvalidInput: it has parts that are not text, nor files where they are taken.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if other := {str(part.get("type")) for part in content} - _TEXTS - (FILES if or_files else set()):
        raise InvalidInput(f"{field}: parts of the type {', '.join(sorted(other))} are not taken; send text.")
    return "".join(str(part.get("text", "")) for part in content if part.get("type") in _TEXTS)


def validated(make: Callable[[], T], field: str) -> T:
    """Return what `make` makes.

    Raises:
        InvalidInput: instead of a ValidationError, with the field that the caller knows.
    """
    try:
        return make()
    except ValidationError as error:
        raise InvalidInput(f"{field}: " + "; ".join(one["msg"] for one in error.errors()[:5])) from error


def tools_of(functions: Sequence[dict[str, Any]], choice: Any) -> list[ClientTool] | None:
    """Return the tools that the caller brings, each given as a function with name, description and parameters.

    Raises:
        InvalidInput: a tool is not valid, or the agent is to be forced to call one.
    """
    if choice not in _TOOL_CHOICES:
        raise InvalidInput("tool_choice: the agent decides which tools it calls; auto and none are taken.")
    if not functions or choice == "none":
        return None
    return validated(lambda: [_tool(one) for one in functions], "tools")


def _tool(function: dict[str, Any]) -> ClientTool:
    given = {name: function.get(name) for name in ("name", "description", "parameters")}
    return ClientTool.model_validate({name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Spoken:
    """What a model said in one step."""

    step: int
    claim: int
    attempt: int
    text: str
    is_whole: bool = True
    """False if it was stopped, or failed for good, while it was being said"""


@dataclass(frozen=True)
class Segment:
    """The steps of a task that make one answer on this wire: up to its end, or up to a decision that calls tools of the
    caller, whose results begin the next segment.
    """

    first: int
    """the first step"""
    claim: int
    """the claim in which it begins, where no step before it says more"""
    spoken: list[Spoken]
    calls: list[ClientCall]
    """the calls of the caller's tools with which it ends"""
    is_closed: bool
    """whether nothing more comes"""
    next: int | None
    """the first step of the next segment, if there is to be one"""
    input_tokens: int
    output_tokens: int


def segments(task: TaskDetail, given: Collection[int]) -> list[Segment]:
    """Return the segments of a task in order, the last of which may be empty. `given` are the steps of the calls whose
    results were given. Pure.
    """
    calls = client_calls(task.id, task.input, task.steps)
    found: list[Segment] = []
    first, claim, steps = 0, 1, list[Step]()
    for step in task.steps:
        if step.stage != "decide":
            continue
        steps.append(step)
        theirs = [call for call in calls if call.decision == step.seq] if step.status == "done" else []
        if not theirs:
            continue
        is_closed = bool(task.open_calls) or any(call.is_done or call.seq in given for call in theirs)
        after = step.seq + 1 + len(step.output["message"]["tool_calls"])
        found.append(_segment(first, claim, steps, theirs, is_closed=is_closed or task.has_ended, next_one=after))
        first, claim, steps = after, step.claim + 1, []
    if not found or (found[-1].is_closed and not task.open_calls):
        found.append(_segment(first, claim, steps, [], is_closed=task.has_ended, next_one=None))
    return found


def _spoken(steps: Sequence[Step]) -> list[Spoken]:
    """Return what was said in these decisions: of one that failed, only if nothing came after it."""
    said = []
    for step in steps:
        is_whole = step.status == "done"
        text = step.output["message"]["text"] if is_whole else step.output.get("text")
        if text and (is_whole or step is steps[-1]):
            said.append(Spoken(step.seq, step.claim, step.input.get("attempt") or 1, text, is_whole))
    return said


def _segment(
    first: int, claim: int, steps: Sequence[Step], calls: list[ClientCall], *, is_closed: bool, next_one: int | None
) -> Segment:
    return Segment(
        first,
        claim,
        _spoken(steps),
        calls,
        is_closed,
        next_one,
        sum(step.input_tokens for step in steps),
        sum(step.output_tokens for step in steps),
    )
