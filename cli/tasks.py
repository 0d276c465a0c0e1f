"""Commands about tasks, queues and usage. They use the API only."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli import find, money_views, task_views, terminal, times, waiting
from cli.client import Api, fail, match_agent
from cli.files import read_text
from cli.find import TaskId
from cli.options import AgentOption, JsonOption, PriorityOption, StatusOption
from cli.terminal import escape
from core.ids import new_id
from domain.tasks.schemas import PRIORITIES

_SUBMITTERS = 8
_WHEN = "From now, such as 15m, 6h or 2d; or a time, such as 2026-12-24T18:00."


def submit(
    message: Annotated[str | None, typer.Argument(help="What the agent should do.")] = None,
    agent: AgentOption = None,
    priority: Annotated[str, typer.Option("--priority", "-p", help="critical, high, normal or low")] = "normal",
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="Tasks with the same key run one after the other.")
    ] = None,
    run_after: Annotated[str | None, typer.Option(help=f"Not to be started before. {_WHEN}")] = None,
    deadline: Annotated[str | None, typer.Option(help=f"To be finished by; then it fails. {_WHEN}")] = None,
    expires: Annotated[str | None, typer.Option(help=f"Not worth starting after; then it expires. {_WHEN}")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same again submits nothing more, and shows the task of before.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Messages, one JSON object a line; - for standard input.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the answer.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Submit a task, or a file of tasks."""
    if (message is None) == (file is None):
        fail('Give either a message or --file. For example: rota submit "Is there yoga tomorrow?" --agent support')
    api = Api.find()
    common = {
        "priority": priority,
        "concurrency_key": key,
        "run_after": times.from_now(run_after, "--run-after"),
        "deadline": times.from_now(deadline, "--deadline"),
        "expires_at": times.from_now(expires, "--expires"),
    }
    run = idempotency_key or str(new_id())
    if file is not None:
        _submit_file(api, file, agent, common, run, wait=wait, timeout=timeout, as_json=as_json)
        return
    if agent is None:
        fail("Which agent? Add --agent, for example --agent support. `rota agents` lists them.")
    slug = match_agent(api, str(agent))
    with waiting.uncertain():
        task = api.post("/v1/tasks", _submission(slug, str(message), common), key=run)
    if not wait:
        terminal.out.print_json(data=task) if as_json else terminal.out.print(
            f"{task['id']}  {terminal.status(task['status'])}\n  watch it: rota show {task['id']}"
        )
        return
    waiting.until_ended(api, task["id"], timeout)
    detail = api.get(f"/v1/tasks/{task['id']}")
    terminal.out.print_json(data=detail) if as_json else terminal.out.print(task_views.task_detail(detail))
    raise typer.Exit(0 if detail["status"] == "succeeded" else 1)


def _submission(agent: str, message: str, common: dict[str, Any]) -> dict[str, Any]:
    return {"agent": agent, "input": {"message": message}} | common


def _submit_file(
    api: Api,
    file: Path,
    agent: str | None,
    common: dict[str, Any],
    run: str,
    *,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    submissions = _read_file(api, file, agent, common)
    started = time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[extra]}"),
        console=terminal.out,
        disable=as_json or not terminal.out.is_terminal,
    ) as progress:
        submitting = progress.add_task("submitted", total=len(submissions), extra="")
        ids: list[str] = []
        with waiting.uncertain(ids), ThreadPoolExecutor(_SUBMITTERS) as pool:
            jobs = [
                pool.submit(api.post, "/v1/tasks", body, key=f"{run}-{number}")
                for number, body in enumerate(submissions)
            ]
            for number, job in enumerate(jobs):
                try:
                    ids.append(job.result()["id"])
                except KeyboardInterrupt:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                except typer.Exit:
                    pool.shutdown(cancel_futures=True)
                    done = sum(one.done() and not one.cancelled() and not one.exception() for one in jobs)
                    fail(f"{file}: message {number + 1} was refused; {done} of {len(jobs)} were submitted.")
                progress.advance(submitting)
        tasks = waiting.until_all_ended(api, ids, timeout, progress) if wait else waiting.look(api, ids)
    _report(tasks, time.monotonic() - started, as_json=as_json, waited=wait)


