"""Formatting of results for a terminal."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cli import layout
from cli.layout import Column, Listing, below, clean, plain, shorten
from core.money import in_words
from embedded.state import Running

# In a pipe or a file, rich would squeeze everything into 80 columns unless COLUMNS is set.
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)

_COLOURS = {
    "succeeded": "green", "running": "cyan", "queued": "blue", "waiting": "yellow", "failed": "red",
    "cancelled": "magenta", "expired": "magenta", "done": "green",
}  # fmt: skip
_STAGES = {"perceive": "blue", "decide": "magenta", "act": "cyan", "learn": "green"}
escape = layout.escape

_LENGTH = TypeAdapter(timedelta)
_BAR = 20
_MESSAGE, _GIST, _ACTION = 60, 120, 160


def banner(running: Running) -> RenderableType:
    """Return the banner of `rota up`. The key is printed below its frame, so that it can be copied in one piece."""
    facts = _facts()
    facts.add_row("API", f"[bold]{running.api}[/]   docs at {running.api}/docs")
    facts.add_row("Flower", f"{running.flower}   [dim]sign in as[/] {running.flower_auth.replace(':', ' / ')}")
    for change in running.moved:
        facts.add_row("[yellow]Moved[/]", f"[yellow]{escape(change)}[/]")
    model = (
        "[yellow]rehearsal[/]: rehearsed answers, not intelligent ones: set ANTHROPIC_API_KEY or OPENAI_API_KEY"
        if running.model == "rehearsal"
        else "[green]live[/]: calls go to the providers you configured, and cost money"
    )
    facts.add_row("Model", model)
    facts.add_row("Rate", f"{running.starts_per_minute} tasks a minute here   [dim]an organisation's default is 100[/]")
    facts.add_row("Data", f"{escape(running.data)}   [dim]logs: rota logs[/]")
    tries = Table.grid(padding=(0, 0))
    for command in (
        'rota submit "Any free places in spin this week?" --agent support --wait',
        "rota submit --file examples/gym_messages.jsonl --agent support --wait",
        "rota status",
        'eval "$(rota env)"',
    ):
        tries.add_row(f"[bold]{escape(command)}[/]")
    return Panel(
        Group(facts, Text(), Text("In a second terminal, after  source .venv/bin/activate", style="dim"), tries),
        title="[bold]Rota is on shift[/]",
        subtitle="[dim]Ctrl-C stops everything; the data stay[/]",
        border_style="green",
        expand=False,
        padding=(1, 2),
    )


def greet(running: Running) -> None:
    """Print the banner of `rota up`, then the key on a line that only the terminal wraps."""
    out.print(banner(running))
    out.print(f"[dim]API key (rota env prints it too):[/]\n{running.api_key}", soft_wrap=True)


def _facts() -> Table:
    """Return an empty grid for names and values."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    return facts


def status(word: str) -> str:
    """Return a status in its colour."""
    return f"[{_COLOURS.get(word, 'white')}]{word}[/]"


def money(amount: str | Decimal) -> str:
    """Format an amount of US dollars."""
    return in_words(Decimal(amount))


def moment(text: str | None) -> str:
    """Return a time in short form, in the local time zone."""
    return datetime.fromisoformat(text).astimezone().strftime("%m-%d %H:%M:%S") if text else ""


def local_time(text: str | None) -> str:
    """Return a time in the local time zone, with its day and zone."""
    return f"{datetime.fromisoformat(text).astimezone():%a %Y-%m-%d %H:%M:%S %Z}" if text else "never"


