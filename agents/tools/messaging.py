"""Tools that send messages. Each is written to the outbox, charged with that, and sent once the step is recorded."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from agents.tools.registry import Parameters, Stake, ToolContext, Wording, tool
from core.errors import InvalidInput, NotPermitted
from core.ids import new_id
from domain.channels import service as channels
from domain.channels.schemas import NewMessage, Notice
from domain.contacts import service as contacts
from domain.contacts.schemas import Contact
from domain.tenants import service as tenants
from domain.tenants.schemas import Email
from domain.wallet.schemas import PriceItem

SendsBy = Literal["email", "sms", "whatsapp"]
_ITEMS: dict[SendsBy, PriceItem] = {"email": "email", "sms": "sms", "whatsapp": "whatsapp_conversation"}
_YEAR = timedelta(days=366)
_SHORT = 1_600  # characters: the most that gateways accept in one message

Subject = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\r\n]*$", description="The subject line")]
Words = Annotated[str, Field(min_length=1, max_length=20_000, description="What to write, in the reader's language")]
ShortWords = Annotated[str, Field(min_length=1, max_length=_SHORT, description="What to write, short")]
Channel = Annotated[SendsBy, Field(description="How it is sent")]


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


class Report(Parameters):
    """To whom of the staff, and what."""

    to: Annotated[Email, Field(description="The e-mail address of a user of this organisation")]
    subject: Subject
    report: Words


class FollowUp(Parameters):
    """To whom, when, how, and what."""

    contact_id: Annotated[UUID, Field(description="The id of the contact")]
    send_at: Annotated[AwareDatetime, Field(description="When, as YYYY-MM-DDTHH:MM with its offset; within a year")]
    channel: Channel = "email"
    subject: Subject = "Following up"
    body: Words


class NotifyStaff(Parameters):
    """Whom of the staff to tell, and what."""

    role: Annotated[str | None, Field(max_length=63, description="Everybody with this role, such as coordinator")] = (
        None
    )
    email: Annotated[Email | None, Field(description="Or one user, by e-mail address")] = None
    title: Annotated[str, Field(min_length=1, max_length=200, description="What it is about, in one line")]
    body: Annotated[str, Field(min_length=1, max_length=5_000, description="What they should know")]


CHANNEL_WORDS = {"email": "mail, email, correo", "sms": "sms, text", "whatsapp": "whatsapp, wasap"}
TO_WRITE = (
    "email|mail|write|text|escrib~, "
    "send|envi~|mand~ "
    "message|email|mail|sms|text|whatsapp|mensaje|correo|wasap|note|reminder|recordatorio|news|noticias"
)
A_MESSAGE = Wording(
    f"{TO_WRITE}, tell|remind|message|avis~|recuerd~|record~|dile|diles, let know, whatsapp, sms",
    values=CHANNEL_WORDS,
    prose="body, subject",
)


def _to_address(wanted: SendEmail | SendText) -> Stake:
    return Stake(recipients=(wanted.to,))


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
    """Put a message into the outbox and charge for it. The task's user needs the permission for the channel."""
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
    """Require the permission for the channel. If it holds for some locations only, the contact must be at one of
    them.
    """
    acting, permission = context.acting, f"{channel}:send"
    reach = tenants.reach_of(context.connection, acting.user_id, permission, acting.scopes).at(acting.location_id)
    if reach.is_nowhere:
        raise NotPermitted(f"The person you work for may not do this: it needs the permission {permission}.")
    if not reach.everywhere:
        where = contacts.require(context.connection, [contact])[0].location_id if contact else None
        if where not in reach.locations:
            raise NotPermitted("The person you work for may write to the contacts of some locations only.")


def send_to_contact(
    context: ToolContext, person: Contact, channel: SendsBy, subject: str, body: str, at: datetime | None = None
) -> dict[str, Any]:
    """Send a message to a contact over a channel for which they have an address, at once or `at` a time."""
    to = person.email if channel == "email" else person.phone
    if not to:
        raise InvalidInput(f"{person.name} has no {'e-mail address' if channel == 'email' else 'phone number'}.")
    if channel != "email" and len(body) > _SHORT:
        raise InvalidInput(f"A text message holds {_SHORT} characters at most; this has {len(body)}. Shorten it.")
    sent = send(context, channel, to, subject, body, contact=person.id, at=at)
    return sent | {"name": person.name}


def contact_of(context: ToolContext, contact: UUID, kind: str | None = None) -> Contact:
    """Return a contact. It must be of `kind`, if one is given.

    Raises:
        NotFound: there is none.
        InvalidInput: it is of another kind.
    """
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
    wording=Wording(TO_WRITE, prose="body, subject, values"),
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
        values=CHANNEL_WORDS,
        prose="body, send_at, subject",
    ),
)
def schedule_follow_up(context: ToolContext, wanted: FollowUp) -> dict[str, Any]:
    """Schedule a follow-up message to one contact, to be sent at a time to come. It can be cancelled until
    then.
    """
    now = channels.now(context.connection)
    if not now < wanted.send_at < now + _YEAR:
        raise InvalidInput(
            f"send_at must lie within the next year; it is now {now.astimezone(context.zone):%F %H:%M %z}."
        )
    person = contact_of(context, wanted.contact_id)
    sent = send_to_contact(context, person, wanted.channel, wanted.subject, wanted.body, at=wanted.send_at)
    return sent | {"send_at": wanted.send_at.astimezone(context.zone).isoformat(timespec="minutes")}


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
        people = [person.id for person in found]
    if not people:
        raise InvalidInput(f"Nobody has the role {wanted.role or 'staff'}. Name another role, or one user by e-mail.")
    notice = Notice(
        kind="staff.notified",
        title=wanted.title,
        body=wanted.body,
        data={"agent": context.acting.agent},
        location_id=context.acting.location_id,
    )
    channels.tell(context.connection, context.acting.org_id, people, notice, written_by=context.acting.task_id)
    return {"notified": len(people)}


MESSAGING_TOOLS = [
    send_email,
    send_sms,
    send_whatsapp,
    send_report_email,
    schedule_follow_up,
    notify_staff,
]
