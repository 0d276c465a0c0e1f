"""What the command line shows of a task and of a month, where it is not what it seems."""

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from cli import control_views, money_views, task_views

_AT = "2026-11-20T10:00:00+00:00"


def shown(what: RenderableType) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(what)
    return " ".join(console.export_text().split())


def step(**changes: Any) -> dict[str, Any]:
    return {
        "seq": 1, "stage": "decide", "name": "m", "status": "done", "input": {"model": "m1"}, "started_at": _AT,
        "output": {"actions": [], "confidence": None}, "duration_ms": 10, "model": "m1", "input_tokens": 1,
        "output_tokens": 1, "billed_cost": "0",
    } | changes  # fmt: skip


def task(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": "t", "agent": "a", "priority": "normal", "status": "succeeded", "waiting_for": None, "attempts": 1,
        "input": {"message": "hi"}, "created_at": _AT, "finished_at": _AT, "input_tokens": 1, "output_tokens": 1,
        "billed_cost": "0", "model_calls": 1, "error": None, "result": None, "attempt_history": [],
        "steps": list(steps),
    } | changes  # fmt: skip


def test_the_reason_of_a_failed_step_is_shown_whole() -> None:
    reason = "anthropic answered 400: " + "a long reason, " * 20 + "and what to do about it."
    failed = step(status="failed", output={"error": {"kind": "bad_request", "message": reason}})
    assert "and what to do about it." in shown(task_views.waterfall([failed]))
    row = {
        "tasks": 1, "fingerprint": "f", "kind": "bad_request", "last_at": _AT, "agents": ["a"], "message": reason,
        "examples": ["t"],
    }  # fmt: skip
    assert "about it." in shown(task_views.failure_table([row]))


@pytest.mark.parametrize("is_truncated", [True, False])
def test_an_answer_that_was_cut_off_says_so(is_truncated: bool) -> None:
    cut = step(output={"actions": [], "confidence": None, "is_truncated": is_truncated})
    seen = shown(task_views.task_detail(task(cut, result={"answer": "Half an", "is_truncated": is_truncated})))
    assert ("truncated at the limit of output tokens" in seen) is is_truncated
    assert ("answers (truncated)" in seen) is is_truncated
    assert ("max_output_tokens" in seen) is is_truncated


def test_costs_that_are_estimated_or_without_a_price_say_so() -> None:
    seen = shown(task_views.task_detail(task(step(input={"model": "m1", "is_unpriced": True, "is_estimated": True}))))
    assert "unpriced, billed at 0: m1" in seen
    assert "some tokens are estimated" in seen
    assert "unpriced" not in shown(task_views.task_detail(task(step())))


def test_a_month_tells_of_calls_that_are_not_what_they_seem() -> None:
    line = {
        "name": "m1", "model_calls": 3, "rehearsal_calls": 0, "estimated_calls": 2, "unpriced_calls": 3,
        "input_tokens": 1, "cached_tokens": 0, "output_tokens": 1, "base_cost": "0", "billed_cost": "0",
    }  # fmt: skip
    month = {"month": "2026-11-01", "total": line, "by_model": [line], "by_agent": [], "by_conversation": []}
    bill: dict[str, Any] = month | {"by_workflow": [], "closed_at": None, "markup": "0.2"}
    for seen in (shown(money_views.usage_report(month)), shown(money_views.bill(bill))):
        assert "3 of the calls were billed at 0" in seen
        assert "2 of the calls were billed by estimate" in seen
        assert "m1 (unpriced)" in seen
        assert "rehearsed" not in seen


def test_without_workers_the_list_says_how_to_start_one() -> None:
    assert shown(control_views.worker_table([])) == "No workers. Start one: rota worker"