def length_of_time(text: str) -> str:
    """Return an ISO 8601 duration in short form: -P1DT2H is -1d 2h."""
    length = _LENGTH.validate_python(text)
    minutes = int(abs(length).total_seconds()) // 60
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m")]
    sign = "-" if length < timedelta(0) else ""
    return sign + (" ".join(f"{number}{unit}" for number, unit in parts if number) or "at once")


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Return the seconds from one time to another, or to now."""
    if start is None:
        return None
    finish = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return (finish - datetime.fromisoformat(start)).total_seconds()


_TASK = (
    Column("id", "id"), Column("agent", rank=2), Column("status", rank=1), Column("priority", rank=4),
    Column("tries", rank=6), Column("took", rank=5), Column("cost", rank=7), Column("message", "line", rank=3),
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
                escape(shorten(str(task["input"]["message"]), _MESSAGE)),
            )
        )
    return Listing(_TASK, rows)


def nothing(whole: str, filtered: str, again: str, *wanted: object) -> RenderableType:
    """Return the message for an empty list: `whole` if no filter in `wanted` is set, else that nothing matches, and
    how to see everything.
    """
    return Text(f"{filtered}. All of them: {again}" if any(wanted) else whole, style="dim")


def task_detail(task: dict[str, Any]) -> RenderableType:
    """Return one task: facts, a waterfall of its steps, its attempts, its answer."""
    facts = _facts()
    facts.add_row("task", task["id"])
    facts.add_row("agent", f"{task['agent']}   [dim]priority[/] {task['priority']}")
    waiting = f" for {task['waiting_for']}" if task["waiting_for"] else ""
    facts.add_row("status", f"{status(task['status'])}{waiting}   [dim]tries counted[/] {task['attempts']}")
    if task.get("why"):
        facts.add_row("why", escape(task["why"]))
    if task.get("next"):
        facts.add_row("type", f"[bold]{escape(task['next'])}[/]")
    facts.add_row("asked", escape(str(task["input"]["message"])))
    facts.add_row("created", f"{moment(task['created_at'])}   [dim]ended[/] {moment(task['finished_at']) or '-'}")
    tokens = f"{task['input_tokens']} in, {task['output_tokens']} out"
    facts.add_row(
        "cost",
        f"{money(task['billed_cost'])} for {task['model_calls']} model calls ({tokens} tokens){_marks(task['steps'])}",
    )
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
        title="answer, cut off at the limit of output tokens" if is_cut else "answer",
        subtitle="raise the agent's limit max_output_tokens" if is_cut else None,
        border_style="yellow" if is_cut else "green",
    )


def _in_doubt(task_id: str, step: dict[str, Any]) -> RenderableType:
    """Return a panel that shows an action in doubt, and how to record its outcome."""
    asked = "\n".join(f"  {name} = {value}" for name, value in step["input"].items() if not name.startswith("_"))
    return Panel(
        escape(
            f"{step['name']} was begun at {moment(step['started_at'])} and its outcome was never recorded:\n{asked}\n\n"
            f"Find out whether it happened, then say so:\n"
            f"  rota settle {task_id} {step['seq']} --happened\n  rota settle {task_id} {step['seq']} --do-again"
        ),
        title="outcome unknown",
        border_style="yellow",
    )


def waterfall(steps: list[dict[str, Any]]) -> RenderableType:
    """Return the steps with bars that show when each began and how long it took."""
    if not steps:
        return Text("No step is recorded yet.", style="dim")
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
        return "under way" if step["status"] == "begun" else "nobody knows whether it happened"
    if step["status"] == "failed" and "settled" in output:
        return "a person said: do it again"
    if step["status"] == "failed":
        return f"{output['error']['kind']}: {output['error']['message']}"
    if step["stage"] == "decide":
        actions = ", ".join(action["tool"] for action in output["actions"])
        sure = f" ({output['confidence']:.0%} sure)" if output["confidence"] is not None else ""
        return f"→ {actions}{sure}" if actions else f"answers{' (cut off)' if output.get('is_truncated') else ''}"
    if step["stage"] == "act":
        given = _given({name: value for name, value in step["input"].items() if not name.startswith("_")})
        said = "ok" if output["ok"] else "only suggested" if output.get("suggested") else "refused"
        return f"{said}  {given}"
    return ""


_ATTEMPT = (
    Column("try", "id"), Column("worker", "text", rank=5), Column("began", rank=3), Column("took", rank=4),
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
                attempt["worker"],
                moment(attempt["started_at"]),
                f"{took:.1f} s",
                attempt["outcome"] or "under way",
                {True: "yes", False: "no", None: ""}[attempt["counted"]],
                escape(f"{error['kind']}: {error['message']}") if error else "",
            )
        )
    return Listing(_ATTEMPT, rows)


_AGENT = (
    Column("agent", "id"), Column("name", "line", rank=6), Column("model", "line", rank=5), Column("tools", rank=7),
    Column("on", rank=1), Column("tasks", rank=2), Column("success", rank=3), Column("cost", rank=4),
)  # fmt: skip


def agent_table(agents: list[dict[str, Any]], statistics: list[dict[str, Any]]) -> RenderableType:
    """Return a table of agents with what they did lately."""
    by_agent = {row["agent"]: row for row in statistics}
    rows = []
    for agent in agents:
        row = by_agent.get(agent["slug"], {})
        rate = row.get("success_rate")
        rows.append(
            (
                agent["slug"],
                escape(agent["name"]),
                escape(agent["model"]),
                str(len(agent["tools"])),
                "yes" if agent["enabled"] else "no",
                str(row.get("tasks", 0)),
                "" if rate is None else f"{rate:.0%}",
                money(row.get("billed_cost", "0")),
            )
        )
    return Listing(_AGENT, rows)


def usage_report(report: dict[str, Any]) -> RenderableType:
    """Return a month's usage."""
    total = report["total"]
    head = Text.from_markup(
        f"[bold]{report['month'][:7]}[/]   {total['model_calls']} model calls   "
        f"base {money(total['base_cost'])}   billed [bold]{money(total['billed_cost'])}[/]"
    )
    parts: list[RenderableType] = [head]
    parts += _notes_on(total)
    for title, rows, key in (("by model", report["by_model"], "name"), ("by agent", report["by_agent"], "name")):
        parts += [Text(), _usage_lines(title, rows, key)]
    return Group(*parts)


