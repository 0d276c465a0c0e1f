"""Tools that send messages to clients and leads."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from agents.tools.messaging import A_MESSAGE, TO_WRITE, Channel, Subject, Words, contact_of, send_to_contact
from agents.tools.registry import Parameters, Stake, ToolContext, Wording, tool
from core.errors import NotPermitted
from domain.channels import service as channels
from domain.contacts import service as contacts
from domain.contacts.reaching import why_not_win

ClientId = Annotated[UUID, Field(description="The client's id, as search_clients returns it")]
LeadId = Annotated[UUID, Field(description="The lead's id, as search_leads returns it")]


class ToClient(Parameters):
    """To which client, how, and what."""

    client_id: ClientId
    channel: Channel = "email"
    subject: Subject = "A word from your gym"
    body: Words


class ToLead(Parameters):
    """To which lead, how, and what."""

    lead_id: LeadId
    channel: Channel = "email"
    subject: Subject = "A word from the gym"
    body: Words


class Retention(Parameters):
    """To which client, and with which offer."""

    client_id: ClientId
    body: Words
    offer: Annotated[str | None, Field(max_length=300, description="What is offered for coming back, if anything")] = (
        None
    )


class Bulk(Parameters):
    """To which clients, how, and what."""

    client_ids: Annotated[list[UUID], Field(min_length=1, max_length=500, description="The clients' ids")]
    channel: Channel = "email"
    subject: Subject = "News from your gym"
    body: Annotated[
        str, Field(min_length=1, max_length=20_000, description="What to write; {{name}} becomes the client's name")
    ]


def _to_client(wanted: ToClient | Retention) -> Stake:
    return Stake(recipients=(str(wanted.client_id),))


@tool(
    "send_message_to_client",
    category="messaging",
    parameters=ToClient,
    permission="messages:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="email",
    charges_itself=True,
    stake=_to_client,
    wording=A_MESSAGE,
)
def send_message_to_client(context: ToolContext, wanted: ToClient) -> dict[str, Any]:
    """Send a message to one client (member), by e-mail, SMS or WhatsApp, at the address on the client's record."""
    person = contact_of(context, wanted.client_id, "client")
    return send_to_contact(context, person, wanted.channel, wanted.subject, wanted.body)


@tool(
    "send_message_to_lead",
    category="messaging",
    parameters=ToLead,
    permission="messages:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="email",
    charges_itself=True,
    stake=lambda wanted: Stake(recipients=(str(wanted.lead_id),)),
    wording=A_MESSAGE,
)
def send_message_to_lead(context: ToolContext, wanted: ToLead) -> dict[str, Any]:
    """Send a message to one lead (prospect), by e-mail, SMS or WhatsApp, at the address on the lead's record."""
    person = contact_of(context, wanted.lead_id, "lead")
    return send_to_contact(context, person, wanted.channel, wanted.subject, wanted.body)


@tool(
    "send_retention_message",
    category="messaging",
    parameters=Retention,
    permission="messages:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="email",
    charges_itself=True,
    stake=_to_client,
    wording=Wording(
        f"{TO_WRITE}, win back, message, invite",
        prose="body, offer",
    ),
)
def send_retention_message(context: ToolContext, wanted: Retention) -> dict[str, Any]:
    """Send a retention e-mail to one client who stays away, perhaps with an offer. Refuses for somebody who cancelled
    or opted out: they asked to be left in peace.
    """
    person = contact_of(context, wanted.client_id, "client")
    if reason := why_not_win(person):
        raise NotPermitted(f"{person.name} {reason}; do not write to them to win them back.")
    body = f"{wanted.body}\n\n{wanted.offer}" if wanted.offer else wanted.body
    return send_to_contact(context, person, "email", f"{person.name.split()[0]}, we miss you", body)


@tool(
    "send_bulk_message",
    category="messaging",
    parameters=Bulk,
    permission="messages:send",
    changes_world=True,
    moves_money=False,
    risk="critical",
    sends_outside=True,
    price="email",
    charges_itself=True,
    stake=lambda wanted: Stake(recipients=tuple(map(str, wanted.client_ids))),
)
def send_bulk_message(context: ToolContext, wanted: Bulk) -> dict[str, Any]:
    """Send one message to many clients, each addressed by name. Leaves out who has cancelled, opted out or cannot be
    reached, and says who. Each message is charged.
    """
    people = contacts.require(context.connection, wanted.client_ids)
    reached = [person for person in people if why_not_win(person, wanted.channel) is None]
    addresses = [(person.email if wanted.channel == "email" else person.phone) or "" for person in reached]
    channels.lock_recipients(context.connection, context.acting.org_id, wanted.channel, addresses)
    for person in reached:
        body = wanted.body.replace("{{name}}", person.name.split()[0])
        send_to_contact(context, person, wanted.channel, wanted.subject, body)
    left_out = [person.name for person in people if person not in reached]
    return {"queued": len(reached), "left_out": left_out}


CLIENT_MESSAGE_TOOLS = [send_message_to_client, send_message_to_lead, send_retention_message, send_bulk_message]
