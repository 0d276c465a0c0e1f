"""Wait for tasks to end, and say why a task waits and what to type. After Ctrl-C say that the task goes on."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import typer
from rich.progress import Progress

from cli import terminal
from cli.client import Api, chunks, fail, say

ENDED = {"succeeded", "failed", "cancelled", "expired"}
INTERRUPTED = 130
_POLL_FIRST, _POLL_LONGEST, _POLL_MANY = 0.1, 1.0, 0.3
_TELL_AFTER = 2.0  # seconds; shorter waits are not reported
_PAGE = 200


@dataclass(frozen=True)
class Reason:
    """Why a task is not done yet, and what the user can type about it."""

    word: str | None
    why: str
    command: str | None = None


@dataclass(frozen=True)
class Surroundings:
    """What a suggested command may have to name: the organisation, open approvals of the task, pauses."""

    organisation: str = ""
    approvals: Sequence[str] = ()
    pauses: Sequence[tuple[str, str]] = ()


def command_for(word: str | None, task: Mapping[str, Any], around: Surroundings) -> str | None:
    """Return what to type about a task that waits for `word`, or None if the user can only wait."""
    if word == "outcome":
        doubtful = [step["seq"] for step in task.get("steps", []) if step["status"] == "unknown"]
        return f"rota settle {task['id']} {doubtful[0] if doubtful else 'STEP'} --happened   (or --do-again)"
    if word in {"approval", "advice"}:
        one = around.approvals[0] if around.approvals else None
        return f"rota approvals show {one}   (then approve or reject it)" if one else "rota approvals"
    if word == "client_tools":
        calls = task.get("open_calls")
        return f"rota give-result {calls[0]['call_id']} RESULT" if calls else f"rota show {task['id']}"
    if word == "paused":
        return _resume(task, around.pauses)
    fixed = {
        "funds": "rota wallet top-up 1000",
        "budget": "rota budgets",
        "rate": f"rota limits organisation {around.organisation} --per-minute 1000",
        "organisation": f"rota limits organisation {around.organisation} --in-flight 1000",
        "agent": f"rota agents edit {task['agent']} --max-in-flight 100",
        "provider": "rota limits provider",
        "provider_rate": "rota limits provider",
        "worker": "rota workers",
    }
    return fixed.get(word or "")


def _resume(task: Mapping[str, Any], pauses: Sequence[tuple[str, str]]) -> str:
    for kind, name in (("organisation", ""), ("queue", task["priority"]), ("agent", task["agent"])):
        if (kind, name) in pauses:
            return f"rota resume {kind} {name}".rstrip()
    return "rota limits"


def reason(api: Api, task: Mapping[str, Any]) -> Reason:
    """Return why a task is not done yet, and what to type about it. Asks the API for what the command has to name."""
    found = api.get(f"/v1/tasks/{task['id']}/why")
    word = found["waiting_for"]
    around = Surroundings()
    if word in {"approval", "advice"}:
        waiting = (api.look("/v1/approvals", task=task["id"]) or {"approvals": []})["approvals"]
        around = Surroundings(approvals=[one["id"] for one in waiting])
    elif word == "paused":
        around = Surroundings(pauses=[(one["kind"], one["name"]) for one in api.look("/v1/pauses") or []])
    elif word in {"rate", "organisation"}:
        around = Surroundings(
            organisation=(api.look("/v1/me") or {"organisation": {"slug": "SLUG"}})["organisation"]["slug"]
        )
    return Reason(word, found["why"], command_for(word, task, around))


class _Teller:
    """Says why a task waits: once for each reason, and only if the reason lasts."""

    def __init__(self) -> None:
        self._word: str | None = None
        self._since = time.monotonic()
        self._is_told = False

    def hear(self, task: Mapping[str, Any], found: Reason) -> None:
        """Record the present reason, and print it if it has lasted long enough."""
        word = found.word or task["status"]
        if word != self._word:
            self._word, self._since, self._is_told = word, time.monotonic(), False
        lasts = task["status"] == "waiting" or time.monotonic() - self._since > _TELL_AFTER
        if lasts and not self._is_told and found.word is not None:
            self._is_told = True
            say(f"{task['id']} waits: {found.why}" + (f"\n  → {found.command}" if found.command else ""))


def until_ended(api: Api, task_id: str, timeout: float) -> None:
    """Wait until a task has ended, and say why it waits. Exits after `timeout` seconds or on Ctrl-C."""
    deadline, pause, teller = time.monotonic() + timeout, _POLL_FIRST, _Teller()
    with _goes_on([task_id]), terminal.out.status("waiting for the agent") as spinner:
        while time.monotonic() < deadline:
            task = api.get(f"/v1/tasks/{task_id}")
            if task["status"] in ENDED:
                return
            done = task["steps"][-1]["stage"] if task["steps"] else "no step yet"
            spinner.update(f"{task['status']}: {done}")
            if task["status"] != "running":
                teller.hear(task, reason(api, task))
            time.sleep(pause)
            pause = min(_POLL_LONGEST, pause * 1.3)
    fail(f"Not ended after {timeout:g} s; the task continues. See: rota show {task_id}")


def until_all_ended(api: Api, ids: list[str], timeout: float, progress: Progress) -> list[dict[str, Any]]:
    """Wait until all tasks have ended, and return them. Says why the oldest of them waits."""
    line = progress.add_task("ended", total=len(ids), extra="")
    ended: dict[str, dict[str, Any]] = {}
    open_ids, started, teller = list(ids), time.monotonic(), _Teller()
    with _goes_on(open_ids):
        while True:
            found = look(api, open_ids)
            ended |= {task["id"]: task for task in found if task["status"] in ENDED}
            open_ids[:] = [task_id for task_id in ids if task_id not in ended]
            elapsed = time.monotonic() - started
            failed = sum(task["status"] != "succeeded" for task in ended.values())
            money = terminal.money(sum((cost(task) for task in ended.values()), start=Decimal(0)))
            extra = f"{len(ended) / elapsed:.1f}/s  failed {failed}  {money}"
            progress.update(line, completed=len(ended), extra=extra)
            if not open_ids:
                return [ended[task_id] for task_id in ids]
            if elapsed > timeout:
                break
            waiting = [task for task in found if task["status"] in {"queued", "waiting"}]
            if waiting:
                teller.hear(waiting[-1], reason(api, waiting[-1]))
            time.sleep(_POLL_MANY)
    return fail(f"{len(open_ids)} of {len(ids)} tasks not ended after {timeout:g} s; they continue. See: rota tasks")


def look(api: Api, ids: list[str]) -> list[dict[str, Any]]:
    """Return the tasks with these ids, in their present state."""
    return [task for some in chunks(ids, _PAGE) for task in api.get("/v1/tasks", id=some, limit=_PAGE)["tasks"]]


def cost(task: Mapping[str, Any]) -> Decimal:
    """Return what was billed for a task."""
    return Decimal(task["billed_cost"])


@contextlib.contextmanager
def _goes_on(open_ids: list[str]) -> Iterator[None]:
    """Context in which Ctrl-C, or an API that stops answering, ends the wait with a message that the tasks go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        say(f"Stopped waiting. {_how_to_look(open_ids)}")
        raise typer.Exit(INTERRUPTED) from interrupt
    except typer.Exit:
        say(_how_to_look(open_ids))
        raise


def _how_to_look(open_ids: list[str]) -> str:
    if len(open_ids) == 1:
        one = open_ids[0]
        return f"The task continues: {one}\n  show it:   rota show {one}\n  cancel it: rota cancel {one}"
    first = f"; the first is {open_ids[0]}" if open_ids else ""
    return f"{len(open_ids)} tasks continue{first}\n  list them: rota tasks --status queued --status running"


@contextlib.contextmanager
def uncertain(accepted: Sequence[str] = ()) -> Iterator[None]:
    """Context in which tasks are submitted. After Ctrl-C it says that more tasks may have been accepted."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        done = f"{len(accepted)} tasks were accepted and continue. " if accepted else ""
        say(f"Interrupted while submitting. {done}More may have been accepted. See: rota tasks")
        raise typer.Exit(INTERRUPTED) from interrupt
