"""Follow-ups: rules, planned and sent messages and their outcomes; contacts' preferences and replies."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime

from agents.learning.learner import Learner
from core.packs import installed
from core.text import Storable
from core.wakeup import wakeup
from domain.channels import service as channels
from domain.channels.schemas import Received
from domain.contacts import service as contacts
from domain.contacts.schemas import Contact as ContactView
from domain.contacts.schemas import PreferenceChange, Preferences
from domain.followups import rules, sweep
from domain.followups import service as followups
from domain.followups.schemas import (
    Effect,
    FollowUp,
    KeptReply,
    NewReply,
    Rule,
    RuleFields,
    Status,
    Swept,
    Switch,
)
from domain.learning import service as learning
from domain.learning.schemas import Arm, StoredChoice
from web.auth import Needs, Principal
from web.problems import describes

router = APIRouter(prefix="/v1", tags=["follow-ups"])

Reads = Annotated[Principal, Depends(Needs("follow_ups:read"))]
Writes = Annotated[Principal, Depends(Needs("follow_ups:write"))]
SlugPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["quotes"])]
Limit = Annotated[int, Query(ge=1, le=200)]
Before = Annotated[UUID | None, Query(description="last id of the previous page")]
Contact = Annotated[UUID | None, Query(description="only of this contact")]
Search = Annotated[
    str, Query(max_length=200, description="part of a name, address or number, or the beginning of an id"), Storable
]


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/follow-up-rules", responses=describes(401, 403))
def list_rules(caller: Reads) -> list[Rule]:
    """List all rules by slug: built-in ones and your own."""
    with caller.reading() as connection:
        return rules.list_rules(connection)


@router.get("/follow-up-rules/{slug}", responses=describes(401, 403, 404, 422))
def get_rule(slug: SlugPath, caller: Reads) -> Rule:
    """Return a rule."""
    with caller.reading() as connection:
        return rules.get_rule(connection, slug)


@router.put("/follow-up-rules/{slug}", responses=describes(401, 403, 404, 422))
def put_rule(slug: SlugPath, fields: RuleFields, caller: Writes) -> Rule:
    """Add or change a rule. You become the user of its tasks. A new rule is off; messages that are already planned come
    due by the new delays.
    """
    with caller.writing() as connection:
        return rules.put_rule(connection, caller.org_id, slug, fields, caller.user_id, caller.scopes)


@router.post("/follow-up-rules/{slug}/switch", responses=describes(401, 403, 404, 422))
def switch_rule(slug: SlugPath, wanted: Switch, caller: Writes) -> Rule:
    """Switch a rule on or off. When switched on, it applies to events from now on, and you become the user of its
    tasks. When switched off, its planned messages are not sent.
    """
    with caller.writing() as connection:
        return rules.switch_rule(connection, caller.org_id, slug, caller.user_id, caller.scopes, is_on=wanted.is_on)


@router.delete("/follow-up-rules/{slug}", status_code=204, responses=describes(401, 403, 404, 422))
def remove_rule(slug: SlugPath, caller: Writes) -> None:
    """Remove a rule. A built-in rule is reset to its default, switched off. Planned messages are not sent."""
    with caller.writing() as connection:
        rules.remove_rule(connection, caller.org_id, slug)


# ── follow-ups ───────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/follow-ups", responses=describes(401, 403, 422))
def list_follow_ups(
    caller: Reads,
    rule: Annotated[str | None, Query(max_length=63)] = None,
    status: Status | None = None,
    contact: Contact = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[FollowUp]:
    """List follow-ups, latest first, with recipient, reason, time and outcome."""
    with caller.reading() as connection:
        return followups.list_follow_ups(
            connection, rule=rule, status=status, contact=contact, before=before, limit=limit
        )


@router.get("/follow-ups/effectiveness", responses=describes(401, 403, 422))
def effectiveness(
    caller: Reads,
    since: Annotated[
        AwareDatetime | None,
        Query(description="only follow-ups planned for this time or later; default: the last 90 days"),
    ] = None,
) -> list[Effect]:
    """Count planned, sent, answered and converted follow-ups and their revenue, per rule, step, channel and variant."""
    with caller.reading() as connection:
        return followups.effectiveness(connection, since)


@router.post("/follow-ups/check", responses=describes(401, 403))
def check_follow_ups(caller: Writes) -> Swept:
    """Plan new follow-ups and start due ones now, instead of at the next periodic check."""
    planned = sweep.plan(caller.org_id)
    attended = sweep.attend(caller.org_id, Learner().choose)
    wakeup.hint()
    return sweep.total(planned, attended)


@router.get("/follow-ups/{follow_up_id}", responses=describes(401, 403, 404, 422))
def get_follow_up(follow_up_id: UUID, caller: Reads) -> FollowUp:
    """Return a follow-up."""
    with caller.reading() as connection:
        return followups.get_follow_up(connection, follow_up_id)


@router.post("/follow-ups/{follow_up_id}/stop", responses=describes(401, 403, 404, 409, 422))
def stop_follow_up(follow_up_id: UUID, caller: Writes) -> FollowUp:
    """Stop a follow-up from being sent. Idempotent."""
    with caller.writing() as connection:
        return followups.stop_follow_up(connection, caller.org_id, follow_up_id)


# ── contacts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/contacts", responses=describes(401, 403, 422))
def list_contacts(
    caller: Annotated[Principal, Depends(Needs("contacts:read"))],
    search: Search = "",
    limit: Limit = 50,
) -> list[ContactView]:
    """List contacts by name, with their preferences. Each kind of contact needs the permission to read it."""
    readable = [(kind, permission) for pack in installed() for kind, permission in pack.contact_kinds.items()]
    kinds = [kind for kind, permission in readable if caller.reach_of(permission).everywhere]
    with caller.reading() as connection:
        return contacts.search(connection, search, kinds, limit=limit)


@router.get("/contacts/{contact}/preferences", responses=describes(401, 403, 404, 422))
def get_preferences(contact: UUID, caller: Annotated[Principal, Depends(Needs("contacts:read"))]) -> Preferences:
    """Return a contact's preferences: consent to advertising, opt-out from follow-ups, time zone."""
    with caller.reading() as connection:
        return contacts.get_preferences(connection, contact)


