"""Commands about tasks, agents and usage: they talk to the API and to nothing else."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli import render
from cli.client import Api, chunks, fail, match_agent
from cli.options import AgentOption, JsonOption, PriorityOption, StatusOption
from cli.render import escape
from core.ids import new_id
from domain.tasks.schemas import PRIORITIES

_ENDED = {"succeeded", "failed", "cancelled", "expired"}
_POLL_FIRST, _POLL_LONGEST = 0.1, 1.0
_SUBMITTERS = 8
_PAGE = 200


def submit(
    message: Annotated[str | None, typer.Argument(help="What the agent should do.")] = None,
    agent: AgentOption = None,
    priority: Annotated[str, typer.Option("--priority", "-p", help="critical, high, normal or low")] = "normal",
    key: Annotated[
        str | None, typer.Option("--key", "-k", help="Tasks with the same key run one after the other.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Messages, one JSON object a line; - for standard input.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the answer.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.")] = 600,
    as_json: JsonOption = False,
) -> None:
    """Submit a task, or a file of them."""
    if (message is None) == (file is None):
        fail('Give either a message or --file. For example: rota submit "Is there yoga tomorrow?" --agent support')
    api = Api.find()
    if file is not None:
        _submit_file(api, file, agent, priority, key, wait=wait, timeout=timeout, as_json=as_json)
        return
    if agent is None:
        fail("Which agent? Add --agent, for example --agent support. `rota agents` lists them.")
    slug = match_agent(api, str(agent))
    task = api.post("/v1/tasks", _submission(slug, str(message), priority, key), key=str(new_id()))
    if not wait:
        render.out.print_json(data=task) if as_json else render.out.print(
            f"{task['id']}  {render.status(task['status'])}   watch it: rota show {task['id']}"
        )
        return
    _follow(api, task["id"], timeout)
    detail = api.get(f"/v1/tasks/{task['id']}")
    render.out.print_json(data=detail) if as_json else render.out.print(render.task_detail(detail))
    raise typer.Exit(0 if detail["status"] == "succeeded" else 1)


def _submission(agent: str, message: str, priority: str, key: str | None) -> dict[str, Any]:
    return {"agent": agent, "input": {"message": message}, "priority": priority, "concurrency_key": key}


def _follow(api: Api, task_id: str, timeout: float) -> None:
    deadline, pause = time.monotonic() + timeout, _POLL_FIRST
    with render.out.status("waiting for the agent") as spinner:
        while time.monotonic() < deadline:
            task = api.get(f"/v1/tasks/{task_id}")
            if task["status"] in _ENDED:
                return
            done = task["steps"][-1]["stage"] if task["steps"] else "no step yet"
            spinner.update(f"{task['status']}: {done}")
            time.sleep(pause)
            pause = min(_POLL_LONGEST, pause * 1.3)
    fail(f"Not done after {timeout:g} s; it goes on by itself. Look again: rota show {task_id}")


def _submit_file(
    api: Api,
    file: Path,
    agent: str | None,
    priority: str,
    key: str | None,
    *,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    submissions = _read_file(api, file, agent, priority, key)
    run, started = new_id(), time.monotonic()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[extra]}"),
        console=render.out,
        disable=as_json or not render.out.is_terminal,
    ) as progress:
        submitting = progress.add_task("submitted", total=len(submissions), extra="")
        ids: list[str] = []
        with ThreadPoolExecutor(_SUBMITTERS) as pool:
            jobs = [
                pool.submit(api.post, "/v1/tasks", body, key=f"{run}-{number}")
                for number, body in enumerate(submissions)
            ]
            for number, job in enumerate(jobs):
                try:
                    ids.append(job.result()["id"])
                except typer.Exit:
                    pool.shutdown(cancel_futures=True)
                    done = sum(one.done() and not one.cancelled() and not one.exception() for one in jobs)
                    fail(f"{file}: message {number + 1} was refused; {done} of {len(jobs)} were submitted.")
                progress.advance(submitting)
        tasks = _follow_all(api, ids, timeout, progress) if wait else _look(api, ids)
    _report(tasks, time.monotonic() - started, as_json=as_json, waited=wait)


def _read_file(api: Api, file: Path, agent: str | None, priority: str, key: str | None) -> list[dict[str, Any]]:
    """The submissions in a file: each line a JSON string, or an object with message, perhaps agent, priority, key."""
    if str(file) != "-" and not file.is_file():
        fail(f"There is no file {file}.")
    default = match_agent(api, agent) if agent else None
    slugs: dict[str, str] = {}
    submissions = []
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
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
        if entry.get("priority", priority) not in PRIORITIES:
            fail(f"{file}, line {number}: the priority must be one of {', '.join(PRIORITIES)}.")
        slug = slugs.get(named) if named else default
        if slug is None:
            fail(f"{file}, line {number}: which agent? Name it in the line, or give --agent.")
        submissions.append(_submission(str(slug), message, entry.get("priority", priority), entry.get("key", key)))
    if not submissions:
        fail(f"{file} holds no messages.")
    return submissions


def _look(api: Api, ids: list[str]) -> list[dict[str, Any]]:
    return [task for some in chunks(ids, _PAGE) for task in api.get("/v1/tasks", id=some, limit=_PAGE)["tasks"]]


def _follow_all(api: Api, ids: list[str], timeout: float, progress: Progress) -> list[dict[str, Any]]:
    line = progress.add_task("ended", total=len(ids), extra="")
    ended: dict[str, dict[str, Any]] = {}
    started = time.monotonic()
    while len(ended) < len(ids):
        open_ids = [task_id for task_id in ids if task_id not in ended]
        ended |= {task["id"]: task for task in _look(api, open_ids) if task["status"] in _ENDED}
        elapsed = time.monotonic() - started
        failed = sum(task["status"] != "succeeded" for task in ended.values())
        cost = render.money(str(sum((_cost(task) for task in ended.values()), start=0)))
        extra = f"{len(ended) / elapsed:.1f}/s  failed {failed}  {cost}"
        progress.update(line, completed=len(ended), extra=extra)
        if elapsed > timeout:
            fail(f"{len(ids) - len(ended)} of {len(ids)} not done after {timeout:g} s; they go on. See: rota tasks")
        if len(ended) < len(ids):
            time.sleep(0.3)
    return [ended[task_id] for task_id in ids]


def _cost(task: dict[str, Any]) -> Any:
    return Decimal(task["billed_cost"])


def _report(tasks: list[dict[str, Any]], seconds: float, *, as_json: bool, waited: bool) -> None:
    counts: dict[str, int] = {}
    for task in tasks:
        counts[task["status"]] = counts.get(task["status"], 0) + 1
    cost = sum((_cost(task) for task in tasks), start=Decimal(0))
    calls = sum(task["model_calls"] for task in tasks)
    if as_json:
        summary = {"tasks": len(tasks), "by_status": counts, "billed_cost": str(cost), "model_calls": calls}
        render.out.print_json(data=summary | {"seconds": round(seconds, 2), "ids": [task["id"] for task in tasks]})
    else:
        listed = ", ".join(f"{count} {render.status(word)}" for word, count in sorted(counts.items()))
        rate = f", {len(tasks) / seconds:.1f} tasks/s" if waited else ""
        render.out.print(
            f"{len(tasks)} tasks: {listed}; {seconds:.1f} s{rate}; {calls} model calls, {render.money(cost)}"
        )
        for task in [task for task in tasks if task["status"] in _ENDED - {"succeeded"}][:10]:
            said = f"{task['error']['kind']}: {task['error']['message']}" if task["error"] else ""
            render.out.print(f"  {task['id']}  {render.status(task['status'])}  {escape(said)}")
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
    render.out.print_json(data=page) if as_json else render.out.print(render.task_table(page["tasks"]))


def show(task_id: str, as_json: JsonOption = False) -> None:
    """Show a task: what it waits for, its steps with durations, tools, tokens and cost, its tries, its answer."""
    api = Api.find()
    task = api.get(f"/v1/tasks/{task_id}")
    if task["status"] not in _ENDED:
        task["why"] = api.get(f"/v1/tasks/{task_id}/why")["why"]
    render.out.print_json(data=task) if as_json else render.out.print(render.task_detail(task))


def failures(as_json: JsonOption = False) -> None:
    """List what tasks failed of, the most frequent first."""
    found = Api.find().get("/v1/failures")
    render.out.print_json(data=found) if as_json else render.out.print(render.failure_table(found))


def agents(as_json: JsonOption = False) -> None:
    """List agents and what they did in the last 30 days."""
    api = Api.find()
    found = api.get("/v1/agents")
    if as_json:
        render.out.print_json(data=found)
        return
    render.out.print(render.agent_table(found, api.get("/v1/agent-statistics")))


def usage(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; the present month without it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what model calls cost, by model and by agent."""
    report = Api.find().get("/v1/usage", month=month)
    render.out.print_json(data=report) if as_json else render.out.print(render.usage_report(report))


def queues(as_json: JsonOption = False) -> None:
    """Show how each queue stands, and how it went in the last 15 minutes."""
    found = Api.find().get("/v1/queues")
    columns = [
        "priority", "queued", "scheduled", "parked", "published", "running", "waiting", "oldest_seconds",
        "ended_per_minute", "wait_p50", "wait_p95", "run_p50", "run_p95", "paused",
    ]  # fmt: skip
    render.out.print_json(data=found) if as_json else render.out.print(render.plain_table(found, columns))
