"""How tasks, their journals, failures and queues are shown."""

import json
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from cli.layout import Column, Listing, below, shorten
from cli.terminal import MESSAGE, escape, facts_table, moment, money, plain_table, seconds_between, status

_GIST = 120  # characters
_STAGES = {"perceive": "blue", "decide": "magenta", "act": "cyan", "learn": "green"}
_BAR = 20
_TASK = (
    Column("id", "id"), Column("agent", rank=2), Column("status", rank=1), Column("priority", rank=4),
    Column("attempts", rank=6), Column("took", rank=5), Column("cost", rank=7), Column("message", "line", rank=3),
)  # fmt: skip


def task_table(tasks: list[dict[str, Any]]) -> RenderableType:
    """Return a table of tasks."""
    rows = []
    for task in tasks:
        took = seconds_between(task["started_at"], task["finished_at"])
        rows.append(
            (
                task["id"],
                task["agent"],
                status(task["status"]),
                task["priority"],
                f"{task['attempts']}/{task['max_attempts']}",
                "" if took is None else f"{took:.1f} s",
                money(task["billed_cost"]),
                escape(shorten(str(task["input"]["message"]), MESSAGE)),
            )
        )
    return Listing(_TASK, rows)


def task_detail(task: dict[str, Any]) -> RenderableType:
    """Return one task: facts, a waterfall of its steps, its attempts, its answer."""
    facts = facts_table()
    facts.add_row("task", task["id"])
    facts.add_row("agent", f"{task['agent']}   [dim]priority[/] {task['priority']}")
    waiting = f" for {task['waiting_for']}" if task["waiting_for"] else ""
    facts.add_row("status", f"{status(task['status'])}{waiting}   [dim]attempts counted[/] {task['attempts']}")
    if task.get("why"):
        facts.add_row("why", escape(task["why"]))
    if task.get("next"):
        facts.add_row("next", f"[bold]{escape(task['next'])}[/]")
    facts.add_row("message", escape(str(task["input"]["message"])))
    facts.add_row("created", f"{moment(task['created_at'])}   [dim]ended[/] {moment(task['finished_at']) or '-'}")
    tokens = f"{task['input_tokens']} in, {task['output_tokens']} out"
    calls = f"{task['model_calls']} model call{'' if task['model_calls'] == 1 else 's'}"
    facts.add_row(
        "cost",
        f"{money(task['billed_cost'])} for {calls} ({tokens} tokens){_marks(task['steps'])}",
    )
    for call in task.get("open_calls") or ():
        facts.add_row("open call", escape(f"{call['call_id']}\n{call['tool']} {json.dumps(call['arguments'])}"))
    for one in task.get("feedback") or ():
        facts.add_row("feedback", escape(f"{one['rating']}  {one['comment']}"))
    if task["error"]:
        facts.add_row("error", f"[red]{task['error']['kind']}[/] {escape(task['error']['message'])}")
    parts: list[RenderableType] = [facts, Text(), waterfall(task["steps"])]
    for step in task["steps"]:
        if step["status"] == "unknown":
            parts += [Text(), _in_doubt(task["id"], step)]
    if len(task["attempt_history"]) > 1 or task["error"]:
        parts += [Text(), _attempts(task["attempt_history"])]
    if task["result"]:
        parts += [Text(), answer_panel(task["result"])]
    return Group(*parts)


def _marks(steps: list[dict[str, Any]]) -> str:
    """Return remarks on a task's cost: estimated tokens, models without a price."""
    given = [step["input"] for step in steps if step["stage"] == "decide"]
    unpriced = sorted({one["model"] for one in given if one.get("is_unpriced")})
    marks = "   [yellow]some tokens are estimated[/]" if any(one.get("is_estimated") for one in given) else ""
    return marks + (f"   [yellow]unpriced, billed at 0: {escape(', '.join(unpriced))}[/]" if unpriced else "")


def answer_panel(result: dict[str, Any]) -> RenderableType:
    """Return the panel of an answer, which says so if the answer was cut off at the limit of output tokens."""
    is_cut = result.get("is_truncated")
    return Panel(
        escape(result["answer"]),
        title="answer, truncated at the limit of output tokens" if is_cut else "answer",
        subtitle="raise the agent's limit max_output_tokens" if is_cut else None,
        border_style="yellow" if is_cut else "green",
    )


def _in_doubt(task_id: str, step: dict[str, Any]) -> RenderableType:
    """Return a panel that shows an action in doubt, and how to record its outcome."""
    asked = "\n".join(f"  {name} = {value}" for name, value in step["input"].items() if not name.startswith("_"))
    return Panel(
        escape(
            f"{step['name']} started at {moment(step['started_at'])}, and its outcome was not recorded:\n{asked}\n\n"
            f"Find out whether it happened, then record it:\n"
            f"  rota settle {task_id} {step['seq']} --happened\n  rota settle {task_id} {step['seq']} --do-again"
        ),
        title="outcome unknown",
        border_style="yellow",
    )


