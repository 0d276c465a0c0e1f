"""Schedules on a real database: what comes due, once; overlap, catching up, edits, pauses, backfills, events."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import make_app
from core import db
from core.ids import new_id
from core.settings import Settings
from domain.claims import service as claims
from domain.claims.schemas import ClaimOutcome
from domain.schedules import service as schedules
from domain.schedules.sweep import sweep
from domain.tasks.schemas import TaskError
from tests.support.clock import Clock, movable_clock
from tests.support.factories import change_agent, claim, make_key, make_organisation, make_user
from tests.support.servers import SECRET_KEY
from workers.duties import schedules as duties

HOUR = timedelta(hours=1)
Put = Callable[..., dict[str, Any]]


@pytest.fixture
def clock(config: Settings) -> Iterator[Clock]:
    with movable_clock() as made:
        yield made


@pytest.fixture
def client(config: Settings, org: UUID) -> Iterator[TestClient]:
    with TestClient(make_app(), client=("schedules", 1), raise_server_exceptions=False) as made:
        made.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY)}"
        yield made


@pytest.fixture
def put(client: TestClient) -> Put:
    """Add a schedule; hourly from now on unless the test says otherwise."""

    def made(slug: str = "hourly", **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = {
            "name": slug,
            "times": {"kind": "interval", "every": 3600},
            "task": {"agent": "support-assistant", "input": {"message": "hello"}},
        }
        answer = client.put(f"/v1/schedules/{slug}", json=body | more)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return made


def runs(client: TestClient, slug: str = "hourly") -> list[dict[str, Any]]:
    """Its runs, the earliest first."""
    answer = client.get(f"/v1/schedules/{slug}/runs", params={"limit": 200})
    assert answer.is_success, answer.text
    return sorted(answer.json(), key=lambda run: (run["scheduled_for"], run["id"]))


def statuses(client: TestClient, slug: str = "hourly") -> list[str]:
    return [run["status"] for run in runs(client, slug)]


def end(org: UUID, task_id: str, status: Any = "succeeded") -> None:
    """Let a task end as if a worker had done it."""
    held = claim(org, UUID(task_id))
    assert held
    error = TaskError(kind="bad_request", message="no") if status == "failed" else None
    with db.transaction(org) as connection:
        claims.end(connection, held, ClaimOutcome(status=status, outcome=status, counted=True, error=error))


def number_of_tasks(org: UUID) -> int:
    with db.transaction(org) as connection:
        found: int = connection.execute(text("SELECT count(*) FROM tasks")).scalar_one()
        return found


# ── coming due ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_due_starts_one_task_with_what_was_asked(put: Put, client: TestClient, org: UUID, clock: Clock) -> None:
    made = put(task={"agent": "support-assistant", "input": {"message": "Report"}, "priority": "high"})
    assert sweep(org).started == 0
    clock.move(HOUR)
    assert sweep(org).started == 1
    assert sweep(org).started == 0
    (run,) = runs(client)
    assert (run["kind"], run["status"]) == ("due", "running")
    assert run["scheduled_for"] == made["next_at"]
    task = client.get(f"/v1/tasks/{run['task_id']}").json()
    assert (task["agent"], task["priority"], task["input"]["message"]) == ("support-assistant", "high", "Report")
    assert task["input"]["context"]["run"]["schedule"] == "hourly"


def test_two_sweeps_at_once_start_each_due_time_once(put: Put, org: UUID, clock: Clock) -> None:
    for number in range(30):
        put(f"s-{number}")
    clock.move(HOUR)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: sweep(org).started, range(4)))
    assert sum(found) == 30
    assert number_of_tasks(org) == 30


def test_the_duty_attends_to_every_organisation_and_is_harmless_twice(put: Put, org: UUID, clock: Clock) -> None:
    put()
    clock.move(HOUR)
    duties.run_schedules()
    duties.run_schedules()
    assert number_of_tasks(org) == 1


def test_a_single_time_comes_once_and_then_it_is_finished(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    at = clock.now() + HOUR
    made = put("single", times={"kind": "once", "at": at.isoformat()})
    assert made["state"] == "active"
    here = at.astimezone(ZoneInfo("Europe/Madrid"))
    assert made["descriptions"]["es"] == f"Una vez, el {here:%Y-%m-%d %H:%M} (Europe/Madrid)"
    clock.move(HOUR + timedelta(seconds=1))
    assert sweep(org).started == 1
    assert client.get("/v1/schedules/single").json()["state"] == "finished"
    assert client.get("/v1/schedules/single").json()["next_runs"] == []


def test_a_cron_schedule_without_a_zone_goes_by_the_organisations_clock(put: Put, clock: Clock) -> None:
    clock.move_to(datetime.fromisoformat("2027-03-27T12:00:00+00:00"))
    made = put(times={"kind": "cron", "cron": "30 2 * * *"})
    assert made["times"]["timezone"] == "Europe/Madrid"
    assert made["next_runs"][:2] == ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]  # the clocks jump over 2:30
    assert made["description"] == "At 02:30 (Europe/Madrid)"
    assert made["descriptions"] == {"en": "At 02:30 (Europe/Madrid)", "es": "A las 02:30 (Europe/Madrid)"}


def test_jitter_delays_each_run_by_its_own_amount_and_never_more_than_said(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(jitter=1800)
    with db.transaction(org) as connection:
        row = connection.execute(text("SELECT next_at, due_at FROM schedules")).one()
    assert row.next_at < row.due_at < row.next_at + timedelta(minutes=30)
    clock.move_to(row.due_at - timedelta(seconds=5))
    assert sweep(org).started == 0
    clock.move_to(row.due_at + timedelta(seconds=1))
    assert sweep(org).started == 1
    assert datetime.fromisoformat(runs(client)[0]["scheduled_for"]) == row.next_at


def test_start_end_and_number_of_runs_bound_it(put: Put, client: TestClient, org: UUID, clock: Clock) -> None:
    now = clock.now()
    bounds = {"starts_at": (now + 3 * HOUR).isoformat(), "ends_at": (now + 5 * HOUR).isoformat()}
    made = put(overlap="allow_all", **bounds, times={"kind": "interval", "every": 3600, "anchor": now.isoformat()})
    assert len(made["next_runs"]) == 3
    put("twice", overlap="allow_all", remaining_runs=2)
    for _ in range(7):
        clock.move(HOUR)
        sweep(org)
    assert statuses(client) == ["running"] * 3
    assert statuses(client, "twice") == ["running"] * 2
    assert client.get("/v1/schedules/twice").json()["state"] == "finished"


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("skip", ["running", "skipped", "skipped"]),
        ("buffer_one", ["running", "buffered", "skipped"]),
        ("buffer_all", ["running", "buffered", "buffered"]),
        ("cancel_other", ["cancelled", "running", "buffered"]),  # asked to stop, the second is found ended next time
        ("allow_all", ["running", "running", "running"]),
    ],
)
def test_a_run_that_finds_an_earlier_one_unended(
    put: Put, client: TestClient, org: UUID, clock: Clock, overlap: str, expected: list[str]
) -> None:
    put(overlap=overlap)
    for _ in range(3):
        clock.move(HOUR)
        sweep_due_only(org)
    assert statuses(client) == expected


def sweep_due_only(org: UUID) -> None:
    """One portion: it does not look again for what has just been cancelled."""
    from domain.schedules import sweep as parts  # noqa: PLC0415  the module under the function of the same name

    with db.transaction(org) as connection:
        parts.attend(connection, org)


def test_what_is_buffered_starts_in_order_when_the_run_before_has_ended(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="buffer_all")
    for _ in range(3):
        clock.move(HOUR)
        sweep(org)
    for done in range(3):
        end(org, runs(client)[done]["task_id"])
        sweep(org)
        assert statuses(client) == ["succeeded"] * (done + 1) + (["running"] + ["buffered"] * (1 - done))[: 2 - done]
    assert number_of_tasks(org) == 3


def test_cancel_other_stops_the_one_before_and_then_starts(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="cancel_other")
    for _ in range(2):
        clock.move(HOUR)
        sweep(org)
    sweep(org)
    assert statuses(client) == ["cancelled", "running"]


# ── catching up ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_an_outage_what_lies_in_the_window_runs_and_what_is_older_is_noted_as_missed(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="allow_all", catch_up=3 * 3600)
    clock.move(10 * HOUR + timedelta(minutes=1))
    found = sweep(org)
    assert (found.started, found.missed) == (3, 7)
    assert statuses(client) == ["missed"] + ["running"] * 3
    assert runs(client)[0]["missed"] == 7
    assert sweep(org).attended == 0


def test_runs_that_were_all_missed_leave_the_number_of_runs_as_it_was(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(times={"kind": "interval", "every": 6 * 3600}, catch_up=3600, remaining_runs=2)
    clock.move(8 * HOUR)
    found = sweep(org)
    assert (found.started, found.missed) == (0, 1)
    assert client.get("/v1/schedules/hourly").json()["remaining_runs"] == 2


def test_a_long_outage_of_a_fast_schedule_is_counted_up_to_a_thousand(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(times={"kind": "interval", "every": 1}, catch_up=60, overlap="skip")
    clock.move(timedelta(days=30))
    assert sweep(org).missed == 1000
    found = Counter(run["status"] for run in runs(client))
    assert found["running"] == 1
    assert found["missed"] == 1
    assert 55 <= found["skipped"] <= 65


# ── editing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_edit_that_leaves_the_times_leaves_what_is_due(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    before = put()
    clock.move(timedelta(minutes=59))
    after = put(name="other name")
    assert after["next_at"] == before["next_at"]
    assert after["times"]["anchor"] == before["times"]["anchor"]
    clock.move(timedelta(minutes=2))
    assert sweep(org).started == 1


def test_an_edit_of_the_times_starts_first_what_was_due_and_repeats_nothing(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="allow_all")
    clock.move(HOUR + timedelta(minutes=1))
    put(overlap="allow_all", times={"kind": "interval", "every": 1800})
    assert statuses(client) == ["running"]
    clock.move(timedelta(minutes=31))
    sweep(org)
    put(overlap="allow_all", times={"kind": "interval", "every": 3600})
    sweep(org)
    assert statuses(client) == ["running"] * 2
    times = [run["scheduled_for"] for run in runs(client)]
    assert len(set(times)) == 2


def test_an_edited_schedule_is_the_editors_from_then_on(put: Put, client: TestClient, org: UUID, clock: Clock) -> None:
    before = put()
    manager = make_user(org, "manager")
    client.headers["authorization"] = f"Bearer {make_key(org, SECRET_KEY, user=manager)}"
    assert put()["user_id"] == str(manager) != before["user_id"]


# ── pausing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_paused_schedule_leaves_out_what_would_be_due_and_goes_on_with_what_is_to_come(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put()
    paused = client.post("/v1/schedules/hourly/pause", json={"note": "holidays"}).json()
    assert (paused["state"], paused["note"], paused["next_at"]) == ("paused", "holidays", None)
    clock.move(3 * HOUR + timedelta(minutes=1))
    sweep(org)
    assert runs(client) == []
    assert client.post("/v1/schedules/hourly/resume").json()["state"] == "active"
    assert client.post("/v1/schedules/hourly/resume").json()["state"] == "active"  # the second click
    sweep(org)
    assert runs(client) == []
    clock.move(HOUR)
    assert sweep(org).started == 1


def test_it_pauses_itself_after_so_many_failures_in_a_row(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(pause_after_failures=2)
    for status in ("failed", "succeeded", "failed", "failed"):
        clock.move(HOUR)
        assert sweep(org).started == 1
        end(org, runs(client)[-1]["task_id"], status)
        sweep(org)
    found = client.get("/v1/schedules/hourly").json()
    assert (found["state"], found["failures_in_a_row"]) == ("paused", 2)
    assert "2 runs failed in a row" in found["note"]
    assert client.post("/v1/schedules/hourly/resume").json()["failures_in_a_row"] == 0


def test_runs_that_end_together_pause_it_once_and_say_after_how_many(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="allow_all", pause_after_failures=2)
    for _ in range(4):
        clock.move(HOUR)
        sweep(org)
    for run, status in zip(runs(client), ("failed", "failed", "failed", "succeeded"), strict=True):
        end(org, run["task_id"], status)
        clock.move(timedelta(seconds=1))
    sweep(org)
    found = client.get("/v1/schedules/hourly").json()
    assert (found["state"], found["failures_in_a_row"]) == ("paused", 2)
    assert "2 runs failed in a row" in found["note"]


def test_the_scheduler_stops_and_catches_up_when_it_is_started(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="allow_all", catch_up=2 * 3600)
    assert client.post("/v1/scheduler/stop", json={"note": "maintenance"}).json()["is_running"] is False
    assert client.get("/v1/schedules/hourly").json()["state"] == "stopped"
    clock.move(5 * HOUR + timedelta(minutes=1))
    assert sweep(org).attended == 0
    assert client.post("/v1/scheduler/start").json()["is_running"] is True
    assert client.post("/v1/scheduler/check").json()["started"] == 2
    assert statuses(client) == ["missed", "running", "running"]
    status = client.get("/v1/scheduler").json()
    assert (status["active"], status["overdue"], status["open_runs"]) == (1, 0, 2)
    assert status["runs_today"] == {"missed": 1, "running": 2}
    assert [one["schedule"] for one in client.get("/v1/scheduler/upcoming", params={"limit": 3}).json()] == [
        "hourly"
    ] * 3


def test_times_changed_while_the_scheduler_is_stopped_are_noted_as_missed(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put()
    client.post("/v1/scheduler/stop")
    clock.move(2 * HOUR + timedelta(minutes=1))
    put(times={"kind": "interval", "every": 7200})
    (run,) = runs(client)
    assert (run["status"], run["missed"]) == ("missed", 2)


# ── by hand, made up, on events ──────────────────────────────────────────────────────────────────────────────────────


def test_a_run_by_hand_counts_for_nothing_and_respects_the_policy(put: Put, client: TestClient, org: UUID) -> None:
    put(remaining_runs=1)
    assert client.post("/v1/schedules/hourly/run").json()["status"] == "running"
    refused = client.post("/v1/schedules/hourly/run")
    assert refused.status_code == 409
    assert "an earlier run has not ended" in refused.json()["detail"]
    assert client.post("/v1/schedules/hourly/run", json={"overlap": "allow_all"}).status_code == 202
    assert client.get("/v1/schedules/hourly").json()["remaining_runs"] == 1


def test_a_backfill_is_previewed_and_made_one_after_the_other(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    now = clock.now().replace(minute=0, second=0, microsecond=0)
    put(times={"kind": "interval", "every": 3600, "anchor": now.isoformat()})
    wanted = {"start": (now - 5 * HOUR).isoformat(), "end": (now - 3 * HOUR).isoformat()}
    preview = client.post("/v1/schedules/hourly/backfill", json=wanted | {"preview": True}).json()
    assert (preview["runs"], preview["made"], preview["estimated_cost"]) == (3, 0, None)
    assert runs(client) == []
    assert client.post("/v1/schedules/hourly/backfill", json=wanted).json()["made"] == 3
    assert statuses(client) == ["running", "buffered", "buffered"]
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE schedule_runs SET billed_cost = 0.25"))
    preview = client.post("/v1/schedules/hourly/backfill", json=wanted | {"preview": True}).json()
    assert Decimal(preview["estimated_cost"]) == Decimal("0.75")


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (-1, 5, "must lie in the past"),
        (-20_000, -1, "More than 5000 runs"),
        (-1, -2, "end must be later than start"),
    ],
)
def test_a_backfill_that_cannot_be(put: Put, client: TestClient, clock: Clock, start: int, end: int, says: str) -> None:
    put()
    wanted = {"start": (clock.now() + start * HOUR).isoformat(), "end": (clock.now() + end * HOUR).isoformat()}
    answer = client.post("/v1/schedules/hourly/backfill", json=wanted)
    assert answer.status_code == 422
    assert says in answer.text


def test_an_event_starts_what_waits_for_it_and_fits_once(put: Put, client: TestClient) -> None:
    put("big", times={"kind": "event", "event": "lead.created", "filter": {"value": {"gte": 100}, "source": "web"}})
    put("small", times={"kind": "event", "event": "lead.created", "filter": {"value": {"lt": 100}}})
    event = {"name": "lead.created", "payload": {"value": 150, "source": "web"}}
    first = client.post("/v1/events", json=event, headers={"idempotency-key": "e1"}).json()
    assert [run["schedule"] for run in first["runs"]] == ["big"]
    again = client.post("/v1/events", json=event, headers={"idempotency-key": "e1"}).json()
    assert again == first
    task = client.get(f"/v1/tasks/{first['runs'][0]['task_id']}").json()
    assert task["input"]["context"]["event"]["payload"] == event["payload"]
    assert task["input"]["has_outside_context"] is True
    assert client.post("/v1/events", json={"name": "nobody.waits"}).json() == {"runs": []}


@pytest.mark.parametrize("overlap", ["allow_all", "cancel_other", "buffer_all", "skip"])
def test_an_event_delivered_again_cancels_no_run_and_uses_up_none(
    put: Put, client: TestClient, org: UUID, overlap: str
) -> None:
    put("on-event", times={"kind": "event", "event": "lead.created"}, overlap=overlap, remaining_runs=2)
    headers = {"idempotency-key": "delivery-1"}
    first = client.post("/v1/events", json={"name": "lead.created"}, headers=headers).json()
    assert len(first["runs"]) == 1
    for _ in range(2):
        assert client.post("/v1/events", json={"name": "lead.created"}, headers=headers).json() == first
    sweep(org)
    assert statuses(client, "on-event") == ["running"]
    assert client.get(f"/v1/tasks/{first['runs'][0]['task_id']}").json()["status"] == "queued"
    assert client.get("/v1/schedules/on-event").json()["remaining_runs"] == 1


def test_an_event_that_used_up_the_last_run_is_answered_the_same_when_it_is_delivered_again(
    put: Put, client: TestClient
) -> None:
    put("on-event", times={"kind": "event", "event": "lead.created"}, remaining_runs=1)
    headers = {"idempotency-key": "delivery-1"}
    first = client.post("/v1/events", json={"name": "lead.created"}, headers=headers).json()
    assert client.get("/v1/schedules/on-event").json()["state"] == "finished"
    assert client.post("/v1/events", json={"name": "lead.created"}, headers=headers).json() == first
    assert client.post("/v1/events", json={"name": "lead.created"}).json() == {"runs": []}


def test_an_event_delivered_twice_at_once_starts_one_run(put: Put, client: TestClient, org: UUID) -> None:
    put("on-event", times={"kind": "event", "event": "lead.created"}, overlap="allow_all", remaining_runs=9)
    event = {"name": "lead.created", "payload": {}}

    def post(_: int) -> Any:
        return client.post("/v1/events", json=event, headers={"idempotency-key": "delivery-1"}).json()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(post, range(4)))
    assert answers == [answers[0]] * 4
    assert number_of_tasks(org) == 1
    assert client.get("/v1/schedules/on-event").json()["remaining_runs"] == 8


def test_an_event_starts_nothing_that_is_paused_stopped_or_outside_its_start_and_end(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    def started() -> list[str]:
        return [run["schedule"] for run in client.post("/v1/events", json={"name": "lead.created"}).json()["runs"]]

    at = clock.now()
    times = {"kind": "event", "event": "lead.created"}
    put("early", times=times, starts_at=(at + HOUR).isoformat())
    put("late", times=times, ends_at=(at + HOUR).isoformat())
    put("paused", times=times)
    client.post("/v1/schedules/paused/pause")
    client.post("/v1/scheduler/stop")
    assert started() == []
    client.post("/v1/scheduler/start")
    assert started() == ["late"]
    clock.move(2 * HOUR)
    assert started() == ["early"]
    work = {"agent": "support-assistant", "input": {"message": "x"}}
    over = {"name": "late", "times": times, "task": work, "ends_at": at.isoformat()}
    refused = client.put("/v1/schedules/late", json=over)
    assert (refused.status_code, "ends_at has passed" in refused.text) == (422, True)


def test_a_run_that_an_event_left_waiting_starts_after_the_schedule_was_given_other_times(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(times={"kind": "event", "event": "lead.created"}, overlap="buffer_all")
    for number in range(2):
        client.post("/v1/events", json={"name": "lead.created", "payload": {"number": number}})
    put(overlap="buffer_all")  # hourly from now on
    put("other")
    clock.move(HOUR)
    end(org, runs(client)[0]["task_id"])
    sweep(org)
    assert statuses(client) == ["succeeded", "running", "buffered"]
    assert statuses(client, "other") == ["running"]
    task = client.get(f"/v1/tasks/{runs(client)[1]['task_id']}").json()
    assert task["input"]["context"]["event"]["payload"] == {"number": 1}
    assert task["input"]["has_outside_context"] is True


# ── money, agents ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_that_is_posted_again_changes_nothing(put: Put, client: TestClient) -> None:
    put("welcome", times={"kind": "event", "event": "lead.created"}, remaining_runs=2, overlap="cancel_other")

    def post(key: str) -> list[dict[str, Any]]:
        event = {"name": "lead.created", "payload": {}}
        found: list[dict[str, Any]] = client.post("/v1/events", json=event, headers={"idempotency-key": key}).json()[
            "runs"
        ]
        return found

    first = post("e1")
    assert post("e1") == first
    assert client.get("/v1/schedules/welcome").json()["remaining_runs"] == 1
    assert client.get(f"/v1/tasks/{first[0]['task_id']}").json()["cancel_requested_at"] is None
    second = post("e2")
    assert client.get("/v1/schedules/welcome").json()["remaining_runs"] == 0
    assert post("e2") == second


def test_runs_that_wait_with_an_event_are_skipped_when_the_schedule_follows_another(
    put: Put, client: TestClient, org: UUID
) -> None:
    follows = {"kind": "event", "event": "lead.created"}
    put("welcome", times=follows, overlap="buffer_all")
    for key in ("e1", "e2"):
        client.post("/v1/events", json={"name": "lead.created", "payload": {}}, headers={"idempotency-key": key})
    assert statuses(client, "welcome") == ["running", "buffered"]
    put("welcome", times=follows, overlap="buffer_all", pause_after_failures=3)  # the same event: it waits on
    assert statuses(client, "welcome") == ["running", "buffered"]
    put("welcome", times=follows | {"event": "lead.lost"}, overlap="buffer_all")
    assert statuses(client, "welcome") == ["running", "skipped"]
    end(org, runs(client, "welcome")[0]["task_id"])
    assert sweep(org).ended == 1


def test_a_schedule_that_has_spent_its_budget_skips_until_the_month_is_over(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    clock.move_to(datetime.fromisoformat("2027-01-10T12:00:00+00:00"))
    put(monthly_budget="1.00")
    clock.move(HOUR)
    sweep(org)
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE schedule_runs SET status = 'succeeded', billed_cost = 1.5"))
    clock.move(HOUR)
    sweep(org)
    assert statuses(client) == ["succeeded", "skipped"]
    assert "budget" in runs(client)[-1]["reason"]
    clock.move_to(datetime.fromisoformat("2027-02-01T00:00:01+00:00"))
    sweep(org)
    assert statuses(client)[-1] == "running"


def test_an_agent_that_is_switched_off_has_its_runs_skipped_with_the_reason(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="buffer_all")
    change_agent(org, "support-assistant", enabled=False)
    for _ in range(2):
        clock.move(HOUR)
        sweep(org)
    assert statuses(client) == ["skipped", "skipped"]
    assert "switched off" in runs(client)[0]["reason"]
    assert number_of_tasks(org) == 0


def test_what_is_buffered_is_skipped_if_its_budget_is_spent_or_its_agent_is_off_when_its_turn_comes(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put("poor", overlap="buffer_all", monthly_budget="1.00")
    put("idle", overlap="buffer_all")
    for _ in range(3):
        clock.move(HOUR)
        sweep(org)
    for slug in ("poor", "idle"):
        end(org, runs(client, slug)[0]["task_id"])
    with db.transaction(org) as connection:
        connection.execute(text("UPDATE tasks SET billed_cost = 1 WHERE status = 'succeeded'"))
    change_agent(org, "support-assistant", enabled=False)
    sweep(org)
    assert statuses(client, "poor") == statuses(client, "idle") == ["succeeded", "skipped", "skipped"]
    assert {run["reason"] for run in runs(client, "poor")[1:]} == {"its budget for this month is spent"}
    assert all("switched off" in run["reason"] for run in runs(client, "idle")[1:])


def test_what_was_buffered_before_a_pause_waits_for_its_end(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="buffer_all")
    for _ in range(2):
        clock.move(HOUR)
        sweep(org)
    client.post("/v1/schedules/hourly/pause")
    end(org, runs(client)[0]["task_id"])
    sweep(org)
    assert statuses(client) == ["succeeded", "buffered"]
    client.post("/v1/schedules/hourly/resume")
    assert statuses(client) == ["succeeded", "running"]


def test_the_status_counts_each_schedule_in_the_state_that_it_shows(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    on_event = {"kind": "event", "event": "lead.created"}
    put("due")
    put("waiting", times=on_event)
    put("used-up", times=on_event, remaining_runs=1)
    put("never", remaining_runs=0)
    put("off")
    put("off-and-used-up", times=on_event, remaining_runs=0)
    for slug in ("off", "off-and-used-up"):
        client.post(f"/v1/schedules/{slug}/pause")
    client.post("/v1/events", json={"name": "lead.created"})
    clock.move(HOUR + timedelta(minutes=1))
    status = client.get("/v1/scheduler").json()
    shown = Counter(one["state"] for one in client.get("/v1/schedules").json())
    assert shown == {"active": 2, "paused": 2, "finished": 2}
    assert {name: status[name] for name in shown} == shown
    assert (status["overdue"], status["open_runs"]) == (1, 2)
    assert status["oldest_overdue_seconds"] >= 60


def test_runs_are_listed_in_pages_without_a_gap_and_upcoming_times_end_with_the_runs_left(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(overlap="allow_all", remaining_runs=7)
    put("often", times={"kind": "interval", "every": 1200})
    for _ in range(5):
        clock.move(HOUR)
        sweep(org)
    pages: list[list[str]] = []
    wanted: dict[str, Any] = {"limit": 2}
    for _ in range(3):
        pages.append([run["id"] for run in client.get("/v1/schedules/hourly/runs", params=wanted).json()])
        wanted["before"] = pages[-1][-1]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert client.get("/v1/schedules/hourly/runs", params=wanted).json() == []
    assert [run for page in pages for run in page] == [run["id"] for run in reversed(runs(client))]
    coming = client.get("/v1/scheduler/upcoming", params={"limit": 100}).json()
    assert Counter(one["schedule"] for one in coming) == {"hourly": 2, "often": 98}
    assert [one["at"] for one in coming] == sorted(one["at"] for one in coming)
    assert len(client.get("/v1/schedules/hourly").json()["next_runs"]) == 2


def test_an_expired_run_counts_as_failed_and_a_cancelled_one_for_nothing(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put(pause_after_failures=2)
    for status in ("failed", "cancelled", "expired"):
        clock.move(HOUR)
        sweep(org)
        with db.transaction(org) as connection:
            bound = {"status": status, "id": runs(client)[-1]["task_id"]}
            statement = "UPDATE tasks SET status = :status, finished_at = rota_now() WHERE id = :id"
            connection.execute(text(statement), bound)
    sweep(org)
    assert statuses(client) == ["failed", "cancelled", "expired"]
    found = client.get("/v1/schedules/hourly").json()
    assert (found["state"], found["failures_in_a_row"]) == ("paused", 2)


def test_old_runs_are_forgotten_unless_they_are_open(put: Put, client: TestClient, org: UUID, clock: Clock) -> None:
    put(overlap="buffer_all")
    for _ in range(3):
        clock.move(HOUR)
        sweep(org)
    end(org, runs(client)[0]["task_id"])
    sweep(org)
    clock.move(timedelta(days=30))
    with db.transaction(org) as connection:
        assert schedules.forget_runs(connection, 31) == 0
        assert schedules.forget_runs(connection, 29) == 1
        assert schedules.forget_runs(connection, 29) == 0
    assert statuses(client) == ["running", "buffered"]


def test_schedules_of_another_organisation_are_neither_seen_nor_started(
    put: Put, client: TestClient, org: UUID, clock: Clock
) -> None:
    put()
    put("on-event", times={"kind": "event", "event": "lead.created"})
    other = make_organisation(f"org-{new_id().hex[-12:]}")
    stranger = {"authorization": f"Bearer {make_key(other, SECRET_KEY)}"}
    for method, path in (
        ("get", ""), ("get", "/runs"), ("post", "/pause"), ("post", "/resume"), ("post", "/run"), ("delete", ""),
    ):  # fmt: skip
        answer = client.request(method, f"/v1/schedules/hourly{path}", headers=stranger)
        assert (answer.status_code, "There are: none yet" in answer.text) == (404, True)
    assert client.post("/v1/events", json={"name": "lead.created"}, headers=stranger).json() == {"runs": []}
    client.post("/v1/scheduler/stop", headers=stranger)
    assert client.get("/v1/scheduler").json()["is_running"] is True
    clock.move(HOUR)
    assert sweep(other).attended == 0
    assert sweep(org).started == 1


def test_a_removed_schedule_leaves_its_tasks(put: Put, client: TestClient, org: UUID, clock: Clock) -> None:
    put()
    clock.move(HOUR)
    sweep(org)
    assert client.delete("/v1/schedules/hourly").status_code == 204
    assert client.delete("/v1/schedules/hourly").status_code == 404
    assert number_of_tasks(org) == 1


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"times": {"kind": "cron", "cron": "61 * * * *"}}, "minute: 61 is out of range"),
        ({"times": {"kind": "cron", "cron": "0 0 30 2 *"}}, "day of month: 30 never comes in February"),
        ({"times": {"kind": "cron", "cron": "* * * * *", "timezone": "Mars/Base"}}, "is no time zone"),
        ({"times": {"kind": "interval", "every": 0}}, "every"),
        ({"times": {"kind": "interval", "every": 1.5}}, "whole seconds"),
        ({"times": {"kind": "once", "at": "2020-01-01T00:00:00Z"}}, "never come"),
        ({"times": {"kind": "event", "event": "x", "filter": {"a": {"like": 1}}}}, "is no comparison"),
        ({"overlap": "sometimes"}, "overlap"),
        ({"task": {"agent": "nobody", "input": {"message": "x"}}}, "nobody"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_the_field(
    client: TestClient, change: dict[str, Any], says: str
) -> None:
    body = {
        "name": "x",
        "times": {"kind": "interval", "every": 60},
        "task": {"agent": "support-assistant", "input": {"message": "x"}},
    }
    answer = client.put("/v1/schedules/x", json=body | change)
    assert answer.status_code in {404, 422}
    assert says in answer.text
    assert client.get("/v1/schedules").json() == []


def test_validation_answers_with_words_and_times_or_with_every_field_at_fault(client: TestClient) -> None:
    asked = {"cron": "0 9 * * MON-FRI", "timezone": "America/New_York", "after": "2026-03-06T15:00:00Z", "count": 2}
    found = client.post("/v1/schedules/validate", json=asked | {"language": "es"}).json()
    assert found == {
        "valid": True,
        "errors": [],
        "description": "A las 09:00, de lunes a viernes (America/New_York)",
        "next_runs": ["2026-03-09T13:00:00Z", "2026-03-10T13:00:00Z"],
    }
    wrong = client.post("/v1/schedules/validate", json={"cron": "99 25 * * *", "timezone": "Nowhere"}).json()
    assert wrong["valid"] is False
    assert [error["field"] for error in wrong["errors"]] == ["minute", "hour", "timezone"]
    assert wrong["next_runs"] == []
    asked = {"cron": "99 9 * * *", "timezone": "Nowhere", "language": "es"}
    spanish = client.post("/v1/schedules/validate", json=asked).json()["errors"]
    assert [error["message"].partition(";")[0] for error in spanish] == [
        "99 está fuera de rango",
        "'Nowhere' no es una zona horaria",
    ]
