"""How things look in a terminal."""

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from rich import markup
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from core.money import in_words
from embedded.state import Running

# Into a pipe or a file rich would squeeze everything into 80 columns.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)

_COLOURS = {
    "succeeded": "green", "running": "cyan", "queued": "blue", "waiting": "yellow", "failed": "red",
    "cancelled": "magenta", "expired": "magenta", "done": "green",
}  # fmt: skip
_STAGES = {"perceive": "blue", "decide": "magenta", "act": "cyan", "learn": "green"}
_LENGTH = TypeAdapter(timedelta)
_BAR = 20
_MESSAGE = 60


def escape(text: str) -> str:
    """What somebody else wrote, as text: no markup of ours, and no sequence that a terminal would obey."""
    return markup.escape("".join(letter for letter in text if letter >= " " or letter == "\n"))


def banner(running: Running) -> RenderableType:
    """What `rota up` greets with."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("API", f"[bold]{running.api}[/]   docs at {running.api}/docs")
    facts.add_row("Key", running.api_key)
    facts.add_row("Flower", f"{running.flower}   [dim]sign in as[/] {running.flower_auth.replace(':', ' / ')}")
    model = (
        "[yellow]rehearsal[/]: rehearsed answers, not intelligent ones: set ANTHROPIC_API_KEY or OPENAI_API_KEY"
        if running.model == "rehearsal"
        else "[green]live[/]: calls go to the providers you configured, and cost money"
    )
    facts.add_row("Model", model)
    facts.add_row("Rate", f"{running.starts_per_minute} tasks a minute here   [dim]an organisation's default is 100[/]")
    facts.add_row("Data", f"{running.data}   [dim]logs in logs/[/]")
    tries = Table.grid(padding=(0, 0))
    for command in (
        'rota submit "Can you book Ana Torres into the next spin class?" --agent support --wait',
        "rota submit --file examples/gym_messages.jsonl --agent support --wait",
        "rota tasks",
        "rota usage",
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


def status(word: str) -> str:
    """A status in its colour."""
    return f"[{_COLOURS.get(word, 'white')}]{word}[/]"


def money(amount: str | Decimal) -> str:
    """Dollars."""
    return in_words(Decimal(amount))


def moment(text: str | None) -> str:
    """A time, short, in the reader's zone."""
    return datetime.fromisoformat(text).astimezone().strftime("%m-%d %H:%M:%S") if text else ""


def local_time(text: str | None) -> str:
    """A time by the clock of whoever reads it, with its day and zone."""
    return f"{datetime.fromisoformat(text).astimezone():%a %Y-%m-%d %H:%M:%S %Z}" if text else "never"


def length_of_time(text: str) -> str:
    """A length of time in ISO 8601, short: -P1DT2H is -1d 2h."""
    length = _LENGTH.validate_python(text)
    minutes = int(abs(length).total_seconds()) // 60
    parts = [(minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "m")]
    sign = "-" if length < timedelta(0) else ""
    return sign + (" ".join(f"{number}{unit}" for number, unit in parts if number) or "at once")


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one time to another, or to now."""
    if start is None:
        return None
    finish = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return (finish - datetime.fromisoformat(start)).total_seconds()


def task_table(tasks: list[dict[str, Any]]) -> RenderableType:
    """Tasks in lines."""
    if not tasks:
        return Text('No tasks here yet. Submit one: rota submit "…" --agent support', style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "agent", "status", "priority", "tries", "took", "cost", "message"):
        table.add_column(name, no_wrap=name != "message", overflow="ellipsis")
    for task in tasks:
        took = seconds_between(task["started_at"], task["finished_at"])
        table.add_row(
            task["id"],
            task["agent"],
            status(task["status"]),
            task["priority"],
            f"{task['attempts']}/{task['max_attempts']}",
            "" if took is None else f"{took:.1f} s",
            money(task["billed_cost"]),
            escape(" ".join(str(task["input"]["message"]).split())[:_MESSAGE]),
        )
    return table


def task_detail(task: dict[str, Any]) -> RenderableType:
    """One task: facts, a waterfall of its steps, its attempts, its answer."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("task", task["id"])
    facts.add_row("agent", f"{task['agent']}   [dim]priority[/] {task['priority']}")
    waiting = f" for {task['waiting_for']}" if task["waiting_for"] else ""
    facts.add_row("status", f"{status(task['status'])}{waiting}   [dim]tries counted[/] {task['attempts']}")
    if task.get("why"):
        facts.add_row("why", escape(task["why"]))
    facts.add_row("asked", escape(str(task["input"]["message"])))
    facts.add_row("created", f"{moment(task['created_at'])}   [dim]ended[/] {moment(task['finished_at']) or '-'}")
    tokens = f"{task['input_tokens']} in, {task['output_tokens']} out"
    facts.add_row("cost", f"{money(task['billed_cost'])} for {task['model_calls']} model calls ({tokens} tokens)")
    if task["error"]:
        facts.add_row("error", f"[red]{task['error']['kind']}[/] {escape(task['error']['message'])}")
    parts: list[RenderableType] = [facts, Text(), waterfall(task["steps"])]
    for step in task["steps"]:
        if step["status"] == "unknown":
            parts += [Text(), _in_doubt(task["id"], step)]
    if len(task["attempt_history"]) > 1 or task["error"]:
        parts += [Text(), _attempts(task["attempt_history"])]
    if task["result"]:
        parts += [Text(), Panel(escape(task["result"]["answer"]), title="answer", border_style="green")]
    return Group(*parts)


