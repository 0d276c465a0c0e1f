"""Commands about schedules, and the scheduler as a whole."""

from typing import Annotated, Any

import typer

from cli import terminal, times
from cli.client import Api, fail, match_agent
from cli.layout import Column
from cli.options import AgentOption, JsonOption

schedules_app = typer.Typer(no_args_is_help=True, help="Start tasks at set times or on events.")

Slug = Annotated[str, typer.Argument(help="The schedule's slug.")]
NoteOption = Annotated[str | None, typer.Option("--note", help="Reason.")]
OverlapOption = Annotated[
    str | None, typer.Option("--overlap", help="skip, buffer_one, buffer_all, cancel_other or allow_all.")
]


_SCHEDULE = [Column("schedule", "id"), Column("when", "text", rank=2), Column("next", rank=3)]
_SCHEDULE += [Column("agent", "line", rank=4), Column("state", rank=1), Column("note", "text", rank=5)]
_RUN = [Column("due", "id"), Column("kind", rank=4), Column("status", rank=1), Column("task", rank=2)]
_RUN += [Column("why", "text", rank=3)]


@schedules_app.command("add")
def add(
    slug: Slug,
    message: Annotated[str, typer.Argument(help="Message to the agent for each run.")],
    agent: AgentOption = None,
    cron: Annotated[str | None, typer.Option(help='Cron expression, such as "30 8 * * MON-FRI".')] = None,
    every: Annotated[str | None, typer.Option(help="Interval: 90s, 15m, 6h, 2d, or ISO 8601.")] = None,
    at: Annotated[
        str | None, typer.Option(help="Single time: 2026-12-24T18:00, local unless it has an offset.")
    ] = None,
    on_event: Annotated[str | None, typer.Option(help="Name of an event, such as lead.created.")] = None,
    timezone: Annotated[
        str | None, typer.Option(help="IANA time zone for --cron; default: the organisation's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    overlap: OverlapOption = None,
    catch_up: Annotated[str | None, typer.Option(help="How late a run may start, such as 1h.")] = None,
    jitter: Annotated[str | None, typer.Option(help="Maximum random delay of each run, such as 5m.")] = None,
    runs: Annotated[int | None, typer.Option(help="Number of runs; default: no limit.")] = None,
    budget: Annotated[str | None, typer.Option(help="Monthly budget of its runs in US dollars.")] = None,
    pause_after: Annotated[int | None, typer.Option(help="Pause after this many failed runs in a row.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a schedule, or change the one with this slug."""
    if agent is None:
        fail("Give --agent, for example --agent support. `rota agents` lists the agents.")
    if timezone is not None and cron is None:
        fail("--timezone needs --cron.")
    api = Api.find()
    body: dict[str, Any] = {
        "name": name or slug.replace("-", " ").capitalize(),
        "times": _times(cron, every, at, on_event, timezone),
        "task": {"agent": match_agent(api, agent), "input": {"message": message}},
    }
    chosen = {
        "overlap": overlap,
        "catch_up": times.seconds(catch_up, "--catch-up"),
        "jitter": times.seconds(jitter, "--jitter"),
        "remaining_runs": runs,
        "monthly_budget": budget,
        "pause_after_failures": pause_after,
    }
    _print_one(api.put(f"/v1/schedules/{slug}", body | {k: v for k, v in chosen.items() if v is not None}), as_json)


def _times(
    cron: str | None, every: str | None, at: str | None, on_event: str | None, timezone: str | None
) -> dict[str, Any]:
    if sum(one is not None for one in (cron, every, at, on_event)) != 1:
        fail("Give one of --cron, --every, --at and --on-event.")
    if cron is not None:
        return {"kind": "cron", "cron": cron, "timezone": timezone}
    if every is not None:
        return {"kind": "interval", "every": times.seconds(every, "--every")}
    if at is not None:
        return {"kind": "once", "at": times.moment(at, "--at")}
    return {"kind": "event", "event": on_event}


@schedules_app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List schedules with their next due time in your time zone."""
    api = Api.find()
    found: list[dict[str, Any]] = []
    while page := api.get("/v1/schedules", after=found[-1]["slug"] if found else None):
        found += page
    if as_json:
        terminal.out.print_json(data=found)
        return
    if not found:
        terminal.out.print(
            'No schedules. Add one: rota schedules add morning-report "…" --cron "30 8 * * *" --agent operations'
        )
        return
    rows = [
        {"schedule": one["slug"], "when": _when(one), "next": terminal.local_time(one["next_at"])}
        | {"agent": one["task"]["agent"], "state": one["state"], "note": one["note"]}
        for one in found
    ]
    terminal.out.print(terminal.plain_table(rows, _SCHEDULE))


@schedules_app.command("show")
def show(slug: Slug, as_json: JsonOption = False) -> None:
    """Show a schedule, its next due times in your time zone and its latest runs."""
    api = Api.find()
    one = api.get(f"/v1/schedules/{slug}")
    runs = api.get(f"/v1/schedules/{slug}/runs", limit=10)
    if as_json:
        terminal.out.print_json(data=one | {"runs": runs})
        return
    _print_one(one, as_json=False)
    rows = [
        {"due": terminal.moment(run["scheduled_for"]), "kind": run["kind"], "status": run["status"]}
        | {"task": run["task_id"], "why": _why(run)}
        for run in runs
    ]
    terminal.out.print(terminal.plain_table(rows, _RUN) if rows else "No runs yet.")


def _when(one: dict[str, Any]) -> str:
    """Return the times of a schedule in words, in both languages."""
    return f"{one['descriptions']['en']}\n{one['descriptions']['es']}"


def _why(run: dict[str, Any]) -> str:
    more = f" ({run['missed']} times)" if (run["missed"] or 0) > 1 else ""
    return f"{run['reason'] or ''}{more}"


def _print_one(one: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=one)
        return
    terminal.out.print(f"[bold]{terminal.escape(one['slug'])}[/]  {one['state']}  {terminal.escape(_when(one))}")
    if one["note"]:
        terminal.out.print(f"  note: {terminal.escape(one['note'])}")
    for at in one["next_runs"]:
        terminal.out.print(f"  next  {terminal.local_time(at)}")


@schedules_app.command("pause")
def pause(slug: Slug, note: NoteOption = None) -> None:
    """Pause a schedule. Runs that come due during the pause are skipped."""
    _print_one(Api.find().post(f"/v1/schedules/{slug}/pause", {"note": note}), as_json=False)


@schedules_app.command("resume")
def resume(slug: Slug, note: NoteOption = None) -> None:
    """Resume a paused schedule."""
    _print_one(Api.find().post(f"/v1/schedules/{slug}/resume", {"note": note}), as_json=False)


@schedules_app.command("run")
def run(slug: Slug, overlap: OverlapOption = None) -> None:
    """Start a run now, even if the schedule is paused."""
    made = Api.find().post(f"/v1/schedules/{slug}/run", {"overlap": overlap})
    terminal.out.print(
        f"{made['status']}\n  follow it: rota show {made['task_id']}" if made["task_id"] else made["status"]
    )


@schedules_app.command("backfill")
def backfill(
    slug: Slug,
    start: Annotated[str, typer.Argument(help="Start, such as 2026-11-01T00:00; local unless it has an offset.")],
    end: Annotated[str, typer.Argument(help="End.")],
    overlap: OverlapOption = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only print the number of runs and their cost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Start the runs of a past period."""
    api = Api.find()
    body = {"start": times.moment(start, "START"), "end": times.moment(end, "END")} | (
        {"overlap": overlap} if overlap else {}
    )
    found = api.post(f"/v1/schedules/{slug}/backfill", body | {"preview": True})
    cost = (
        "estimated cost unknown"
        if found["estimated_cost"] is None
        else f"estimated cost {terminal.money(found['estimated_cost'])}"
    )
    terminal.out.print(
        f"{found['runs']} runs, {terminal.local_time(found['first'])} to {terminal.local_time(found['last'])}, {cost}"
    )
    if preview or not found["runs"]:
        return
    if not yes:
        typer.confirm("Start these runs?", abort=True)
    terminal.out.print(f"{api.post(f'/v1/schedules/{slug}/backfill', body)['made']} runs created")


@schedules_app.command("remove")
def remove(slug: Slug) -> None:
    """Remove a schedule. Its tasks continue."""
    Api.find().delete(f"/v1/schedules/{slug}")
    terminal.out.print(f"{slug} is removed.")


@schedules_app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Show the state of the scheduler and the next due times."""
    api = Api.find()
    one = api.get("/v1/scheduler")
    coming = api.get("/v1/scheduler/upcoming", limit=10)
    if as_json:
        terminal.out.print_json(data=one | {"upcoming": coming})
        return
    state = (
        "running"
        if one["is_running"]
        else f"stopped since {terminal.local_time(one['stopped_at'])}: {one['note'] or 'no note'}"
    )
    today = ", ".join(f"{count} {name}" for name, count in one["runs_today"].items()) or "none"
    terminal.out.print(f"{state}   {one['active']} active, {one['paused']} paused, {one['overdue']} overdue")
    terminal.out.print(f"runs in the last 24 hours: {today}")
    if coming:
        rows = [
            {"next": terminal.local_time(run["at"]), "schedule": run["schedule"], "name": run["name"]} for run in coming
        ]
        terminal.out.print(terminal.plain_table(rows, ["next", "schedule", "name"]))


@schedules_app.command("stop")
def stop(note: NoteOption = None) -> None:
    """Stop the scheduler: no schedule comes due."""
    Api.find().post("/v1/scheduler/stop", {"note": note})
    terminal.out.print("The scheduler is stopped. Start it again: rota schedules start")


@schedules_app.command("start")
def start() -> None:
    """Start the scheduler again. Missed runs start within each schedule's catch-up window."""
    Api.find().post("/v1/scheduler/start")
    terminal.out.print("The scheduler is running.")


@schedules_app.command("check")
def check() -> None:
    """Start due runs now, instead of at the next periodic check."""
    found = Api.find().post("/v1/scheduler/check")
    terminal.out.print(f"{found['started']} started, {found['skipped']} skipped, {found['missed']} missed")
