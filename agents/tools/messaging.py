"""Messages: every one is a row in the outbox first, charged with it, and leaves when the step is recorded."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from agents.tools.registry import Parameters, Stake, ToolContext, Wording, tool
from core.errors import InvalidInput, NotPermitted
from core.ids import new_id
from domain.channels import service as channels
from domain.channels.schemas import Event, NewMessage
from domain.contacts import service as contacts
from domain.contacts.schemas import Contact
from domain.crm.reaching import why_not_win
from domain.tenants import service as tenants
from domain.tenants.schemas import Email
from domain.wallet.schemas import PriceItem

SendsBy = Literal["email", "sms", "whatsapp"]
_ITEMS: dict[SendsBy, PriceItem] = {"email": "email", "sms": "sms", "whatsapp": "whatsapp_conversation"}
_YEAR = timedelta(days=366)
_SHORT = 1_600  # characters: what gateways take in one go

Subject = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\r\n]*$", description="The subject line")]
Words = Annotated[str, Field(min_length=1, max_length=20_000, description="What to write, in the reader's language")]
ShortWords = Annotated[str, Field(min_length=1, max_length=_SHORT, description="What to write, short")]
Channel = Annotated[SendsBy, Field(description="How it is sent")]
ClientId = Annotated[UUID, Field(description="The client's id, as search_clients returns it")]
LeadId = Annotated[UUID, Field(description="The lead's id, as search_leads returns it")]


class SendEmail(Parameters):
    """To whom, and what: words, or a template with what fills its places."""

    to: Annotated[Email, Field(description="The e-mail address")]
    subject: Annotated[str | None, Field(max_length=200, pattern=r"^[^\r\n]*$", description="The subject line")] = None
    body: Annotated[str | None, Field(max_length=20_000, description="What to write")] = None
    template: Annotated[str | None, Field(max_length=63, description="A template's name, instead of the words")] = None
    values: Annotated[
        dict[str, str], Field(default_factory=dict, description="What fills the template's places, by name")
    ]

    @model_validator(mode="after")
    def _says_something(self) -> "SendEmail":
        if self.template is None and not (self.subject and self.body):
            raise ValueError("give subject and body, or a template")
        return self


class SendText(Parameters):
    """To whom, and what."""

    to: Annotated[str, Field(pattern=r"^\+?[0-9 ()-]{6,20}$", description="The phone number, with its country code")]
    text: ShortWords


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


class Report(Parameters):
    """To whom of the staff, and what."""

    to: Annotated[Email, Field(description="The e-mail address of a user of this organisation")]
    subject: Subject
    report: Words


class FollowUp(Parameters):
    """To whom, when, how, and what."""

    contact_id: Annotated[UUID, Field(description="The id of the client or lead")]
    send_at: Annotated[AwareDatetime, Field(description="When, as YYYY-MM-DDTHH:MM with its offset; within a year")]
    channel: Channel = "email"
    subject: Subject = "Following up"
    body: Words


class Bulk(Parameters):
    """To which clients, how, and what."""

    client_ids: Annotated[list[UUID], Field(min_length=1, max_length=500, description="The clients' ids")]
    channel: Channel = "email"
    subject: Subject = "News from your gym"
    body: Annotated[
        str, Field(min_length=1, max_length=20_000, description="What to write; {{name}} becomes the client's name")
    ]


class NotifyStaff(Parameters):
    """Whom of the staff to tell, and what."""

    role: Annotated[str | None, Field(max_length=63, description="Everybody with this role, such as coordinator")] = (
        None
    )
    email: Annotated[Email | None, Field(description="Or one user, by e-mail address")] = None
    title: Annotated[str, Field(min_length=1, max_length=200, description="What it is about, in one line")]
    body: Annotated[str, Field(min_length=1, max_length=5_000, description="What they should know")]


_CHANNEL_WORDS = {"email": "mail, email, correo", "sms": "sms, text", "whatsapp": "whatsapp, wasap"}
_TO_WRITE = (
    "email|mail|write|text|escrib~, "
    "send|envi~|mand~ "
    "message|email|mail|sms|text|whatsapp|mensaje|correo|wasap|note|reminder|recordatorio|news|noticias"
)
_A_MESSAGE = Wording(
    f"{_TO_WRITE}, tell|remind|message|avis~|recuerd~|record~|dile|diles, let know, whatsapp, sms",
    values=_CHANNEL_WORDS,
    prose="body, subject",
)


def _to_address(wanted: SendEmail | SendText) -> Stake:
    return Stake(recipients=(wanted.to,))


def _to_client(wanted: ToClient | Retention) -> Stake:
    return Stake(recipients=(str(wanted.client_id),))


def send(
    context: ToolContext,
    channel: SendsBy,
    to: str,
    subject: str,
    body: str,
    *,
    contact: UUID | None = None,
    at: datetime | None = None,
    leave_by: datetime | None = None,
) -> dict[str, Any]:
    """Put a message into the outbox and charge for it. The person worked for must be permitted that very channel."""
    _ensure_may_send(context, channel, contact)
    message_id = new_id()
    message = NewMessage(
        channel=channel,
        recipient=to,
        subject=subject,
        body=body,
        contact=contact,
        send_after=at,
        leave_by=leave_by,
        task_id=context.acting.task_id,
        seq=context.acting.seq,
    )
    acting = context.acting
    channels.enqueue(context.connection, acting.org_id, message, message_id)
    if channels.is_to_be_paid(context.connection, message_id, channel, acting.task_id, acting.seq):
        context.charge(_ITEMS[channel], str(message_id))
    return {"message_id": message_id, "channel": channel, "to": to, "status": "queued"}


def _ensure_may_send(context: ToolContext, channel: SendsBy, contact: UUID | None) -> None:
    """The permission of the very channel, and where it holds for some locations only, a contact who is at one of
    them.
    """
    acting, permission = context.acting, f"{channel}:send"
    reach = tenants.reach_of(context.connection, acting.user_id, permission, acting.scopes).at(acting.location_id)
    if reach.is_nowhere:
        raise NotPermitted(f"The person you work for may not do this: it needs the permission {permission}.")
    if not reach.everywhere:
        where = contacts.require(context.connection, [contact])[0].location_id if contact else None
        if where not in reach.locations:
            raise NotPermitted("The person you work for may write to the clients and leads of some locations only.")


def _send_to_person(
    context: ToolContext, person: Contact, channel: SendsBy, subject: str, body: str, at: datetime | None = None
) -> dict[str, Any]:
    to = person.email if channel == "email" else person.phone
    if not to:
        raise InvalidInput(f"{person.name} has no {'e-mail address' if channel == 'email' else 'phone number'}.")
    if channel != "email" and len(body) > _SHORT:
        raise InvalidInput(f"A text message holds {_SHORT} characters at most; this has {len(body)}. Shorten it.")
    sent = send(context, channel, to, subject, body, contact=person.id, at=at)
    return sent | {"name": person.name}


def _person(context: ToolContext, contact: UUID, kind: str | None = None) -> Contact:
    (person,) = contacts.require(context.connection, [contact])
    if kind is not None and person.kind != kind:
        raise InvalidInput(f"{person.name} is a {person.kind}, not a {kind}.")
    return person


@tool(
    "send_email",
    category="messaging",
    parameters=SendEmail,
    permission="email:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="email",
    charges_itself=True,
    returns_untrusted=False,
    stake=_to_address,
    wording=Wording(_TO_WRITE, prose="body, subject, values"),
)
def send_email(context: ToolContext, wanted: SendEmail) -> dict[str, Any]:
    """Send an e-mail to an address, in your own words or by a template whose places you fill. Returns the message_id;
    it leaves within seconds.
    """
    subject, body = wanted.subject or "", wanted.body or ""
    if wanted.template is not None:
        subject, body = channels.filled(context.connection, wanted.template, wanted.values)
    return send(context, "email", wanted.to, subject, body)


@tool(
    "send_sms",
    category="messaging",
    parameters=SendText,
    permission="sms:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="sms",
    charges_itself=True,
    returns_untrusted=False,
    stake=_to_address,
    wording=Wording("text|sms, send|write|envi~|mand~|escrib~ sms|text|mensaje|message", prose="text"),
)
def send_sms(context: ToolContext, wanted: SendText) -> dict[str, Any]:
    """Send an SMS text message to a phone number. Returns the message_id; it leaves within seconds."""
    return send(context, "sms", wanted.to, "", wanted.text)


@tool(
    "send_whatsapp",
    category="messaging",
    parameters=SendText,
    permission="whatsapp:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="whatsapp_conversation",
    charges_itself=True,
    returns_untrusted=False,
    stake=_to_address,
    wording=Wording("whatsapp, send|write|envi~|mand~|escrib~ whatsapp|wasap", prose="text"),
)
def send_whatsapp(context: ToolContext, wanted: SendText) -> dict[str, Any]:
    """Send a WhatsApp message to a phone number. Returns the message_id; it leaves within seconds."""
    return send(context, "whatsapp", wanted.to, "", wanted.text)


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
    wording=_A_MESSAGE,
)
def send_message_to_client(context: ToolContext, wanted: ToClient) -> dict[str, Any]:
    """Send a message to one client (member), by e-mail, SMS or WhatsApp, at the address on the client's record."""
    person = _person(context, wanted.client_id, "client")
    return _send_to_person(context, person, wanted.channel, wanted.subject, wanted.body)


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
    wording=_A_MESSAGE,
)
def send_message_to_lead(context: ToolContext, wanted: ToLead) -> dict[str, Any]:
    """Send a message to one lead (prospect), by e-mail, SMS or WhatsApp, at the address on the lead's record."""
    person = _person(context, wanted.lead_id, "lead")
    return _send_to_person(context, person, wanted.channel, wanted.subject, wanted.body)


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
        f"{_TO_WRITE}, win back, message, invite",
        prose="body, offer",
    ),
)
def send_retention_message(context: ToolContext, wanted: Retention) -> dict[str, Any]:
    """Send a retention e-mail to one client who stays away, perhaps with an offer. Refuses for somebody who cancelled
    or opted out: they asked to be left in peace.
    """
    person = _person(context, wanted.client_id, "client")
    if reason := why_not_win(person):
        raise NotPermitted(f"{person.name} {reason}; do not write to them to win them back.")
    body = f"{wanted.body}\n\n{wanted.offer}" if wanted.offer else wanted.body
    return _send_to_person(context, person, "email", f"{person.name.split()[0]}, we miss you", body)


