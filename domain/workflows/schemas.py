"""Workflows and their runs."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.text import Storable
from domain.agents.schemas import Slug


class WorkflowStep(BaseModel):
    """A task of a workflow. Placeholders such as `{{name}}` in its message are filled when the workflow is started."""

    model_config = ConfigDict(extra="forbid")

    agent: Slug
    message: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S"), Storable]


class WorkflowFields(BaseModel):
    """The fields of a workflow that people set."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=120), Storable]
    steps: list[WorkflowStep] = Field(min_length=1, max_length=50)


class Workflow(WorkflowFields):
    """A stored workflow."""

    slug: Slug
    changed_at: datetime


class Variables(BaseModel):
    """The values of the placeholders in a workflow's messages."""

    model_config = ConfigDict(extra="forbid")

    variables: Annotated[dict[str, Any], Storable] = {}


class Run(BaseModel):
    """One run of a workflow: its tasks, in the order in which they run."""

    id: UUID
    slug: str
    variables: dict[str, Any]
    tasks: list[UUID]
    started_at: datetime
