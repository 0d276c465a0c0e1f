"""The tool that sends the follow-up which a task was started to write."""

from typing import Any

from agents.tools.messaging import ShortWords, Subject, send
from agents.tools.registry import Parameters, Stake, ToolContext, tool
from core.errors import NotPermitted
from domain.followups import service as followups
from domain.tenants import service as tenants


class SendFollowUp(Parameters):
    """What to write. To whom and by which channel is settled."""

    subject: Subject | None = None
    """None: a word from the organisation, by its name"""
    body: ShortWords


@tool(
    "send_follow_up",
    category="messaging",
    parameters=SendFollowUp,
    permission="messages:send",
    changes_world=True,
    moves_money=False,
    risk="high",
    sends_outside=True,
    price="email",
    charges_itself=True,
    returns_untrusted=False,
    stake=lambda _: Stake(to_contact=True),
)
def send_follow_up(context: ToolContext, wanted: SendFollowUp) -> dict[str, Any]:
    """Send the follow-up that this task is about to its contact, over the channel that was chosen. Where they have
    answered, bought or opted out meanwhile it is not sent, and the result says why; then there is nothing more to do.
    """
    acting = context.acting
    found = followups.permit(context.connection, acting.org_id, acting.task_id)
    if isinstance(found, str):
        return {"status": "not sent", "why": found}
    contact = found.contact
    to = contact.email if found.channel == "email" else contact.phone
    if not to:
        raise NotPermitted(f"The contact has no address for {found.channel} any more.")
    body = f"{wanted.body}\n\n{found.closing}"
    subject = wanted.subject or f"A word from {tenants.get_organisation(context.connection, acting.org_id).name}"
    sent = send(
        context, found.channel, to, subject, body, contact=contact.id, at=found.send_after,
        leave_by=found.leave_by,
    )  # fmt: skip
    followups.note_message(context.connection, found.follow_up, sent["message_id"])
    return sent | {"send_after": found.send_after.astimezone(context.zone).isoformat(timespec="minutes")}


FOLLOW_UP_TOOLS = [send_follow_up]