def waterfall(steps: list[dict[str, Any]]) -> RenderableType:
    """Return the steps with bars that show when each began and how long it took."""
    if not steps:
        return Text("No steps recorded yet.", style="dim")
    begin = min(datetime.fromisoformat(step["started_at"]).timestamp() for step in steps)
    end = max(datetime.fromisoformat(s["started_at"]).timestamp() + s["duration_ms"] / 1000 for s in steps)
    scale = _BAR / max(end - begin, 0.001)
    rows = []
    for step in steps:
        start = datetime.fromisoformat(step["started_at"]).timestamp() - begin
        bar = " " * min(_BAR - 1, int(start * scale)) + "█" * max(1, round(step["duration_ms"] / 1000 * scale))
        colour = {"failed": "red", "unknown": "yellow"}.get(step["status"]) or _STAGES[step["stage"]]
        tokens = step["input_tokens"] + step["output_tokens"]
        rows.append(
            (
                str(step["seq"]),
                f"[{colour}]{step['stage']}[/]",
                escape(step["name"]),
                f"[{colour}]{bar[:_BAR]}[/]",
                str(step["duration_ms"]),
                str(tokens) if tokens else "",
                money(step["billed_cost"]) if step["model"] else "",
                escape(_whole_or_short(step)),
            )
        )
    return Listing(_STEP, rows)


_STEP = (
    Column("#", "id", is_right=True), Column("stage", rank=1), Column("step", rank=2),
    Column("bar", rank=5, title=""), Column("ms", rank=4, is_right=True), Column("tokens", rank=7, is_right=True),
    Column("cost", rank=6, is_right=True), Column("what", "text", rank=3),
)  # fmt: skip


def _whole_or_short(step: dict[str, Any]) -> str:
    """Return what a step did, shortened; the reason of a failure is shown whole."""
    gist = _gist(step)
    return " ".join(gist.split()) if step["status"] == "failed" else shorten(gist, _GIST)


def _gist(step: dict[str, Any]) -> str:
    """Return what a step did, in a few words."""
    output = step["output"]
    if step["status"] in {"begun", "unknown"}:
        return "running" if step["status"] == "begun" else "outcome unknown"
    if step["status"] == "failed" and "settled" in output:
        return "settled: to be repeated"
    if step["status"] == "failed":
        return f"{output['error']['kind']}: {output['error']['message']}"
    if step["stage"] == "decide":
        actions = ", ".join(action["tool"] for action in output["actions"])
        sure = f" ({output['confidence']:.0%} sure)" if output["confidence"] is not None else ""
        return f"→ {actions}{sure}" if actions else f"answers{' (truncated)' if output.get('is_truncated') else ''}"
    if step["stage"] == "act":
        arguments = given({name: value for name, value in step["input"].items() if not name.startswith("_")})
        said = "ok" if output["ok"] else "suggested" if output.get("suggested") else "refused"
        return f"{said}  {arguments}"
    return ""


_ATTEMPT = (
    Column("attempt", "id"), Column("worker", "text", rank=5), Column("began", rank=3), Column("took", rank=4),
    Column("outcome", rank=1), Column("counted", rank=6), Column("error", "text", rank=2),
)  # fmt: skip


def _attempts(attempts: list[dict[str, Any]]) -> RenderableType:
    rows = []
    for number, attempt in enumerate(attempts, start=1):
        error = attempt["error"]
        took = seconds_between(attempt["started_at"], attempt["ended_at"])
        rows.append(
            (
                str(number),
                escape(attempt["worker"]),
                moment(attempt["started_at"]),
                f"{took:.1f} s",
                attempt["outcome"] or "running",
                {True: "yes", False: "no", None: ""}[attempt["counted"]],
                escape(f"{error['kind']}: {error['message']}") if error else "",
            )
        )
    return Listing(_ATTEMPT, rows)


_FAILURE = (
    Column("tasks", rank=1), Column("fingerprint", "id"), Column("kind", rank=2), Column("last", rank=4),
    Column("agents", "text", rank=5), Column("message", "text", rank=3), Column("example", rank=6),
)  # fmt: skip


def failure_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of errors and how many tasks failed with each."""
    if not rows:
        return Text("No failed tasks.", style="dim")
    table = Listing(
        _FAILURE,
        [
            (
                str(row["tasks"]),
                row["fingerprint"] or "",
                f"[red]{escape(row['kind'] or '')}[/]",
                moment(row["last_at"]),
                escape(", ".join(row["agents"])),
                escape(" ".join((row["message"] or "").split())),
                str(row["examples"][0]),
            )
            for row in rows
        ],
    )
    return below(table, "To retry them: rota retry --status failed --fingerprint …")


def given(arguments: dict[str, Any]) -> str:
    """Return arguments as text; between a name and an id the line can be wrapped."""
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


_QUEUE = [
    Column("priority", "id"), *(Column(name, rank=rank, is_right=True) for name, rank in (
        ("queued", 1), ("scheduled", 5), ("parked", 6), ("published", 9), ("running", 2), ("waiting", 3),
        ("oldest_seconds", 7), ("ended_per_minute", 8), ("wait_p50", 11), ("wait_p95", 10), ("run_p50", 13),
        ("run_p95", 12))), Column("paused", rank=4),
]  # fmt: skip


def queue_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of the state of each queue."""
    return plain_table(rows, _QUEUE)
