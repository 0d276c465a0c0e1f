"""Workflows: sequences of tasks."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path

from core.wakeup import wakeup
from domain.tasks.schemas import SubmissionContext
from domain.workflows import service as workflows
from domain.workflows.schemas import Run, Variables, Workflow, WorkflowFields
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["workflows"])

Reads = Annotated[Principal, Depends(Needs("workflows:read"))]
Writes = Annotated[Principal, Depends(Needs("workflows:write"))]
Runs = Annotated[Principal, Depends(Needs("workflows:run"))]
SlugPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["welcome"])]


@router.get("/workflows", responses=describes(401, 403))
def list_workflows(caller: Reads) -> list[Workflow]:
    """List all workflows."""
    with caller.reading() as connection:
        return workflows.list_workflows(connection)


@router.put("/workflows/{slug}", responses=describes(401, 403, 404, 422))
def put_workflow(slug: SlugPath, fields: WorkflowFields, caller: Writes) -> Workflow:
    """Add or change a workflow. `{{name}}` in a message is filled in when the workflow is started."""
    with caller.writing() as connection:
        return workflows.put_workflow(connection, caller.org_id, slug, fields)


@router.get("/workflows/{slug}", responses=describes(401, 403, 404, 422))
def get_workflow(slug: SlugPath, caller: Reads) -> Workflow:
    """Return one workflow."""
    with caller.reading() as connection:
        return workflows.get_workflow(connection, slug)


@router.delete("/workflows/{slug}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_workflow(slug: SlugPath, caller: Writes) -> None:
    """Remove a workflow; its runs are kept."""
    with caller.writing() as connection:
        workflows.remove_workflow(connection, slug)


@router.post("/workflows/{slug}/runs", status_code=202, responses=describes(401, 403, 404, 409, 422))
def start_workflow(slug: SlugPath, caller: Runs, given: Variables = Variables()) -> Run:
    """Start a workflow. Each task starts when the previous one has ended, whatever its outcome."""
    with caller.writing() as connection:
        context = SubmissionContext(user_id=caller.user_id, scopes=caller.scopes)
        run = workflows.start(connection, caller.org_id, slug, given.variables, context)
    wakeup.hint()
    return run


@router.get("/workflows/{slug}/runs", responses=describes(401, 403, 404, 422))
def list_runs(slug: SlugPath, caller: Reads) -> list[Run]:
    """List the latest runs of a workflow."""
    with caller.reading() as connection:
        return workflows.list_runs(connection, slug)


@router.get("/runs/{run_id}", responses=describes(401, 403, 404, 422))
def get_run(run_id: UUID, caller: Reads) -> Run:
    """Return one run with its tasks, in order."""
    with caller.reading() as connection:
        return workflows.get_run(connection, run_id)
