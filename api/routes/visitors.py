"""Visitors: admit one, and what a visitor may know and do about itself. Its conversations have a file of their own."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from core.db import transaction
from core.settings import settings
from core.wakeup import wakeup
from domain.agents import service as agents
from domain.conversations import service as conversations
from domain.visitors import service as visitors
from domain.visitors.schemas import Admission, NewVisitor, VisitorView
from web.auth import Needs, Principal
from web.problems import describes
from web.visitors import NeedsVisitor, TakesPublishableKey, VisitorCaller, forget_visitors

router = APIRouter(prefix="/v1", tags=["visitors"])

VISITOR = NeedsVisitor()
Visits = Annotated[VisitorCaller, Depends(VISITOR)]


class AdmittedVisitor(BaseModel):
    """A new visitor. Its token is shown only once."""

    id: UUID
    token: str = Field(
        description="opens the visitor's conversations", examples=["rotavis_0198a1b200007000800000000000000a_5f2c9e0d"]
    )
    expires_at: datetime


class VisitedAgent(BaseModel):
    """An agent that visitors may converse with."""

    slug: str
    name: str = Field(description="name to show", examples=["Support"])


class VisitorSelf(BaseModel):
    """A visitor, as it sees itself."""

    id: UUID
    expires_at: datetime = Field(description="time at which the token expires if it is not used any more")
    agents: list[VisitedAgent] = Field(description="agents that it may converse with, the first by default")


@router.post("/visitors", status_code=201, responses=describes(401, 403, 422, 429))
def admit_visitor(
    by: Annotated[Admission, Depends(TakesPublishableKey())], wanted: NewVisitor = NewVisitor()
) -> AdmittedVisitor:
    """Exchange a publishable key for the token of a new visitor. The token is renewed while it is used."""
    with transaction(by.org_id) as connection:
        issued = visitors.admit(connection, by, wanted, settings().pepper)
    return AdmittedVisitor(id=issued.id, token=issued.token, expires_at=issued.expires_at)


@router.get("/visitors/{visitor_id}", responses=describes(401, 403, 404, 422))
def get_visitor(visitor_id: UUID, caller: Annotated[Principal, Depends(Needs("conversations:read"))]) -> VisitorView:
    """Return a visitor, for staff. What it states about itself is not checked."""
    with caller.reading() as connection:
        return visitors.get_visitor(connection, visitor_id)


@router.get("/visitor", responses=describes(401, 403, 429))
def get_visitor_self(caller: Visits) -> VisitorSelf:
    """Return the visitor of the token, and the agents that it may converse with."""
    with caller.reading() as connection:
        found = _agents(connection, caller)
    return VisitorSelf(id=caller.id, expires_at=caller.visitor.expires_at, agents=found)


def _agents(connection: Connection, caller: VisitorCaller) -> list[VisitedAgent]:
    known = {agent.slug: agent for agent in agents.list_agents(connection) if agent.enabled}
    slugs = [slug for slug in caller.visitor.agents if slug in known]
    return [VisitedAgent(slug=slug, name=known[slug].name) for slug in slugs]


@router.delete("/visitor", status_code=204, responses=describes(401, 403, 429))
def remove_visitor_self(caller: Visits) -> None:
    """Delete the visitor of the token: its conversations with their words, and the token."""
    with caller.writing() as connection:
        visitors.lock(connection, caller.id)  # it begins no conversation meanwhile
        conversations.delete_of_visitors(connection, [caller.id])
        visitors.delete(connection, [caller.id])
    forget_visitors()
    wakeup.hint()
