"""Operations on workflows."""

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
    """Return all workflows."""
    return queries.workflows(connection)


def get_workflow(connection: Connection, slug: str) -> Workflow:
    """Return the workflow called `slug`.

    Raises:
        NotFound: there is no such workflow.
    """
    found = queries.workflow(connection, slug)
    if found is None:
        known = ", ".join(workflow.slug for workflow in list_workflows(connection)) or "none yet"
        raise NotFound(f"There is no workflow called {slug!r}. There are: {known}.")
    return found


def number_of_tasks(connection: Connection, slug: str) -> int:
    """Return how many tasks a run of the workflow called `slug` submits.

    Raises:
        NotFound: there is no such workflow.
    """
    return len(get_workflow(connection, slug).steps)


def put_workflow(connection: Connection, org: UUID, slug: str, fields: WorkflowFields) -> Workflow:
    """Add or change a workflow. Runs in progress are not affected.

    Raises:
        NotFound: a step names an agent that does not exist.
    """
    for step in fields.steps:
        agents.get_agent(connection, step.agent)
    queries.put_workflow(connection, {"org": org, "slug": slug, **fields.model_dump()})
    return get_workflow(connection, slug)


def remove_workflow(connection: Connection, slug: str) -> None:
    """Delete a workflow.

    Raises:
        NotFound: there is no such workflow.
    """
    if not queries.delete_workflow(connection, slug):
        raise NotFound(f"There is no workflow called {slug!r}.")


def start(
    connection: Connection,
    org: UUID,
    slug: str,
    variables: dict[str, Any],
    context: SubmissionContext,
    *,
    is_from_outside: bool = False,
) -> Run:
    """Submit a workflow's tasks, all or none. They share a concurrency key, so each starts when the task before it has
    ended, with whatever status. Set `is_from_outside` if strangers may have influenced the variables.

    Raises:
        NotFound: there is no such workflow, or one of its agents does not exist.
        InvalidInput: a placeholder in a message has no value.
        Conflict: one of its agents is switched off.
    """
    workflow = get_workflow(connection, slug)
    run_id = new_id()
    context = context.model_copy(update={"workflow_run": run_id})
    made = [
        tasks.submit(
            connection,
            TaskSubmission(
                agent=step.agent,
                input=TaskInput(message=fill(step.message, variables), is_from_outside=is_from_outside),
                concurrency_key=f"workflow:{run_id}",
            ),
            context,
        ).id
        for step in workflow.steps
    ]
    queries.insert_run(connection, {"id": run_id, "org": org, "slug": slug, "variables": variables, "tasks": made})
    return get_run(connection, run_id)


def get_run(connection: Connection, run_id: UUID) -> Run:
    """Return the run with this id.

    Raises:
        NotFound: there is no such run.
    """
    found = queries.run(connection, run_id)
    if found is None:
        raise NotFound(f"There is no run {run_id}.")
    return found


def list_runs(connection: Connection, slug: str, limit: int = 50) -> list[Run]:
    """Return the latest runs of a workflow, newest first.

    Raises:
        NotFound: there is no such workflow.
    """
    get_workflow(connection, slug)
    return queries.runs(connection, slug, limit)