def _in_doubt(task_id: str, step: dict[str, Any]) -> RenderableType:
    """What was attempted, and how to say what became of it."""
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
    """Steps with bars: where each began and how long it took."""
    if not steps:
        return Text("No step is recorded yet.", style="dim")
    begin = min(datetime.fromisoformat(step["started_at"]).timestamp() for step in steps)
    end = max(datetime.fromisoformat(s["started_at"]).timestamp() + s["duration_ms"] / 1000 for s in steps)
    scale = _BAR / max(end - begin, 0.001)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("#", "stage", "step", "", "ms", "tokens", "cost", "what"):
        table.add_column(
            name, no_wrap=name != "what", justify="right" if name in {"#", "ms", "tokens", "cost"} else "left"
        )
    for step in steps:
        start = datetime.fromisoformat(step["started_at"]).timestamp() - begin
        bar = " " * min(_BAR - 1, int(start * scale)) + "█" * max(1, round(step["duration_ms"] / 1000 * scale))
        colour = {"failed": "red", "unknown": "yellow"}.get(step["status"]) or _STAGES[step["stage"]]
        tokens = step["input_tokens"] + step["output_tokens"]
        table.add_row(
            str(step["seq"]),
            f"[{colour}]{step['stage']}[/]",
            escape(step["name"]),
            f"[{colour}]{bar[:_BAR]}[/]",
            str(step["duration_ms"]),
            str(tokens) if tokens else "",
            money(step["billed_cost"]) if step["model"] else "",
            escape(_gist(step)),
        )
    return table


def _gist(step: dict[str, Any]) -> str:
    """What a step did, in a few words."""
    output = step["output"]
    if step["status"] in {"begun", "unknown"}:
        return "under way" if step["status"] == "begun" else "nobody knows whether it happened"
    if step["status"] == "failed" and "settled" in output:
        return "a person said: do it again"
    if step["status"] == "failed":
        return f"{output['error']['kind']}: {output['error']['message']}"[:120]
    if step["stage"] == "decide":
        actions = ", ".join(action["tool"] for action in output["actions"])
        sure = f" ({output['confidence']:.0%} sure)" if output["confidence"] is not None else ""
        return f"→ {actions}{sure}" if actions else "answers"
    if step["stage"] == "act":
        given = ", ".join(f"{k}={v}" for k, v in step["input"].items() if not k.startswith("_"))
        return f"{'ok' if output['ok'] else 'refused'}  {given}"[:120]
    return ""


