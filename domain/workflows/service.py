"""Verbs on workflows."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.errors import NotFound
from core.ids import new_id
from core.templates import fill
from domain.agents import service as agents
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext, TaskInput, TaskSubmission
from domain.workflows import queries
from domain.workflows.schemas import Run, Workflow, WorkflowFields


def list_workflows(connection: Connection) -> list[Workflow]:
    """Every workflow."""
    return [Workflow(**row) for row in queries.workflows(connection)]


def get_workflow(connection: Connection, slug: str) -> Workflow:
    """The workflow called `slug`.

    Raises:
        NotFound: there is none.
    """
    row = queries.workflow(connection, slug)
    if row is None:
        known = ", ".join(workflow.slug for workflow in list_workflows(connection)) or "none yet"
        raise NotFound(f"There is no workflow called {slug!r}. There are: {known}.")
    return Workflow(**row)


def number_of_tasks(connection: Connection, slug: str) -> int:
    """How many tasks a run of the workflow called `slug` submits.

    Raises:
        NotFound: there is none.
    """
    return len(get_workflow(connection, slug).steps)


def put_workflow(connection: Connection, org: UUID, slug: str, fields: WorkflowFields) -> Workflow:
    """Add or change a workflow. Runs under way stay as they were started.

    Raises:
        NotFound: a step names an agent that is not there.
    """
    for step in fields.steps:
        agents.get_agent(connection, step.agent)
    queries.put_workflow(connection, {"org": org, "slug": slug, **fields.model_dump()})
    return get_workflow(connection, slug)


def remove_workflow(connection: Connection, slug: str) -> None:
    """Take a workflow away.

    Raises:
        NotFound: there is none.
    """
    if not queries.delete_workflow(connection, slug):
        raise NotFound(f"There is no workflow called {slug!r}.")


def start(
    connection: Connection,
    org: UUID,
    slug: str,
    variables: dict[str, Any],
    terms: SubmissionContext,
    *,
    is_from_outside: bool = False,
) -> Run:
    """Submit a workflow's tasks. They share a concurrency key, so each begins when the one before it has ended, however
    that ended; all are submitted, or none. `is_from_outside` where strangers may have had a say in the variables.

    Raises:
        NotFound: there is no such workflow, or an agent of it is gone.
        InvalidInput: nothing is given for a place in a message.
        Conflict: an agent of it is switched off.
    """
    workflow = get_workflow(connection, slug)
    run_id = new_id()
    under = terms.model_copy(update={"workflow_run": run_id})
    made = [
        tasks.submit(
            connection,
            TaskSubmission(
                agent=step.agent,
                input=TaskInput(message=fill(step.message, variables), is_from_outside=is_from_outside),
                concurrency_key=f"workflow:{run_id}",
            ),
            under,
        ).id
        for step in workflow.steps
    ]
    queries.insert_run(connection, {"id": run_id, "org": org, "slug": slug, "variables": variables, "tasks": made})
    return get_run(connection, run_id)


def get_run(connection: Connection, run_id: UUID) -> Run:
    """One run.

    Raises:
        NotFound: there is none.
    """
    row = queries.run(connection, run_id)
    if row is None:
        raise NotFound(f"There is no run {run_id}.")
    return Run(**row)


def list_runs(connection: Connection, slug: str, limit: int = 50) -> list[Run]:
    """The latest runs of a workflow."""
    get_workflow(connection, slug)
    return [Run(**row) for row in queries.runs(connection, slug, limit)]