def _notes_on(total: dict[str, Any]) -> list[RenderableType]:
    """Return notes on the amounts: how many calls were rehearsed, unpriced or estimated."""
    notes = {
        "rehearsal_calls": "of the calls were rehearsed: priced as if real, free of charge.",
        "unpriced_calls": "of the calls were billed at 0, as no price is known. Set one: PUT /v1/prices/{model}",
        "estimated_calls": "of the calls were billed by estimate: the provider did not report all of their tokens.",
    }
    return [Text(f"{total[name]} {note}", "yellow") for name, note in notes.items() if total[name]]


def _usage_lines(title: str, rows: list[dict[str, Any]], key: str) -> RenderableType:
    ranks = {"calls": 2, "input": 3, "cached": 5, "output": 4, "base": 6, "billed": 1}
    columns = [Column(title, "id"), *(Column(name, rank=rank, is_right=True) for name, rank in ranks.items())]
    return Listing(
        columns,
        [
            (
                escape(f"{row[key]}{' (unpriced)' if title == 'by model' and row['unpriced_calls'] else ''}"),
                str(row["model_calls"]),
                f"{row['input_tokens']:,}",
                f"{row['cached_tokens']:,}",
                f"{row['output_tokens']:,}",
                money(row["base_cost"]),
                money(row["billed_cost"]),
            )
            for row in rows
        ],
    )


_FAILURE = (
    Column("tasks", rank=1), Column("fingerprint", "id"), Column("kind", rank=2), Column("last", rank=4),
    Column("agents", "text", rank=5), Column("message", "text", rank=3), Column("example", rank=6),
)  # fmt: skip


def failure_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of errors and how many tasks failed with each."""
    if not rows:
        return Text("No task has failed.", style="dim")
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
    return below(table, "Do them again: rota retry --status failed --fingerprint …")


_WORKERS = (
    Column("name", rank=1), Column("id", "id"), Column("status", "text", rank=2), Column("queues", "text", rank=7),
    Column("tasks", rank=3), Column("of", rank=4), Column("memory", rank=8), Column("stuck", rank=5),
    Column("runs", "text", rank=6),
)  # fmt: skip


def worker_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return the workers, and below each the tasks that it runs."""
    if not rows:
        return Text("No worker was ever here. Start one: rota worker", style="dim")
    shown = []
    for row in rows:
        size = str(row["concurrency"])
        if row["wanted_concurrency"] not in (None, row["concurrency"]):
            size += f" → {row['wanted_concurrency']}"
        runs = [f"{task['agent']} {seconds_between(task['since'], None):.0f} s" for task in row["tasks"][:3]]
        more = [f"{row['running'] - len(runs)} more"] if row["running"] > len(runs) else []
        because = f" ({row['draining_because']})" if row["draining_because"] else ""
        shown.append(
            (
                escape(row["name"]),
                escape(row["id"]),
                f"{_WORKER.get(row['status'], row['status'])}{escape(because)}",
                ", ".join(row["queues"]),
                str(row["running"]),
                size,
                f"{row['memory_bytes'] / 1e6:.0f} MB" if row["memory_bytes"] else "",
                str(row["stuck"] or ""),
                escape(", ".join(runs + more)),
            )
        )
    return Listing(_WORKERS, shown)