def _read_file(api: Api, file: Path, agent: str | None, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the submissions in a file. Each line is a JSON string, or an object: message, optionally agent, priority,
    key.
    """
    default = match_agent(api, agent) if agent else None
    slugs: dict[str, str] = {}
    submissions = []
    text = read_text(file)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            entry = {"message": entry} if isinstance(entry, str) else entry
            message, named = entry["message"], entry.get("agent")
        except (ValueError, KeyError, TypeError, AttributeError):
            fail(f'{file}, line {number}: expected {{"message": "…"}} or a JSON string.')
        if named and named not in slugs:
            slugs[named] = match_agent(api, named)
        if not isinstance(message, str) or not message.strip():
            fail(f"{file}, line {number}: the message is blank.")
        own = {"priority": entry.get("priority", common["priority"])}
        if own["priority"] not in PRIORITIES:
            fail(f"{file}, line {number}: the priority must be one of {', '.join(PRIORITIES)}.")
        slug = slugs.get(named) if named else default
        if slug is None:
            fail(f"{file}, line {number}: which agent? Name it in the line, or give --agent.")
        own["concurrency_key"] = entry.get("key", common["concurrency_key"])
        submissions.append(_submission(str(slug), message, common | own))
    if not submissions:
        fail(f"{file} holds no messages.")
    return submissions


def _report(tasks: list[dict[str, Any]], seconds: float, *, as_json: bool, waited: bool) -> None:
    counts: dict[str, int] = {}
    for task in tasks:
        counts[task["status"]] = counts.get(task["status"], 0) + 1
    cost = sum((waiting.cost(task) for task in tasks), start=Decimal(0))
    calls = sum(task["model_calls"] for task in tasks)
    if as_json:
        summary = {"tasks": len(tasks), "by_status": counts, "billed_cost": str(cost), "model_calls": calls}
        terminal.out.print_json(data=summary | {"seconds": round(seconds, 2), "ids": [task["id"] for task in tasks]})
    else:
        listed = ", ".join(f"{count} {terminal.status(word)}" for word, count in sorted(counts.items()))
        rate = f", {len(tasks) / seconds:.1f} tasks/s" if waited else ""
        terminal.out.print(
            f"{len(tasks)} tasks: {listed}; {seconds:.1f} s{rate}; {calls} model calls, {terminal.money(cost)}"
        )
        for task in [task for task in tasks if task["status"] in waiting.ENDED - {"succeeded"}][:10]:
            said = f"{task['error']['kind']}: {task['error']['message']}" if task["error"] else ""
            terminal.out.print(f"  {task['id']}  {terminal.status(task['status'])}  {escape(said)}")
    if waited and counts.get("succeeded", 0) < len(tasks):
        raise typer.Exit(1)


def tasks(
    status: StatusOption = None,
    agent: AgentOption = None,
    priority: PriorityOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List tasks, newest first."""
    api = Api.find()
    slug = match_agent(api, agent) if agent else None
    page = api.get("/v1/tasks", status=status, agent=slug, priority=priority, limit=limit)
    if as_json:
        terminal.out.print_json(data=page)
    elif page["tasks"]:
        terminal.out.print(task_views.task_table(page["tasks"]))
    else:
        none = 'No tasks here yet. Submit one: rota submit "…" --agent support'
        terminal.out.print(terminal.nothing(none, "No task matches", "rota tasks", status, slug, priority))


def show(task_id: TaskId, as_json: JsonOption = False) -> None:
    """Show a task: what it waits for; its steps with durations, tools, tokens and cost; its attempts; its answer."""
    api = Api.find()
    task = api.get(f"/v1/tasks/{find.task_id(api, task_id)}")
    if task["status"] not in waiting.ENDED:
        reason = waiting.reason(api, task)
        task["why"], task["next"] = reason.why, reason.command
    terminal.out.print_json(data=task) if as_json else terminal.out.print(task_views.task_detail(task))


def failures(as_json: JsonOption = False) -> None:
    """List the errors that tasks failed with, the most frequent first."""
    found = Api.find().get("/v1/failures")
    terminal.out.print_json(data=found) if as_json else terminal.out.print(task_views.failure_table(found))


def usage(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; the present month without it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what model calls cost, by model and by agent."""
    report = Api.find().get("/v1/usage", month=month)
    terminal.out.print_json(data=report) if as_json else terminal.out.print(money_views.usage_report(report))


def queues(as_json: JsonOption = False) -> None:
    """Show the state of each queue, now and over the last 15 minutes."""
    found = Api.find().get("/v1/queues")
    terminal.out.print_json(data=found) if as_json else terminal.out.print(task_views.queue_table(found))
