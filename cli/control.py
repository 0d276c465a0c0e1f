"""Commands that change what runs: cancel, retry, replay, settle, pause, resume, limits, workers."""

from typing import Annotated, Any

import typer

from cli import control_views, find, task_views, terminal
from cli.client import Api, fail, match_agent
from cli.options import AgentOption, JsonOption, PriorityOption, StatusOption
from core.ids import new_id

KindOption = Annotated[str | None, typer.Option("--error-kind", help="Only with this kind of error.")]
FingerprintOption = Annotated[
    str | None, typer.Option("--fingerprint", help="Only with this error fingerprint; `rota failures` lists them.")
]
KeyOption = Annotated[str | None, typer.Option("--key", help="Only with this concurrency key.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
NowOption = Annotated[bool, typer.Option("--now", help="Start at once, even before the start time.")]
TaskArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[TASK]", help="The task's id, its beginning, or last. Without it, the options select tasks."
    ),
]
_NO_LIMIT = "none"


def cancel(
    task_id: TaskArgument = None,
    status: StatusOption = None,
    agent: AgentOption = None,
    priority: PriorityOption = None,
    key: KeyOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cancel a task, or all tasks that match."""
    api = Api.find()
    if task_id:
        _print_task(api.post(f"/v1/tasks/{find.task_id(api, task_id)}/cancel"), as_json=as_json)
    else:
        wanted = _filter(api, status=status, agent=agent, priority=priority, concurrency_key=key)
        _do_to_many(api, "cancel", wanted, yes=yes, as_json=as_json)


def retry(
    task_id: TaskArgument = None,
    status: StatusOption = None,
    agent: AgentOption = None,
    priority: PriorityOption = None,
    error_kind: KindOption = None,
    fingerprint: FingerprintOption = None,
    key: KeyOption = None,
    now: NowOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Retry tasks that failed, expired or were cancelled. Each continues after its last finished step."""
    api = Api.find()
    if task_id:
        _print_task(api.post(f"/v1/tasks/{find.task_id(api, task_id)}/retry", {"now": now}), as_json=as_json)
        return
    wanted = _filter(
        api,
        status=status,
        agent=agent,
        priority=priority,
        error_kind=error_kind,
        fingerprint=fingerprint,
        concurrency_key=key,
    )
    _do_to_many(api, "retry", wanted, yes=yes, as_json=as_json, now=now)


def replay(
    task_id: TaskArgument = None,
    message: Annotated[
        str | None, typer.Option("--message", "-m", help="Message of the new task; for one task only.")
    ] = None,
    status: StatusOption = None,
    agent: AgentOption = None,
    priority: PriorityOption = None,
    error_kind: KindOption = None,
    fingerprint: FingerprintOption = None,
    now: NowOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run tasks again from the start, as new tasks linked to the old ones."""
    api = Api.find()
    if task_id:
        old = find.task_id(api, task_id)
        changes: dict[str, Any] = {"now": now} | ({"agent": match_agent(api, agent)} if agent else {})
        if message is not None:  # keep the rest of its input
            changes["input"] = api.get(f"/v1/tasks/{old}")["input"] | {"message": message}
        if priority:
            changes["priority"] = priority[0]
        _print_task(api.post(f"/v1/tasks/{old}/replay", changes, key=str(new_id())), as_json=as_json)
        return
    if message is not None:
        fail("--message needs a task id.")
    wanted = _filter(api, status=status, agent=agent, priority=priority, error_kind=error_kind, fingerprint=fingerprint)
    _do_to_many(api, "replay", wanted, yes=yes, as_json=as_json, now=now)


def _filter(api: Api, **wanted: Any) -> dict[str, Any]:
    for name, value in wanted.items():
        if value == "":
            fail(f"--{name.replace('_', '-')} is empty. Leave it out, or give a value.")
    wanted["agent"] = match_agent(api, wanted["agent"]) if wanted.get("agent") else None
    said = {name: value for name, value in wanted.items() if value}
    if not said:
        fail("Give a task id or a filter, such as --status failed --agent support.")
    return said


def _do_to_many(api: Api, verb: str, wanted: dict[str, Any], *, yes: bool, as_json: bool, **more: Any) -> None:
    """Show how many tasks match, ask, then change them in portions until none is left. Each request includes `more`."""
    preview = api.post(f"/v1/tasks/{verb}", {"filter": wanted, "preview": True} | more)
    matching = preview["matching"]
    if not matching:
        terminal.out.print_json(data=preview) if as_json else terminal.out.print(f"No task to {verb} matches.")
        return
    if not yes:
        terminal.out.print(task_views.task_table(preview["sample"]))
        typer.confirm(f"{verb.capitalize()} {matching} tasks (the oldest are shown)?", abort=True)
    wanted = {"created_before": preview["as_of"]} | wanted  # the new tasks of a replay may match as well
    run, changed, last = new_id(), 0, None
    while True:
        try:
            portion = api.post(f"/v1/tasks/{verb}", {"filter": wanted, "after": last} | more, key=str(run))
        except typer.Exit:
            fail(f"{changed} of {matching} tasks were changed before the error. Check them before you try again.")
        changed += portion["changed"]
        last = portion["last"]
        if last is None:
            break
    done = {"cancel": "cancelled or stopping", "retry": "queued again", "replay": "submitted again"}[verb]
    summary = {"matching": matching, "changed": changed}
    terminal.out.print_json(data=summary) if as_json else terminal.out.print(f"{changed} of {matching} tasks {done}.")


def _print_task(task: dict[str, Any], *, as_json: bool) -> None:
    stopping = " (its worker is stopping it)" if task["cancel_requested_at"] and task["status"] == "running" else ""
    line = f"{task['id']}  {terminal.status(task['status'])}{stopping}"
    terminal.out.print_json(data=task) if as_json else terminal.out.print(line)


def settle(
    task_id: find.TaskId,
    step: Annotated[int, typer.Argument(help="Number of the step; `rota show` prints it.")],
    happened: Annotated[
        bool, typer.Option("--happened/--do-again", help="The action took effect, or it did not and is repeated.")
    ],
    note: Annotated[str | None, typer.Option(help="Note for the agent, such as a receipt number.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Record the outcome of an action that a crash left unknown. The task then continues."""
    body = {"outcome": "happened" if happened else "do_again", "note": note}
    api = Api.find()
    whole = find.task_id(api, task_id)
    _print_task(api.post(f"/v1/tasks/{whole}/steps/{step}/outcome", body), as_json=as_json)


def pause(
    kind: Annotated[str, typer.Argument(help="queue, agent or organisation.")],
    name: Annotated[str, typer.Argument(help="The queue's priority or the agent; none for the organisation.")] = "",
    reason: Annotated[str | None, typer.Option(help="Reason, shown for waiting tasks.")] = None,
) -> None:
    """Pause a queue, an agent or the organisation: no task starts, running tasks continue."""
    api = Api.find()
    made = api.post("/v1/pauses", {"kind": kind, "name": _name_of(api, kind, name), "reason": reason})
    terminal.out.print(f"The {made['kind']} {made['name']} is paused. Resume it: rota resume {kind} {name}".rstrip())


def resume(
    kind: Annotated[str, typer.Argument(help="queue, agent or organisation.")],
    name: Annotated[str, typer.Argument(help="The queue's priority or the agent; none for the organisation.")] = "",
) -> None:
    """Resume a queue, an agent or the organisation."""
    api = Api.find()
    path = f"{kind}/{_name_of(api, kind, name)}" if kind != "organisation" else kind
    api.delete(f"/v1/pauses/{path}")
    terminal.out.print(f"The {kind} {name} is resumed.".replace("  ", " "))


def _name_of(api: Api, kind: str, name: str) -> str:
    if kind not in {"queue", "agent", "organisation"}:
        fail(f"{kind!r} cannot be paused. Give queue, agent or organisation.")
    if kind != "organisation" and not name:
        fail(f"Give the name of the {kind}, for example: rota pause {kind} {'low' if kind == 'queue' else 'support'}")
    return match_agent(api, name) if kind == "agent" else name


limits_app = typer.Typer(help="Show and set limits.", invoke_without_command=True)


@limits_app.callback(invoke_without_command=True)
def limits(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show this organisation's limits and pauses."""
    if context.invoked_subcommand:
        return
    api = Api.find()
    found, paused = api.get("/v1/limits"), api.get("/v1/pauses")
    terminal.out.print_json(data=found | {"pauses": paused}) if as_json else terminal.out.print(
        control_views.limits(found, paused)
    )


InFlightOption = Annotated[
    str | None, typer.Option("--in-flight", help="Maximum tasks published or running at once; or none.")
]
RateOption = Annotated[str | None, typer.Option("--per-minute", help="Maximum tasks started in 60 seconds; or none.")]


@limits_app.command("organisation")
def limit_organisation(
    slug: str,
    in_flight: InFlightOption = None,
    per_minute: RateOption = None,
    weight: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Turns for one turn of an organisation of weight 1.")
    ] = None,
) -> None:
    """Set an organisation's limits. Options that are left out keep their values. For operators."""
    body = _limits(in_flight, per_minute) | ({} if weight is None else {"weight": weight})
    if not body:
        fail("Nothing to change: give --in-flight, --per-minute or --weight.")
    terminal.out.print(control_views.limits(Api.find().patch(f"/v1/organisations/{slug}/limits", body), []))


@limits_app.command("provider")
def limit_provider(
    provider: Annotated[
        str | None, typer.Argument(help="anthropic, openai, endpoint or organisation/endpoint; default: list all.")
    ] = None,
    model: Annotated[str, typer.Option(help="Only this model.")] = "",
    in_flight: InFlightOption = None,
    per_minute: RateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the limits of a provider or model, or list all such limits. For operators."""
    api = Api.find()
    if provider is None:
        found = api.get("/v1/provider-limits")
    else:
        found = api.put(f"/v1/provider-limits/{provider}", {"model": model} | _limits(in_flight, per_minute))
    columns = [
        "provider",
        "model",
        "in_flight",
        "max_in_flight",
        "started_last_minute",
        "starts_per_minute",
        "held_because",
        "held_until",
        "calls_per_minute",
    ]
    terminal.out.print_json(data=found) if as_json else terminal.out.print(terminal.plain_table(found, columns))


def _limits(in_flight: str | None, per_minute: str | None) -> dict[str, int | None]:
    given = {"max_in_flight": in_flight, "starts_per_minute": per_minute}
    try:
        return {n: None if v == _NO_LIMIT else int(v) for n, v in given.items() if v is not None}
    except ValueError:
        fail("A limit is a number or the word none.")


workers_app = typer.Typer(help="Show and scale workers.", invoke_without_command=True)


@workers_app.callback(invoke_without_command=True)
def workers(context: typer.Context, as_json: JsonOption = False) -> None:
    """List workers and the tasks that they run."""
    if context.invoked_subcommand:
        return
    found = Api.find().get("/v1/workers")
    terminal.out.print_json(data=found) if as_json else terminal.out.print(control_views.worker_table(found))


@workers_app.command("scale")
def scale(
    name: str,
    concurrency: Annotated[str, typer.Argument(help="Maximum tasks running at once; or reset, to their start value.")],
) -> None:
    """Set the concurrency of all workers of that name, also of those started later. For operators."""
    api = Api.find()
    if concurrency == "reset":
        api.delete(f"/v1/workers/{name}/concurrency")
        terminal.out.print(
            f"Workers called {name} use the concurrency they are started with, from their next start on."
        )
        return
    if not concurrency.isdecimal():
        fail("Give the concurrency as a number, or reset. For example: rota workers scale agents 200")
    made = api.put(f"/v1/workers/{name}/concurrency", {"concurrency": int(concurrency)})
    terminal.out.print(f"{made['following']} worker(s) called {name} will run {concurrency} tasks at once each.")