_WORKER = {"alive": "[green]alive[/]", "silent": "[red]silent[/]", "draining": "[yellow]draining[/]"}


def limits(found: dict[str, Any], paused: list[dict[str, Any]]) -> RenderableType:
    """Return an organisation's limits, how far they are used, and what is paused."""
    facts = _facts()
    for what, used, limit in (
        ("tasks in flight", found["in_flight"], found["max_in_flight"]),
        ("started in the last 60 s", found["started_last_minute"], found["starts_per_minute"]),
    ):
        facts.add_row(what, f"{used} of {'any number' if limit is None else limit}")
    facts.add_row("weight", f"{found['weight']} turn(s) for one of an organisation of weight 1")
    for pause in paused:
        reason = f": {pause['reason']}" if pause["reason"] else ""
        facts.add_row("paused", f"[yellow]{pause['kind']} {escape(pause['name'])}[/]{escape(reason)}")
    return facts


def plain_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str | Column]) -> RenderableType:
    """Return a table of the rows; the first column is what names a row."""
    return plain(rows, columns)


_PROPOSAL = (
    Column("id", "id"), Column("kind", rank=4), Column("status", rank=2), Column("agent", rank=3),
    Column("action", "text", rank=1), Column("until", rank=5), Column("because", "text", rank=6),
)  # fmt: skip


def approval_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of approvals."""
    table = Listing(
        _PROPOSAL,
        [
            (
                row["id"],
                row["kind"],
                _APPROVAL.get(row["status"], row["status"]),
                row["agent"],
                escape(shorten(f"{row['tool']}: {_given(row['arguments'])}", _ACTION)),
                moment(row["expires_at"]),
                escape(row["decision"]["rule"]),
            )
            for row in rows
        ],
    )
    return below(table, "Decide: rota approvals show ID, then approve ID or reject ID --reason …")


def _given(arguments: dict[str, Any]) -> str:
    """Return arguments as text; between a name and an id the line can be wrapped."""
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


_APPROVAL = {
    "open": "[yellow]open[/]", "approved": "[green]approved[/]", "rejected": "[red]rejected[/]",
    "denied": "[red]denied[/]", "expired": "[magenta]expired[/]",
}  # fmt: skip


def approval_detail(row: dict[str, Any]) -> RenderableType:
    """Return one proposal with everything that an approver needs to decide."""
    decision = row["decision"]
    facts = _facts()
    by = f" by {row['decided_by']}" if row["decided_by"] else ""
    facts.add_row("approval", row["id"])
    facts.add_row("status", f"{_APPROVAL.get(row['status'], row['status'])}{escape(by)}")
    facts.add_row("agent", escape(f"{row['agent']}, in task {row['task_id']}, step {row['seq']}"))
    facts.add_row("asked", escape(str(decision["context"].get("message", ""))))
    facts.add_row("intent", escape(decision["intent"] or "-"))
    facts.add_row("why", escape(decision["why"] or decision["reasoning"] or "-"))
    sure = "-" if decision["confidence"] is None else f"{decision['confidence']:.0%}"
    facts.add_row("confidence", sure)
    facts.add_row("instead of", escape("; ".join(decision["alternatives"]) or "-"))
    facts.add_row("level", escape(" → ".join(decision["because"])))
    past = decision["performance"]
    facts.add_row(
        "lately",
        f"{past['done']} done, {past['refused']} refused; {past['approved']} approved, {past['rejected']} not; 30 days",
    )
    ask = row["asks"][min(row["stage"], len(row["asks"]) - 1)]
    who = ", ".join([*(["the person it is for"] if row["kind"] == "suggestion" else []), *ask["roles"], *ask["users"]])
    facts.add_row(
        "up to", escape(f"{who}; {row['needed']} needed, until {moment(row['expires_at'])}, then {ask['then']}")
    )
    for vote in row["votes"]:
        void = "" if vote["counts"] else " (of arguments edited since)"
        facts.add_row("said", escape(f"{vote['user']}: {vote['verdict']}{void} {vote['words'] or ''}"))
    if row["reason"]:
        facts.add_row("reason", escape(row["reason"]))
    if row["linked_task"]:
        facts.add_row("carried out in", row["linked_task"])
    given = "\n".join(f"{name}: {value}" for name, value in row["arguments"].items())
    return Group(facts, Panel(escape(given or "no arguments"), title=escape(row["tool"]), border_style="yellow"))


def notification_list(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a list of notifications."""
    if not rows:
        return Text("No unread notification.", style="dim")
    parts: list[RenderableType] = []
    for row in rows:
        parts += [Text.from_markup(f"[bold]{escape(row['title'])}[/]  [dim]{moment(row['created_at'])}[/]")]
        parts += [Text(clean(row["body"])), Text()]
    return Group(*parts)


