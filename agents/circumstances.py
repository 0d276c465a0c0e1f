"""The facts about a tool call on which its level depends: gathered here, judged in `levels.py`."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agents.call import Call, without_rationale
from agents.decision import Decision
from agents.figures import plain_way
from agents.levels import ProposedCall
from agents.provenance import LookUp, Person, Request, addresses_in, ids_in, is_requested
from agents.tools import TOOLS
from agents.tools.registry import Parameters, Stake, Tool
from agents.work import Work
from core.json_text import dump_json
from core.packs import installed
from core.text import fold
from domain.contacts import service as contacts

_MOST_PEOPLE = 500


def proposed_call(tool: Tool, stake: Stake, **facts: Any) -> ProposedCall:
    """Return what the level of a call of `tool` depends on."""
    return ProposedCall(
        tool=tool.name,
        category=tool.category,
        risk=tool.risk,
        changes_world=tool.changes_world,
        amount=stake.amount,
        sends_outside=tool.sends_outside,
        moves_money=tool.moves_money,
        always_asks=tool.always_asks,
        **facts,
    )


def has_read_untrusted(work: Work, *, before: int | None = None) -> bool:
    """Whether a task was submitted by a stranger, or has read what strangers may have written: in its attachments,
    earlier in its conversation, in any step, or in those before step `before`.
    """
    asked = work.task.input
    if asked.get("is_from_outside") or asked.get("has_outside_context") or asked.get("attachments"):
        return True
    if work.has_untrusted_history:
        return True
    acted = [step for step in work.journal.steps() if step.stage == "act" and (before is None or step.seq < before)]
    # A client tool may have the name that a tool of ours was given since.
    read = (None if step.output.get("client") else TOOLS.get(step.name) for step in acted)
    return any(tool is None or tool.returns_untrusted for tool in read)


def goes_to_contact(connection: Connection, contact: UUID | None, stake: Stake) -> bool:
    """Whether words go to the contact that the task is about, and to no other."""
    if contact is None or not (stake.recipients or stake.to_contact):
        return False
    known = contacts.addresses(connection, contact)
    return all(recipient.lower() in known for recipient in stake.recipients)


def contacts_of(connection: Connection, parameters: Parameters, stake: Stake, contact: UUID | None) -> tuple[str, ...]:
    """Return the contacts that a call concerns, the task's own among them: their ids, and each address by which they
    are known in its one spelling, so that a contact who is named by another address is still counted as the same.
    """
    given = parameters.model_dump(mode="json")
    ids = ids_in([given, list(stake.recipients), str(contact) if contact else None])
    records = [UUID(one) for one in ids]
    ids |= {str(one) for pack in installed() for one in pack.contacts_behind(connection, records)}
    ways = addresses_in([given, list(stake.recipients)])
    people = _people(connection, ids, ways)
    ways |= {way for person in people.values() for way in person.ways}
    return tuple(sorted(ids | {person.id for person in people.values()} | {plain_way(way) for way in ways}))


def request_asks_for(
    connection: Connection, work: Work, decision: Decision, call: Call, stake: Stake, before: Sequence[Call]
) -> bool:
    """Whether the trusted request itself asked for a call, beside those `before` it in the same decision. False where
    its level does not depend on that: where nothing untrusted was read.
    """
    task, tool = work.task, call.usable_tool()
    if not has_read_untrusted(work, before=decision.seq) or tool.wording is None or task.input.get("is_from_outside"):
        return False
    facts = "" if task.input.get("has_outside_context") else dump_json(task.input.get("context") or "")
    request = Request(str(task.input["message"]), task.contact, facts)
    if not request.asks_for(tool.wording.effect):
        return False
    own, look_ups = call.own_arguments, _look_ups(work, decision)
    people = _people(connection, ids_in([own, *(one.result for one in look_ups)]), addresses_in(own))
    done = _done_with(work, tool) + [one.own_arguments for one in before if one.name == tool.name]
    return is_requested(request, tool, own, stake, people, look_ups, done)


def _done_with(work: Work, tool: Tool) -> list[dict[str, Any]]:
    """Return the arguments with which a tool was used in this task."""
    used = [step for step in work.journal.steps() if step.stage == "act" and step.name == tool.name]
    return [without_rationale(step.input) for step in used if step.output["ok"]]


def _look_ups(work: Work, decision: Decision) -> list[LookUp]:
    """Return what the agent looked up in our own records before this decision."""
    found = []
    for step in work.journal.steps():
        tool = TOOLS.get(step.name) if step.stage == "act" and step.seq < decision.seq else None
        if tool is not None and tool.only_reads and step.output["ok"]:
            found.append(LookUp(tool, step.input, json.loads(step.output["message"]["content"])))
    return found


def _people(connection: Connection, ids: set[str], addresses: set[str]) -> dict[str, Person]:
    """Return the contacts that ids and addresses refer to, by these. Where there are too many to tell, none."""
    if len(ids) > _MOST_PEOPLE:
        return {}
    people: dict[str, Person] = {}
    for known in contacts.known_by(connection, [UUID(one) for one in ids], sorted(addresses)):
        ways = frozenset(fold(way) for way in (known.email, known.phone) if way)
        person = Person(str(known.id), known.name, ways, is_only_one=known.namesakes == 0)
        people |= dict.fromkeys({person.id, *ways}, person)
    return people
