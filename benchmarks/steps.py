"""Measure the cost of a step in tasks of 3, 33 and 303 steps, with a model that answers at once. A long journal must
not make the next step more expensive than what every call sends again, the conversation. `make bench ONLY=steps`.
"""

from typing import Any

from benchmarks.installation import (
    Installation,
    bar,
    cpu_seconds,
    installation,
    put_bench_agent,
    submit_bench,
    write_results,
)
from benchmarks.model_server import model_server

_CASES = ((0, 400), (15, 60), (150, 6))  # timetable look-ups per task, tasks
_LIMITS = {"max_turns": 300, "max_tokens": 100_000_000, "max_cost": "1000"}
_SHOWN = ("worker", "postgres")


def main() -> None:
    """Measure, print, write."""
    with model_server() as model:
        environment = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none"}
        with installation(environment=environment) as rota:
            put_bench_agent(rota, limits=_LIMITS)
            _case(rota, 1, 100)
            found = [_case(rota, looks, tasks) for looks, tasks in _CASES]
    print(f"{'steps':>6} {'tasks/s':>8} {'steps/s':>8}   CPU ms a step")
    for one in found:
        parts = ", ".join(f"{name} {one['cpu_ms_per_step'][name]:.2f}" for name in _SHOWN)
        print(f"{one['steps']:6.0f} {one['tasks_per_second']:8.1f} {one['steps_per_second']:8.0f}   {parts}")
    bars = [bar(f"{one['steps']:.0f} steps", [sum(one["cpu_ms_per_step"].values())]) for one in found]
    write_results("steps", found, "CPU ms a step, all processes", bars)


def _case(rota: Installation, looks: int, tasks: int) -> dict[str, Any]:
    started = rota.query("SELECT clock_timestamp()")[0][0]
    before = cpu_seconds(rota.data)
    submit_bench(rota, tasks, message=f"When is spin? looks-{looks}")
    rota.wait("SELECT 1 FROM tasks WHERE finished_at IS NULL LIMIT 1")
    ((count, seconds, steps),) = rota.query(
        "SELECT count(*), extract(epoch FROM max(finished_at) - min(created_at))::float, "
        "(SELECT count(*) FROM steps s WHERE s.task_id IN (SELECT id FROM tasks WHERE created_at >= %s)) "
        "FROM tasks WHERE created_at >= %s AND status = 'succeeded'", started, started,
    )  # fmt: skip
    if count != tasks:
        raise RuntimeError(f"{count} of {tasks} tasks succeeded")
    after = cpu_seconds(rota.data)
    return {
        "steps": steps / tasks,
        "tasks_per_second": tasks / seconds,
        "steps_per_second": steps / seconds,
        "cpu_ms_per_step": {name: 1_000 * (after[name] - before[name]) / steps for name in after},
    }
