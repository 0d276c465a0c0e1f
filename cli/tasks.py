"""Commands about tasks, queues and usage. They use the API only."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli import find, money_views, task_views, terminal, times, waiting, watch
from cli.client import Api, fail, match_agent
from cli.files import read_text, read_yaml
from cli.find import TaskId
from cli.options import AgentOption, JsonOption, PriorityOption, StatusOption
from cli.terminal import escape
from core.ids import new_id
from domain.tasks.schemas import PRIORITIES

_SUBMITTERS = 8
_CALL = re.compile(r"call_([0-9a-f]{32})_[0-9]{1,9}")
_WHEN = "15m, 6h or 2d from now, or a time such as 2026-12-24T18:00."


def submit(
    message: Annotated[str | None, typer.Argument(help="Message to the agent.")] = None,
    agent: AgentOption = None,
    priority: Annotated[str, typer.Option("--priority", "-p", help="critical, high, normal or low.")] = "normal",
    key: Annotated[
        str | None,
        typer.Option("--key", "-k", help="Concurrency key: tasks with the same key run one after the other."),
    ] = None,
    run_after: Annotated[str | None, typer.Option(help=f"Earliest start: {_WHEN}")] = None,
    deadline: Annotated[str | None, typer.Option(help=f"Time by which the task must end: {_WHEN}")] = None,
    expires: Annotated[str | None, typer.Option(help=f"Latest start; after it the task expires: {_WHEN}")] = None,
    notify: Annotated[
        str | None, typer.Option(help="URL of a webhook to which the end and the waits of the task are posted.")
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option(help="File with a list of client tools (JSON or YAML): name, description, parameters."),
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeated with the same key, the command returns the first task.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="File of messages, one JSON object per line; - for standard input."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until the task ends.")] = False,
    timeout: Annotated[float, typer.Option(help="Time-out of --wait in seconds.")] = 600,
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
        "notify": notify,
    }
    own = {"client_tools": read_yaml(tools)} if tools is not None else {}
    run = idempotency_key or str(new_id())
    if file is not None:
        if own:
            fail("--tools goes with a message. In a file, each message names its own: client_tools.")
        _submit_file(api, file, agent, common, run, wait=wait, timeout=timeout, as_json=as_json)
        return
    if agent is None:
        fail("Give --agent, for example --agent support. `rota agents` lists the agents.")
    slug = match_agent(api, str(agent))
    with waiting.uncertain():
        task = api.post("/v1/tasks", _submission(slug, str(message), common, own), key=run)
    if not wait:
        terminal.out.print_json(data=task) if as_json else terminal.out.print(
            f"{task['id']}  {terminal.status(task['status'])}\n  follow it: rota show {task['id']}"
        )
        return
    waiting.until_ended(api, task["id"], timeout)
    detail = api.get(f"/v1/tasks/{task['id']}")
    terminal.out.print_json(data=detail) if as_json else terminal.out.print(task_views.task_detail(detail))
    raise typer.Exit(0 if detail["status"] == "succeeded" else 1)


def _submission(agent: str, message: str, common: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"agent": agent, "input": {"message": message} | (more or {})} | common


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
            fail(f"{file}, line {number}: the agent is missing. Name it in the line, or give --agent.")
        own["concurrency_key"] = entry.get("key", common["concurrency_key"])
        submissions.append(_submission(str(slug), message, common | own))
    if not submissions:
        fail(f"{file} contains no messages.")
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
        none = 'No tasks yet. Submit one: rota submit "…" --agent support'
        terminal.out.print(terminal.nothing(none, "No task matches", "rota tasks", status, slug, priority))


def show(
    task_id: TaskId,
    is_followed: Annotated[
        bool, typer.Option("--follow", help="Print what happens until the task ends, then the task.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a task: status, reason for waiting, steps with duration and cost, attempts, answer."""
    api = Api.find()
    found = find.task_id(api, task_id)
    if is_followed and not as_json:
        watch.follow_task(api, found)
    task = api.get(f"/v1/tasks/{found}")
    if task["status"] not in waiting.ENDED:
        reason = waiting.reason(api, task)
        task["why"], task["next"] = reason.why, reason.command
    terminal.out.print_json(data=task) if as_json else terminal.out.print(task_views.task_detail(task))


def give_result(
    call_id: Annotated[str, typer.Argument(metavar="CALL", help="The call's id; `rota show TASK` lists open calls.")],
    content: Annotated[str | None, typer.Argument(help="What the tool returned.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="File with what the tool returned; - for standard input.")
    ] = None,
    is_error: Annotated[bool, typer.Option("--error", help="The tool failed; the content says why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Return the result of a client tool's call. The task goes on once it has the results of all its calls."""
    if (content is None) == (file is None):
        fail("Give either what the tool returned, or --file. For example: rota give-result CALL '{\"celsius\": 21}'")
    found = _CALL.fullmatch(call_id)
    if found is None:
        fail(f"{call_id!r} is not the id of a call. `rota show TASK` lists the task's open calls.")
    result = {"call_id": call_id, "content": content if file is None else read_text(file), "is_error": is_error}
    task = Api.find().post(f"/v1/tasks/{found[1]}/tool-results", {"results": [result]})
    terminal.out.print_json(data=task) if as_json else terminal.out.print(
        f"{task['id']}  {terminal.status(task['status'])}\n  follow it: rota show {task['id']} --follow"
    )


def failures(as_json: JsonOption = False) -> None:
    """List the errors of failed tasks, most frequent first."""
    found = Api.find().get("/v1/failures")
    terminal.out.print_json(data=found) if as_json else terminal.out.print(task_views.failure_table(found))


def usage(
    month: Annotated[str | None, typer.Option(help="Month, such as 2026-11; default: the current month.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a month's model calls and their cost, by model and by agent."""
    report = Api.find().get("/v1/usage", month=month)
    terminal.out.print_json(data=report) if as_json else terminal.out.print(money_views.usage_report(report))


def queues(as_json: JsonOption = False) -> None:
    """Show the state of each queue, and figures of the last 15 minutes."""
    found = Api.find().get("/v1/queues")
    terminal.out.print_json(data=found) if as_json else terminal.out.print(task_views.queue_table(found))