def user_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of users with their roles."""
    shown = [
        {
            "email": row["email"],
            "name": row["name"],
            "roles": ", ".join(
                grant["role"] + (f"@{grant['location']}" if grant["location"] else "") for grant in row["grants"]
            ),
            "operator": row["is_operator"],
            "disabled": moment(row["disabled_at"]),
        }
        for row in rows
    ]
    return plain_table(shown, ["email", "name", "roles", "operator", "disabled"])


def key_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of API keys."""
    shown = [
        row
        | {
            "scopes": " ".join(row["scopes"]),
            "last_used": moment(row["last_used_at"]) or "never",
            "ends": "revoked" if row["revoked_at"] else moment(row["expires_at"]),
        }
        for row in rows
    ]
    columns = [
        Column("id", "id"), Column("name", "text", rank=1), Column("user", "text", rank=2),
        Column("scopes", "text", rank=4), Column("last_used", rank=5), Column("ends", rank=3),
    ]  # fmt: skip
    return plain_table(shown, columns)


def message_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of the outbox."""
    shown = [
        row
        | {
            "at": moment(row["sent_at"] or row["send_after"]),
            "what": shorten(
                ("[Rehearsal] " if row["is_rehearsal"] else "") + (row["subject"] or row["body"]), _MESSAGE
            ),
        }
        for row in rows
    ]
    return plain_table(shown, _MESSAGES)


_MESSAGES = (
    Column("id", "id"), Column("channel", rank=4), Column("recipient", "text", rank=2), Column("status", rank=1),
    Column("attempts", rank=7), Column("at", rank=6), Column("what", "text", rank=5), Column("error", "text", rank=3),
)  # fmt: skip


def bill(found: dict[str, Any]) -> RenderableType:
    """Return a month's bill."""
    total = found["total"]
    state = f"closed {moment(found['closed_at'])}" if found["closed_at"] else "not closed yet"
    head = Text.from_markup(
        f"[bold]{found['month'][:7]}[/] ({state})   {total['model_calls']} model calls   "
        f"base {money(total['base_cost'])}   markup {float(found['markup']):.0%}   "
        f"billed [bold]{money(total['billed_cost'])}[/]"
    )
    parts: list[RenderableType] = [head, *_notes_on(total)]
    for part in ("model", "agent", "conversation", "workflow"):
        if found[f"by_{part}"]:
            parts += [Text(), _usage_lines(f"by {part}", found[f"by_{part}"], "name")]
    return Group(*parts)


def facts(said: Mapping[str, Any]) -> RenderableType:
    """Return names and values, one pair to a line."""
    grid = _facts()
    for name, value in said.items():
        grid.add_row(name, escape("" if value is None else str(value)))
    return grid


_QUEUE = [
    Column("priority", "id"), *(Column(name, rank=rank, is_right=True) for name, rank in (
        ("queued", 1), ("scheduled", 5), ("parked", 6), ("published", 9), ("running", 2), ("waiting", 3),
        ("oldest_seconds", 7), ("ended_per_minute", 8), ("wait_p50", 11), ("wait_p95", 10), ("run_p50", 13),
        ("run_p95", 12))), Column("paused", rank=4),
]  # fmt: skip


def queue_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return a table of the state of each queue."""
    return plain_table(rows, _QUEUE)
