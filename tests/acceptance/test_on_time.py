"""Schedules and follow-ups from the command line, as people use them."""

import json
from uuid import UUID

from tests.support.installation import Installation


def test_a_schedule_is_added_shown_run_paused_and_removed(rota: Installation) -> None:
    added = rota.run("schedules", "add", "mornings", "What is on?", "--agent", "support", "--cron", "30 8 * * MON-FRI")
    assert "At 08:30, Monday through Friday (Europe/Madrid)" in added.stdout
    assert added.stdout.count("next") == 5
    assert "mornings" in rota.run("schedules", "list").stdout
    started = rota.run("schedules", "run", "mornings").stdout
    task = started.split()[-1]
    assert rota.ended(str(UUID(task)))["status"] == "succeeded"
    shown = json.loads(rota.run("schedules", "show", "mornings", "--json").stdout)
    assert [run["task_id"] for run in shown["runs"]] == [task]
    preview = rota.run("schedules", "backfill", "mornings", "2026-11-02T00:00", "2026-11-07T00:00", "--preview").stdout
    assert preview.startswith("5 runs, Mon 2026-11-02")
    paused = rota.run("schedules", "pause", "mornings", "--note", "holidays").stdout
    assert "paused" in paused
    assert "note: holidays" in paused
    assert "paused" not in rota.run("schedules", "resume", "mornings").stdout
    assert "running" in rota.run("schedules", "status").stdout
    rota.run("schedules", "check")
    rota.run("schedules", "remove", "mornings")
    assert "There is no schedule called 'mornings'" in rota.run("schedules", "show", "mornings", check=False).stderr


def test_what_a_schedule_cannot_be_is_told_in_words(rota: Installation) -> None:
    def refusal(*options: str) -> str:
        done = rota.run("schedules", "add", "x", "hello", "--agent", "support", *options, check=False)
        assert done.returncode != 0
        return done.stderr

    assert "minute: 61 is out of range" in refusal("--cron", "61 8 * * *")
    assert "is no time zone" in refusal("--cron", "0 8 * * *", "--timezone", "Mars/Base")
    assert "Give one of --cron, --every, --at and --on-event" in refusal()
    assert "is not a duration" in refusal("--every", "soon")


def test_follow_ups_are_switched_on_looked_at_and_switched_off(rota: Installation) -> None:
    assert "quote sent" in rota.run("followups", "rules").stdout
    assert "on" in rota.run("followups", "on", "quotes").stdout
    assert "planned" in rota.run("followups", "check").stdout
    assert "No follow-ups" in rota.run("followups", "list").stdout
    assert "No follow-ups in that period" in rota.run("followups", "report").stdout
    assert rota.run("followups", "off", "quotes").stdout.strip().endswith("off")
    assert "There are: abandoned-carts" in rota.run("followups", "on", "quote", check=False).stderr
