"""What the command line shows: tables at several widths, foreign text, empty lists and missing values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from cli import agent_views, approval_views, control_views, money_views, people_views, task_views, terminal

ID = "01a22246-5eff-71cb-8a77-199579ac5dc9"
AT = "2026-11-20T10:00:00+00:00"
FOREIGN = "[red]日本語の名前[/red] [/] :id: \x1b[31m\x9bend " + "ñandú " * 20
"""text from outside: markup, control characters, wide characters, more words than a line holds"""


def lines(what: RenderableType, width: int = 80) -> list[str]:
    console = Console(width=width, highlight=False, color_system=None, emoji=False)  # as terminal.out, at any width
    with console.capture() as capture:
        console.print(what)
    return capture.get().splitlines()


def words(what: RenderableType, width: int = 200) -> str:
    return " ".join(" ".join(lines(what, width)).split())


def task(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID, "agent": "support-assistant", "status": "failed", "priority": "normal", "attempts": 2,
        "max_attempts": 5, "started_at": AT, "finished_at": "2026-11-20T10:00:01.500000+00:00", "created_at": AT,
        "billed_cost": "0.5", "input": {"message": FOREIGN}, "waiting_for": None, "input_tokens": 1,
        "output_tokens": 2, "model_calls": 1, "error": {"kind": "timeout", "message": FOREIGN},
        "result": {"answer": FOREIGN}, "why": FOREIGN, "next": FOREIGN, "steps": [step(1), unknown_step()],
        "attempt_history": [attempt(), attempt(ended_at=None, outcome=None, counted=None, error=None)],
    } | changes  # fmt: skip


def attempt(**changes: Any) -> dict[str, Any]:
    return {
        "worker": FOREIGN, "started_at": AT, "ended_at": AT, "outcome": "failed", "counted": True,
        "error": {"kind": "timeout", "message": FOREIGN},
    } | changes  # fmt: skip


def step(seq: int, **changes: Any) -> dict[str, Any]:
    return {
        "seq": seq, "stage": "act", "name": FOREIGN, "status": "done", "input": {"query": FOREIGN, "_hidden": "x"},
        "output": {"ok": True}, "started_at": AT, "duration_ms": 10, "model": None, "input_tokens": 0,
        "output_tokens": 0, "billed_cost": "0",
    } | changes  # fmt: skip


def unknown_step() -> dict[str, Any]:
    return step(2, status="unknown", output={})


def approval(**changes: Any) -> dict[str, Any]:
    decision = {
        "rule": FOREIGN, "context": {"message": FOREIGN}, "intent": FOREIGN, "why": FOREIGN, "reasoning": FOREIGN,
        "confidence": 0.9, "alternatives": [FOREIGN], "because": [FOREIGN],
        "performance": {"done": 3, "refused": 1, "approved": 2, "rejected": 0},
    }  # fmt: skip
    return {
        "id": ID, "kind": "approval", "status": "open", "agent": "support-assistant", "tool": FOREIGN,
        "arguments": {"body": FOREIGN}, "expires_at": AT, "decision": decision, "decided_by": FOREIGN, "task_id": ID,
        "seq": 4, "asks": [{"roles": ["manager"], "users": [FOREIGN], "then": "expires"}], "stage": 0, "needed": 1,
        "votes": [{"user": FOREIGN, "verdict": "approve", "counts": True, "words": FOREIGN}], "reason": FOREIGN,
        "linked_task": ID,
    } | changes  # fmt: skip


def worker(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID, "name": FOREIGN, "status": "draining", "draining_because": FOREIGN, "queues": ["high", "low"],
        "running": 5, "concurrency": 4, "wanted_concurrency": 8, "memory_bytes": 123_456_789, "stuck": 1,
        "tasks": [{"agent": "support-assistant", "since": AT}] * 4,
    } | changes  # fmt: skip


def usage(**changes: Any) -> dict[str, Any]:
    return {
        "name": FOREIGN, "model_calls": 3, "rehearsal_calls": 1, "estimated_calls": 1, "unpriced_calls": 1,
        "input_tokens": 1_234_567, "cached_tokens": 5, "output_tokens": 10, "base_cost": "1", "billed_cost": "1.2",
    } | changes  # fmt: skip


def bill(markup: str = "0.2") -> dict[str, Any]:
    by = {f"by_{part}": [usage()] for part in ("model", "agent", "conversation", "workflow")}
    return {"month": "2026-11-01", "closed_at": None, "markup": markup, "total": usage(), **by}


def message(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID, "channel": "email", "recipient": FOREIGN, "status": "failed", "attempts": 3, "sent_at": None,
        "send_after": AT, "is_rehearsal": True, "subject": FOREIGN, "body": FOREIGN, "error": FOREIGN,
    } | changes  # fmt: skip


def user(**changes: Any) -> dict[str, Any]:
    grants = [{"role": "owner", "location": None}, {"role": "staff", "location": "north"}]
    return {"email": "a@example.com", "name": FOREIGN, "grants": grants, "is_operator": True, "disabled_at": None} | (
        changes
    )


def key(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID, "name": FOREIGN, "user": FOREIGN, "scopes": ["tasks:*", "*:read"], "last_used_at": None,
        "revoked_at": None, "expires_at": None,
    } | changes  # fmt: skip


def publishable_key(**changes: Any) -> dict[str, Any]:
    return {
        "id": ID, "name": FOREIGN, "agents": ["support-assistant"], "origins": ["https://www.example.com"],
        "permissions": ["classes:read"], "messages_today": 7, "revoked_at": None, "expires_at": None,
    } | changes  # fmt: skip


def agent(slug: str = "support-assistant") -> dict[str, Any]:
    return {"slug": slug, "name": FOREIGN, "model": FOREIGN, "tools": ["a", "b"], "enabled": True}


def failure(**changes: Any) -> dict[str, Any]:
    return {
        "tasks": 3, "fingerprint": "1a2b3c4d5e6f", "kind": FOREIGN, "last_at": AT, "agents": [FOREIGN],
        "message": FOREIGN, "examples": [ID],
    } | changes  # fmt: skip


def paused() -> list[dict[str, Any]]:
    return [{"kind": "agent", "name": FOREIGN, "reason": FOREIGN}]


def limits(**changes: Any) -> dict[str, Any]:
    return {
        "in_flight": 0, "max_in_flight": None, "started_last_minute": 7, "starts_per_minute": 0, "weight": 1,
    } | changes  # fmt: skip


VIEWS: dict[str, Callable[[], RenderableType]] = {
    "tasks": lambda: task_views.task_table([task()]),
    "task": lambda: task_views.task_detail(task()),
    "steps": lambda: task_views.waterfall([step(1), step(2)]),
    "failures": lambda: task_views.failure_table([failure()]),
    "workers": lambda: control_views.worker_table([worker()]),
    "limits": lambda: control_views.limits(limits(), paused()),
    "approvals": lambda: approval_views.approval_table([approval()]),
    "approval": lambda: approval_views.approval_detail(approval()),
    "notifications": lambda: approval_views.notification_list([{"title": FOREIGN, "body": FOREIGN, "created_at": AT}]),
    "usage": lambda: money_views.usage_report(bill()),
    "bill": lambda: money_views.bill(bill()),
    "users": lambda: people_views.user_table([user()]),
    "keys": lambda: people_views.key_table([key()]),
    "publishable keys": lambda: people_views.publishable_table([publishable_key()]),
    "messages": lambda: people_views.message_table([message()]),
    "agents": lambda: agent_views.agent_table([agent()], []),
    "facts": lambda: terminal.facts({"name": FOREIGN, "none": None}),
}


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("view", VIEWS)
def test_foreign_text_is_neither_markup_nor_obeyed_and_every_line_fits(view: str, width: int) -> None:
    seen = lines(VIEWS[view](), width)
    text = "\n".join(seen)
    assert not [letter for letter in text if letter != "\n" and not letter.isprintable()]
    assert "[red]" in text
    assert "🆔" not in text
    assert [line for line in seen if cell_len(line) > width] == []


@pytest.mark.parametrize(
    "view", ["tasks", "task", "workers", "approvals", "approval", "keys", "publishable keys", "messages"]
)
def test_the_id_that_other_commands_take_is_whole_in_80_columns(view: str) -> None:
    assert any(ID in line for line in lines(VIEWS[view]()))


def test_words_between_colons_stay_words() -> None:
    with terminal.out.capture() as capture:
        terminal.out.print("order:id:7 is :x:")
    assert capture.get() == "order:id:7 is :x:\n"


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_in_a_list_shows_how_long_it_took_and_its_attempts() -> None:
    seen = words(task_views.task_table([task(input={"message": "two\nlines"})]))
    assert f"{ID} support-assistant failed normal 2/5 1.5 s $0.50 two lines" in seen
    waiting = task(status="queued", started_at=None, finished_at=None, input={"message": "hi"})
    assert "queued normal 2/5 $0.50 hi" in words(task_views.task_table([waiting]))


def test_bars_show_when_each_step_began_and_its_share_of_the_time() -> None:
    steps = [
        step(1, duration_ms=1000, name="first"),
        step(2, started_at="2026-11-20T10:00:01+00:00", duration_ms=1000, name="second"),
        step(3, started_at="2026-11-20T10:00:02+00:00", duration_ms=0, name="third"),
    ]
    bars = lines(task_views.waterfall(steps), 200)[1:]
    assert [bar.count("█") for bar in bars] == [10, 10, 1]
    assert [bar.index("█") - bars[0].index("█") for bar in bars] == [0, 10, 19]


def test_steps_without_duration_have_a_bar_too() -> None:
    assert lines(task_views.waterfall([step(1, duration_ms=0)]), 200)[1].count("█") == 1
    assert words(task_views.waterfall([])) == "No steps recorded yet."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "begun"}, "running"),
        ({"status": "unknown"}, "outcome unknown"),
        ({"status": "failed", "output": {"settled": "do_again"}}, "settled: to be repeated"),
        ({"status": "failed", "output": {"error": {"kind": "timeout", "message": "too\nslow"}}}, "timeout: too slow"),
        ({"output": {"ok": True}, "input": {"query": "Ana", "_key": "x"}}, "ok query Ana"),
        ({"output": {"ok": False}, "input": {}}, "refused"),
        ({"output": {"ok": False, "suggested": True}, "input": {}}, "suggested"),
        ({"stage": "decide", "output": {"actions": [], "confidence": None}}, "answers"),
        (
            {"stage": "decide", "output": {"actions": [{"tool": "a"}, {"tool": "b"}], "confidence": 0.5}},
            "→ a, b (50% sure)",
        ),
        ({"stage": "decide", "output": {"actions": [{"tool": "a"}], "confidence": 0}}, "→ a (0% sure)"),
    ],
)
def test_a_step_says_in_few_words_what_it_did(changes: dict[str, Any], said: str) -> None:
    assert words(task_views.waterfall([step(1, name="x", **changes)])).endswith(said)


def test_an_action_in_doubt_shows_what_was_attempted_and_both_commands() -> None:
    seen = words(task_views.task_detail(task(steps=[step(7, status="unknown", input={"amount": 59, "_key": "k"})])))
    assert "amount = 59" in seen
    assert "_key" not in seen
    assert f"rota settle {ID} 7 --happened" in seen
    assert f"rota settle {ID} 7 --do-again" in seen


def test_attempts_are_shown_if_there_were_several_or_the_task_failed() -> None:
    once = {"attempt_history": [attempt(worker="w1", error=None)], "steps": [], "result": None}
    assert "w1" not in words(task_views.task_detail(task(**once, error=None)))
    assert "w1" in words(task_views.task_detail(task(**once)))
    again = once | {"attempt_history": [attempt(worker="w1"), attempt(worker="w2", outcome=None, counted=False)]}
    seen = words(task_views.task_detail(task(**again, error=None)))
    assert "w1" in seen
    assert "running no" in seen


# ── workers and limits ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_shows_its_wanted_size_and_three_of_its_tasks() -> None:
    since = (datetime.now(UTC) - timedelta(minutes=10)).isoformat()
    row = worker(name="gpu", draining_because="deploy", tasks=[{"agent": "a", "since": since}] * 4)
    seen = words(control_views.worker_table([row]))
    assert "draining (deploy)" in seen
    assert "5 4 → 8 123 MB 1" in seen
    assert seen.count("a 60") == 3
    assert "2 more" in seen


@pytest.mark.parametrize("wanted", [None, 4])
def test_a_worker_of_the_wanted_size_shows_one_number(wanted: int | None) -> None:
    row = worker(wanted_concurrency=wanted, status="alive", draining_because=None, memory_bytes=None, stuck=0)
    seen = words(control_views.worker_table([row | {"name": "gpu", "tasks": [], "running": 0}]))
    assert "high, low 0 4" in seen
    assert "→" not in seen
    assert "MB" not in seen
    assert "more" not in seen


def test_a_limit_of_zero_is_not_called_no_limit() -> None:
    seen = words(control_views.limits(limits(), []))
    assert "tasks in flight 0, no limit" in seen
    assert "tasks started in the last 60 s 7, limit 0" in seen


# ── approvals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_approver_sees_what_is_missing_as_a_dash_and_no_confidence_apart_from_zero() -> None:
    nothing: dict[str, Any] = {"intent": None, "why": "", "reasoning": None, "alternatives": [], "confidence": None}
    row = approval(decision=approval()["decision"] | nothing)
    seen = words(approval_views.approval_detail(row))
    for name in ("intent", "why", "confidence", "alternatives"):
        assert f"{name} - " in seen
    unsure = approval(decision=approval()["decision"] | {"confidence": 0})
    assert "confidence 0% " in words(approval_views.approval_detail(unsure))
    assert "no arguments" in words(approval_views.approval_detail(approval(arguments={})))


def test_an_approval_names_who_may_decide_at_its_stage() -> None:
    asks = [
        {"roles": ["manager"], "users": [], "then": "escalates"},
        {"roles": ["owner"], "users": ["a@example.com"], "then": "expires"},
    ]
    first = words(approval_views.approval_detail(approval(asks=asks, stage=0)))
    assert "approvers manager; 1 needed" in first
    assert "then escalates" in first
    last = words(approval_views.approval_detail(approval(asks=asks, stage=2, kind="suggestion")))
    assert "approvers the user of the task, owner, a@example.com; 1 needed" in last
    assert "then expires" in last


def test_a_vote_for_an_earlier_version_is_marked() -> None:
    votes = [
        {"user": "a@example.com", "verdict": "approve", "counts": False, "words": None},
        {"user": "b@example.com", "verdict": "reject", "counts": True, "words": "too much"},
    ]
    seen = words(approval_views.approval_detail(approval(votes=votes)))
    assert "a@example.com: approve (does not count: of an earlier version or stage)" in seen
    assert "b@example.com: reject too much" in seen


# ── money, people, agents ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("markup", "said"),
    [("0.2", "20%"), ("0.2000", "20%"), ("0", "0%"), ("0.125", "12.5%"), ("0.0725", "7.25%"), ("1", "100%")],
)
def test_the_markup_of_a_bill_is_exact(markup: str, said: str) -> None:
    assert f"markup {said} billed" in words(money_views.bill(bill(markup)))


def test_a_bill_says_whether_it_is_closed_and_leaves_out_empty_parts() -> None:
    seen = words(money_views.bill(bill() | {"by_workflow": [], "closed_at": AT}))
    assert "2026-11 (closed 11-" in seen
    assert "by conversation" in seen
    assert "by workflow" not in seen
    assert "1,234,567" in seen
    assert "(not closed yet)" in words(money_views.bill(bill()))


def test_users_are_shown_with_the_locations_of_their_roles() -> None:
    seen = lines(people_views.user_table([user(name="Ana"), user(name="Leo", is_operator=False)]), 200)
    assert seen[1].split() == ["a@example.com", "Ana", "owner,", "staff@north", "yes"]
    assert seen[2].split() == ["a@example.com", "Leo", "owner,", "staff@north"]


def test_a_key_that_ended_or_was_never_used_says_so() -> None:
    revoked = key(name="old", user="u", revoked_at=AT)
    assert "tasks:* *:read never revoked" in words(people_views.key_table([revoked]))
    assert words(people_views.key_table([key(name="new", user="u")])).endswith("tasks:* *:read never")
    assert "revoked" not in words(people_views.key_table([key(name="new", user="u", expires_at=AT)]))


def test_a_message_without_a_subject_shows_its_text_and_that_it_is_rehearsed() -> None:
    row = message(subject=None, body="See you", recipient="r", error=None)
    assert "[Rehearsal] See you" in words(people_views.message_table([row]))
    assert "Rehearsal" not in words(people_views.message_table([row | {"is_rehearsal": False}]))


def test_an_agent_without_tasks_has_no_rate_of_success_and_one_that_failed_has_zero() -> None:
    statistics = [{"agent": "b", "tasks": 4, "success_rate": 0.0, "billed_cost": "1"}]
    rows = lines(agent_views.agent_table([agent("a") | {"name": "A", "model": "m"}, agent("b")], statistics), 400)
    assert rows[1].split() == ["a", "A", "m", "2", "yes", "0", "$0.00"]
    assert rows[2].split()[-4:] == ["yes", "4", "0%", "$1.00"]


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (task_views.failure_table, "No failed tasks."),
        (control_views.worker_table, "No workers. Start one: rota worker"),
        (approval_views.notification_list, "No unread notifications."),
    ],
)
def test_an_empty_list_is_a_sentence(view: Any, said: str) -> None:
    assert words(view([])) == said


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("P1DT2H", "1d 2h"),
        ("-P1DT2H", "-1d 2h"),
        ("PT90M", "1h 30m"),
        ("P14D", "14d"),
        ("PT59M59S", "59m"),
        ("PT0S", "at once"),
        ("PT30S", "at once"),
        ("-PT30S", "at once"),
        ("P400DT1M", "400d 1m"),
    ],
)
def test_durations_are_short(text: str, said: str) -> None:
    assert terminal.length_of_time(text) == said


def test_seconds_between_two_times_in_different_zones() -> None:
    assert terminal.seconds_between(AT, "2026-11-20T12:00:30+02:00") == 30
    assert terminal.seconds_between(None, AT) is None
    begun = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    running = terminal.seconds_between(begun, None)
    assert running is not None
    assert running >= 3600


def test_a_filter_that_matches_nothing_says_how_to_list_all() -> None:
    assert words(terminal.nothing("None yet.", "No task matches", "rota tasks", None, [], "")) == "None yet."
    assert (
        words(terminal.nothing("None yet.", "No task matches", "rota tasks", None, "x"))
        == "No task matches. List all: rota tasks"
    )