@tool(
    "send_report_email",
    category="messaging",
    parameters=Report,
    permission="email:send",
    changes_world=True,
    sends_outside=False,
    moves_money=False,
    risk="moderate",
    price="email",
    charges_itself=True,
    returns_untrusted=False,
    wording=Wording(
        "email|mail|send|envi~|mand~ report|informe|summary|resumen|figures|cifras", prose="report, subject"
    ),
)
def send_report_email(context: ToolContext, wanted: Report) -> dict[str, Any]:
    """Send a report by e-mail to somebody of the staff, a user of this organisation. Goes to nobody outside."""
    reader = tenants.user_with_email(context.connection, context.acting.org_id, wanted.to)
    return send(context, "email", reader.email, wanted.subject, wanted.report)


@tool(
    "schedule_follow_up",
    category="messaging",
    parameters=FollowUp,
    permission="messages:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="email",
    charges_itself=True,
    stake=lambda wanted: Stake(recipients=(str(wanted.contact_id),)),
    wording=Wording(
        "follow up, remind|recuerd~|record~, "
        "schedule|plan|program~|planific~ followup|follow|reminder|seguimiento|message",
        values=_CHANNEL_WORDS,
        prose="body, send_at, subject",
    ),
)
def schedule_follow_up(context: ToolContext, wanted: FollowUp) -> dict[str, Any]:
    """Schedule a follow-up message to one client or lead, to be sent at a time to come. It can be cancelled until
    then.
    """
    now = channels.now(context.connection)
    if not now < wanted.send_at < now + _YEAR:
        raise InvalidInput(
            f"send_at must lie within the next year; it is now {now.astimezone(context.zone):%F %H:%M %z}."
        )
    person = _person(context, wanted.contact_id)
    sent = _send_to_person(context, person, wanted.channel, wanted.subject, wanted.body, at=wanted.send_at)
    return sent | {"send_at": wanted.send_at.astimezone(context.zone).isoformat(timespec="minutes")}


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
    channels.hold_recipients(context.connection, context.acting.org_id, wanted.channel, addresses)
    for person in reached:
        body = wanted.body.replace("{{name}}", person.name.split()[0])
        _send_to_person(context, person, wanted.channel, wanted.subject, body)
    left_out = [person.name for person in people if person not in reached]
    return {"queued": len(reached), "left_out": left_out}


