"""Tools that involve people and other tasks: asking for approval, escalating, scheduling, starting workflows."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from agents.tools.registry import Parameters, ToolContext, tool
from core.errors import InvalidInput, NotPermitted
from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.office import service as office
from domain.office.schemas import TicketPriority
from domain.tasks import service as tasks
from domain.tasks.schemas import SubmissionContext, TaskInput, TaskSubmission
from domain.tenants import service as tenants
from domain.workflows import service as workflows

_COORDINATORS = ["coordinator", "manager", "owner"]
_SOONEST, _LATEST = timedelta(minutes=1), timedelta(days=366)


class RequestApproval(Parameters):
    """What a person should decide."""

    question: Annotated[str, Field(min_length=5, max_length=500, description="What is to be decided, as a question")]
    details: Annotated[str, Field(max_length=5_000, description="What they need to know to decide")] = ""


class Escalate(Parameters):
    """What goes beyond you."""

    subject: Annotated[str, Field(min_length=1, max_length=200, description="What it is about, in one line")]
    details: Annotated[str, Field(min_length=1, max_length=5_000, description="What happened and what is needed")]
    priority: Annotated[TicketPriority, Field(description="How urgent it is")] = "high"


class Tell(Parameters):
    """What coordinators should know."""

    title: Annotated[str, Field(min_length=1, max_length=200, description="What it is about, in one line")]
    body: Annotated[str, Field(min_length=1, max_length=5_000, description="What they should know")]


class ScheduleTask(Parameters):
    """Which agent, what, and when."""

    agent: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The agent's slug")]
    message: Annotated[str, Field(min_length=1, max_length=5_000, description="What the agent should do then")]
    run_at: Annotated[AwareDatetime, Field(description="When, as YYYY-MM-DDTHH:MM with its offset; within a year")]


class TriggerWorkflow(Parameters):
    """Which workflow, and what fills its places."""

    workflow: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The workflow's slug")]
    variables: Annotated[
        dict[str, str], Field(default_factory=dict, description="What fills the places in its messages, by name")
    ]


@tool(
    "request_approval",
    category="coordination",
    parameters=RequestApproval,
    permission="approvals:request",
    always_asks=True,
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,
    risk="critical",
    returns_untrusted=False,
)
def request_approval(_: ToolContext, wanted: RequestApproval) -> dict[str, Any]:
    """Request approval from a human coordinator for something that no other tool asks about. Waits until a person has
    decided; a refusal comes back with its reason.
    """
    return {"approved": True, "question": wanted.question}


@tool(
    "escalate_issue",
    category="coordination",
    parameters=Escalate,
    permission="tickets:write",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    returns_untrusted=False,
)
def escalate_issue(context: ToolContext, wanted: Escalate) -> dict[str, Any]:
    """Escalate an issue that goes beyond you to a human: opens a support ticket and notifies the coordinators."""
    ticket = office.create_ticket(
        context.connection,
        context.acting,
        subject=wanted.subject,
        body=wanted.details,
        priority=wanted.priority,
        client_id=None,
        assignee=None,
    )
    told = _tell(context, "issue.escalated", wanted.subject, wanted.details)
    return ticket | {"notified": told}


@tool(
    "notify_coordinators",
    category="coordination",
    parameters=Tell,
    permission="notifications:send",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,
    returns_untrusted=False,
)
def notify_coordinators(context: ToolContext, wanted: Tell) -> dict[str, Any]:
    """Notify the human coordinators of something important; it needs no answer."""
    return {"notified": _tell(context, "coordinators.notified", wanted.title, wanted.body)}


def _tell(context: ToolContext, kind: str, title: str, body: str) -> int:
    people = tenants.holders_of(context.connection, context.acting.org_id, _COORDINATORS, context.acting.location_id)
    data = {"agent": context.acting.agent, "task_id": str(context.acting.task_id)}
    notice = Notice(kind=kind, title=title, body=body, data=data, location_id=context.acting.location_id)
    channels.tell(
        context.connection, context.acting.org_id, [person.id for person in people], notice,
        written_by=context.acting.task_id,
    )  # fmt: skip
    return len(people)


@tool(
    "schedule_task",
    category="automation",
    parameters=ScheduleTask,
    permission="tasks:write",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    risk="moderate",
    returns_untrusted=False,
)
def schedule_task(context: ToolContext, wanted: ScheduleTask) -> dict[str, Any]:
    """Schedule a task for an agent, yourself or another, at a time to come. It is done for the same person, at the same
    location. Returns its task_id.
    """
    now = datetime.now(UTC)
    if not now + _SOONEST <= wanted.run_at <= now + _LATEST:
        here = now.astimezone(context.zone)
        raise InvalidInput(f"run_at must be at least a minute and at most a year away; it is now {here:%F %H:%M %z}.")
    submission = TaskSubmission(
        agent=wanted.agent,
        input=TaskInput(message=wanted.message, is_from_outside=context.acting.read_untrusted),
        run_after=wanted.run_at,
    )
    inherited = _same_context(context, 1)
    made = tasks.submit(context.connection, submission, inherited)
    return {"task_id": made.id, "agent": made.agent, "run_at": wanted.run_at.astimezone(context.zone).isoformat()}


def _same_context(context: ToolContext, count: int) -> SubmissionContext:
    """Return the submission context of `count` tasks that this task starts: for its user, location and scopes, and
    within its bounds.

    Raises:
        Conflict: they would exceed a limit on the tasks that stem from one task.
    """
    acting, start = context.acting, context.acting.may_start
    if start is None:
        raise NotPermitted("Only a task can start others.")
    inherited = SubmissionContext(
        user_id=acting.user_id,
        location_id=acting.location_id,
        origin_id=acting.task_id,
        scopes=acting.scopes,
        root_id=start.root_id,
        depth=start.depth,
        bounds=start.bounds,
    )
    tasks.reserve_in_tree(context.connection, acting.org_id, inherited, count, max_children=start.max_children)
    return inherited


@tool(
    "trigger_workflow",
    category="automation",
    parameters=TriggerWorkflow,
    permission="workflows:run",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    risk="moderate",
    returns_untrusted=False,
)
def trigger_workflow(context: ToolContext, wanted: TriggerWorkflow) -> dict[str, Any]:
    """Start (trigger, run) a workflow: its tasks are done one after the other, with your variables in their
    messages.
    """
    inherited = _same_context(context, workflows.number_of_tasks(context.connection, wanted.workflow))
    run = workflows.start(
        context.connection,
        context.acting.org_id,
        wanted.workflow,
        wanted.variables,
        inherited,
        is_from_outside=context.acting.read_untrusted,
    )
    return {"run_id": run.id, "workflow": run.slug, "tasks": run.tasks}


COORDINATION_TOOLS = [
    request_approval,
    escalate_issue,
    notify_coordinators,
    schedule_task,
    trigger_workflow,
]