def _attempts(attempts: list[dict[str, Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("try", "worker", "began", "took", "outcome", "counted", "error"):
        table.add_column(name, no_wrap=name != "error")
    for number, attempt in enumerate(attempts, start=1):
        error = attempt["error"]
        took = seconds_between(attempt["started_at"], attempt["ended_at"])
        table.add_row(
            str(number),
            attempt["worker"],
            moment(attempt["started_at"]),
            f"{took:.1f} s",
            attempt["outcome"] or "under way",
            {True: "yes", False: "no", None: ""}[attempt["counted"]],
            escape(f"{error['kind']}: {error['message']}") if error else "",
        )
    return table


def agent_table(agents: list[dict[str, Any]], statistics: list[dict[str, Any]]) -> RenderableType:
    """Agents with what they did lately."""
    by_agent = {row["agent"]: row for row in statistics}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("agent", "name", "model", "tools", "on", "tasks", "success", "cost"):
        table.add_column(name, no_wrap=True)
    for agent in agents:
        row = by_agent.get(agent["slug"], {})
        rate = row.get("success_rate")
        table.add_row(
            agent["slug"],
            escape(agent["name"]),
            agent["model"],
            str(len(agent["tools"])),
            "yes" if agent["enabled"] else "no",
            str(row.get("tasks", 0)),
            "" if rate is None else f"{rate:.0%}",
            money(row.get("billed_cost", "0")),
        )
    return table


def usage_report(report: dict[str, Any]) -> RenderableType:
    """A month's usage."""
    total = report["total"]
    head = Text.from_markup(
        f"[bold]{report['month'][:7]}[/]   {total['model_calls']} model calls   "
        f"base {money(total['base_cost'])}   billed [bold]{money(total['billed_cost'])}[/]"
    )
    parts: list[RenderableType] = [head]
    if report["total"]["rehearsal_calls"]:
        parts.append(
            Text(
                f"{report['total']['rehearsal_calls']} of the calls were rehearsed: priced as if real, free of charge.",
                "yellow",
            )
        )
    for title, rows, key in (("by model", report["by_model"], "name"), ("by agent", report["by_agent"], "name")):
        parts += [Text(), _usage_lines(title, rows, key)]
    return Group(*parts)


def _usage_lines(title: str, rows: list[dict[str, Any]], key: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(title, no_wrap=True)
    for name in ("calls", "input", "cached", "output", "base", "billed"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            str(row[key]),
            str(row["model_calls"]),
            f"{row['input_tokens']:,}",
            f"{row['cached_tokens']:,}",
            f"{row['output_tokens']:,}",
            money(row["base_cost"]),
            money(row["billed_cost"]),
        )
    return table


def failure_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Errors and how many tasks failed of each."""
    if not rows:
        return Text("No task has failed.", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("tasks", "fingerprint", "kind", "last", "agents", "message", "example"):
        table.add_column(name, no_wrap=name != "message")
    for row in rows:
        table.add_row(
            str(row["tasks"]),
            row["fingerprint"] or "",
            f"[red]{escape(row['kind'] or '')}[/]",
            moment(row["last_at"]),
            escape(", ".join(row["agents"])),
            escape(" ".join((row["message"] or "").split())[:200]),
            str(row["examples"][0]),
        )
    again = Text("Do them again: rota retry --status failed --fingerprint …", style="dim")
    return Group(table, Text(), again)


def worker_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Workers, and under each what it runs."""
    if not rows:
        return Text("No worker was ever here. Start one: rota worker", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("name", "id", "status", "queues", "tasks", "of", "memory", "stuck", "runs"):
        table.add_column(name, no_wrap=name not in {"runs", "queues"})
    for row in rows:
        size = str(row["concurrency"])
        if row["wanted_concurrency"] not in (None, row["concurrency"]):
            size += f" → {row['wanted_concurrency']}"
        runs = [f"{task['agent']} {seconds_between(task['since'], None):.0f} s" for task in row["tasks"][:3]]
        more = [f"{row['running'] - len(runs)} more"] if row["running"] > len(runs) else []
        because = f" ({row['draining_because']})" if row["draining_because"] else ""
        table.add_row(
            escape(row["name"]),
            escape(row["id"]),
            f"{_WORKER.get(row['status'], row['status'])}{escape(because)}",
            ",".join(row["queues"]),
            str(row["running"]),
            size,
            f"{row['memory_bytes'] / 1e6:.0f} MB" if row["memory_bytes"] else "",
            str(row["stuck"] or ""),
            escape(", ".join(runs + more)),
        )
    return table


_WORKER = {"alive": "[green]alive[/]", "silent": "[red]silent[/]", "draining": "[yellow]draining[/]"}


def limits(found: dict[str, Any], paused: list[dict[str, Any]]) -> RenderableType:
    """An organisation's limits, how far they are used, and what is paused."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
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


def plain_table(rows: list[dict[str, Any]], columns: list[str]) -> RenderableType:
    """Rows as they are."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return f"{value:.1f}" if isinstance(value, float) else escape(str(value))


def approval_table(rows: list[dict[str, Any]]) -> RenderableType:
    """What is to be decided, in lines."""
    if not rows:
        return Text("Nothing waits for anybody's decision.", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "kind", "status", "agent", "action", "until", "because"):
        table.add_column(name, no_wrap=name not in {"action", "because"}, overflow="fold")
    for row in rows:
        given = ", ".join(f"{name}={value}" for name, value in row["arguments"].items())
        table.add_row(
            row["id"],
            row["kind"],
            _APPROVAL.get(row["status"], row["status"]),
            row["agent"],
            escape(f"{row['tool']}({given})"[:160]),
            moment(row["expires_at"]),
            escape(row["decision"]["rule"]),
        )
    hint = Text("Decide: rota approvals show ID, then approve ID or reject ID --reason …", style="dim")
    return Group(table, Text(), hint)


_APPROVAL = {
    "open": "[yellow]open[/]", "approved": "[green]approved[/]", "rejected": "[red]rejected[/]",
    "denied": "[red]denied[/]", "expired": "[magenta]expired[/]",
}  # fmt: skip


def approval_detail(row: dict[str, Any]) -> RenderableType:
    """One proposal with everything that somebody needs to decide."""
    decision = row["decision"]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
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
    """Notifications."""
    if not rows:
        return Text("No unread notification.", style="dim")
    parts: list[RenderableType] = []
    for row in rows:
        parts += [Text.from_markup(f"[bold]{escape(row['title'])}[/]  [dim]{moment(row['created_at'])}[/]")]
        parts += [Text(escape(row["body"])), Text()]
    return Group(*parts)


def user_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Users with their roles."""
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
    """API keys."""
    shown = [
        row
        | {
            "scopes": " ".join(row["scopes"]),
            "last_used": moment(row["last_used_at"]) or "never",
            "ends": "revoked" if row["revoked_at"] else moment(row["expires_at"]),
        }
        for row in rows
    ]
    return plain_table(shown, ["id", "name", "user", "scopes", "last_used", "ends"])


def message_table(rows: list[dict[str, Any]]) -> RenderableType:
    """The outbox."""
    if not rows:
        return Text("The outbox is empty.", style="dim")
    shown = [
        row
        | {
            "at": moment(row["sent_at"] or row["send_after"]),
            "what": " ".join((row["subject"] or row["body"]).split())[:60],
        }
        for row in rows
    ]
    return plain_table(shown, ["id", "channel", "recipient", "status", "attempts", "at", "what", "error"])


def bill(found: dict[str, Any]) -> RenderableType:
    """A month's bill."""
    total = found["total"]
    state = f"closed {moment(found['closed_at'])}" if found["closed_at"] else "not closed yet"
    head = Text.from_markup(
        f"[bold]{found['month'][:7]}[/] ({state})   {total['model_calls']} model calls   "
        f"base {money(total['base_cost'])}   markup {float(found['markup']):.0%}   "
        f"billed [bold]{money(total['billed_cost'])}[/]"
        + (f"   [yellow]{total['rehearsal_calls']} of the calls rehearsed[/]" if total["rehearsal_calls"] else "")
    )
    parts: list[RenderableType] = [head]
    for part in ("model", "agent", "conversation", "workflow"):
        if found[f"by_{part}"]:
            parts += [Text(), _usage_lines(f"by {part}", found[f"by_{part}"], "name")]
    return Group(*parts)