@router.patch("/contacts/{contact}/preferences", responses=describes(401, 403, 404, 422))
def change_preferences(
    contact: UUID, change: PreferenceChange, caller: Annotated[Principal, Depends(Needs("contacts:write"))]
) -> Preferences:
    """Change a contact's preferences. Fields that are not sent keep their values. An opt-out stops planned and queued
    follow-ups.
    """
    with caller.writing() as connection:
        return followups.change_preferences(connection, caller.org_id, contact, change)


@router.get("/inbox", responses=describes(401, 403, 422))
def list_received(
    caller: Annotated[Principal, Depends(Needs("inbox:read"))],
    contact: Contact = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[Received]:
    """List messages received from contacts, newest first."""
    with caller.reading() as connection:
        return channels.list_received(connection, contact=contact, before=before, limit=limit)


@router.post("/inbox", status_code=201, responses=describes(401, 403, 404, 422))
def receive(reply: NewReply, caller: Annotated[Principal, Depends(Needs("inbox:write"))]) -> KeptReply:
    """Record a message from a contact. It stops their open follow-ups; STOP or BAJA opts them out. The headers of an
    e-mail tell automatic replies and bounces from answers.
    """
    with caller.writing() as connection:
        return followups.receive(connection, caller.org_id, reply)


# ── learning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/learning/arms", responses=describes(401, 403, 422))
def list_arms(caller: Reads, policy: Annotated[str | None, Query(max_length=200)] = None) -> list[Arm]:
    """List each variant in each context, with the number of choices, successes and failures."""
    with caller.reading() as connection:
        return learning.list_arms(connection, policy)


@router.get("/learning/choices", responses=describes(401, 403, 422))
def list_choices(
    caller: Reads,
    policy: Annotated[str | None, Query(max_length=200)] = None,
    before: Before = None,
    limit: Limit = 50,
) -> list[StoredChoice]:
    """List choices, newest first, with option, probability, exploration and outcome."""
    with caller.reading() as connection:
        return learning.list_choices(connection, policy, before=before, limit=limit)