@tool(
    "notify_staff",
    category="messaging",
    parameters=NotifyStaff,
    permission="notifications:send",
    changes_world=True,
    risk="low",
    sends_outside=False,
    moves_money=False,
    repeat_is_harmless=True,
    returns_untrusted=False,
    wording=Wording(
        "notify|tell|inform|let|avis~|notific~|inform~|dile|diles "
        "staff|team|manager*|coordinator*|colleague*|equipo|personal|encargad*|coordinador*",
        prose="body, title",
    ),
)
def notify_staff(context: ToolContext, wanted: NotifyStaff) -> dict[str, Any]:
    """Notify staff: a notification in the app (and by e-mail where that is set up) to one user or to all of a role."""
    if wanted.email is not None:
        people = [tenants.user_with_email(context.connection, context.acting.org_id, wanted.email).id]
    else:
        found = tenants.holders_of(
            context.connection, context.acting.org_id, [wanted.role or "staff"], context.acting.location_id
        )
        people = [person["id"] for person in found]
    if not people:
        raise InvalidInput(f"Nobody has the role {wanted.role or 'staff'}. Name another role, or one user by e-mail.")
    event = Event(kind="staff.notified", title=wanted.title, body=wanted.body, data={"agent": context.acting.agent})
    channels.tell(context.connection, context.acting.org_id, people, event, written_by=context.acting.task_id)
    return {"notified": len(people)}


MESSAGING_TOOLS = [
    send_email,
    send_sms,
    send_whatsapp,
    send_message_to_client,
    send_message_to_lead,
    send_retention_message,
    send_report_email,
    schedule_follow_up,
    send_bulk_message,
    notify_staff,
]
