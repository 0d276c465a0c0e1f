"""Campaigns from launch to end: a person launches a draft, its messages leave through the outbox in portions, each paid
for like any other, and when the last one has left or failed it is finished.

A portion is written in one transaction that holds the campaign's row, so that nobody is written to twice whatever runs
at once. The ledger and the outbox carry the campaign's id where those of agents carry a task's.
"""

from uuid import UUID

from sqlalchemy import Connection, RowMapping

from core.errors import Conflict, NotFound, NotPermitted
from core.ids import new_id
from domain.channels import service as channels
from domain.channels.schemas import Event, NewMessage
from domain.contacts import service as contact_service
from domain.contacts.reaching import why_not_win
from domain.contacts.schemas import Contact
from domain.office import models, queries
from domain.office.schemas import Campaign, CampaignStatus, Language, Member
from domain.office.telling import tell_managers
from domain.tenants import service as tenants
from domain.wallet import service as wallet
from domain.wallet.schemas import InsufficientFunds

PORTION = 200
"""members who are written to in one transaction"""
_SEQ = 0
_SUBJECTS: dict[Language, str] = {"en": "{}, we miss you", "es": "{}, te echamos de menos"}


def list_campaigns(
    connection: Connection, *, status: CampaignStatus | None = None, before: UUID | None = None, limit: int = 50
) -> list[Campaign]:
    """Campaigns, the latest first, with how their members stand."""
    rows = queries.page(connection, models.campaigns, {"status": status}, before=before, limit=limit)
    return _shown(connection, rows)


def get_campaign(connection: Connection, campaign_id: UUID) -> Campaign:
    """A campaign.

    Raises:
        NotFound: there is none.
    """
    [campaign] = _shown(connection, [_row(connection, campaign_id)])
    return campaign


def list_members(connection: Connection, campaign_id: UUID, *, after: UUID | None, limit: int) -> list[Member]:
    """The members of a campaign, by id, with what became of the message to each.

    Raises:
        NotFound: there is no such campaign.
    """
    _row(connection, campaign_id)
    return [
        Member.model_validate(dict(row)) for row in queries.members(connection, campaign_id, after=after, limit=limit)
    ]


def launch_campaign(connection: Connection, org: UUID, campaign_id: UUID, user: UUID) -> Campaign:
    """Have the messages of a draft leave. Launching twice is fine.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it has ended, or there is no channel for its messages.
    """
    row = _row(connection, campaign_id, locked=True)
    if row["status"] != "active":
        _refuse_unless(row, "draft")
        channels.ensure_channel(connection, org, "email")
        values = {"status": "active", "launched_by": user, "launched_at": queries.now(connection), "note": ""}
        queries.change_record(connection, models.campaigns, campaign_id, values)
    return get_campaign(connection, campaign_id)


def cancel_campaign(connection: Connection, org: UUID, campaign_id: UUID) -> Campaign:
    """End a campaign. Its messages that have not left do not leave; what they cost is paid back. Cancelling twice is
    fine.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it is finished.
    """
    row = _row(connection, campaign_id, locked=True)
    if row["status"] != "cancelled":
        _refuse_unless(row, "draft", "active")
        channels.withdraw(connection, org, queries.messages_under_way(connection, campaign_id))
        values = {"status": "cancelled", "ended_at": queries.now(connection)}
        queries.change_record(connection, models.campaigns, campaign_id, values)
    return get_campaign(connection, campaign_id)


def carry_on(connection: Connection, org: UUID, campaign_id: UUID) -> bool:
    """Write to the next members of an active campaign, or finish it where all were written to and nothing is under way.
    Returns whether there is more to write at once.
    """
    row = queries.record(connection, models.campaigns, campaign_id, locked=True)
    if row is None or row["status"] != "active":
        return False
    members = queries.take_members(connection, campaign_id, PORTION)
    if not members:
        if not queries.messages_under_way(connection, campaign_id):
            _finish(connection, org, row)
        return False
    try:
        channels.ensure_channel(connection, org, "email")
        _write_to(connection, org, row, members)
    except InsufficientFunds as short:
        queries.change_record(connection, models.campaigns, campaign_id, {"note": f"Waits for tokens: {short.message}"})
        return False
    except (Conflict, NotPermitted) as gone:  # the channel was taken away after the launch, or the words were rehearsed
        values = {"status": "draft", "note": f"Stopped: {gone.message} Then launch it again."}
        queries.change_record(connection, models.campaigns, campaign_id, values)
        return False
    return len(members) == PORTION


def _write_to(connection: Connection, org: UUID, campaign: RowMapping, members: list[UUID]) -> None:
    """Write to members as far as tokens go; the hold that pays for them lasts as long as this transaction.

    Raises:
        InsufficientFunds: they do not go all the way; who was written to stays written to.
    """
    contacts = contact_service.get_many(connection, members)
    tokens = wallet.prices(connection)["email"] if tenants.get_organisation(connection, org).is_prepaid else 0
    try:
        for client in members:
            contact = contacts.get(client)
            reason = why_not_win(contact) if contact else "is gone"
            message = None
            if contact is not None and reason is None:
                wallet.ensure(connection, org, campaign["id"], tokens)
                message = _enqueue(connection, org, campaign, contact)
                wallet.spend_ensured(connection, campaign["id"], _SEQ, "email", tokens, str(message))
            status = "written" if message else "left_out"
            queries.note_member(connection, campaign["id"], client, status, message=message, reason=reason)
    finally:
        wallet.release(connection, campaign["id"])


def _enqueue(connection: Connection, org: UUID, campaign: RowMapping, contact: Contact) -> UUID:
    first_name = contact.name.split()[0] if contact.name.split() else contact.name
    language: Language = "es" if contact.language == "es" else "en"
    message = NewMessage(
        channel="email",
        recipient=contact.email,
        contact=contact.id,
        subject=_SUBJECTS[language].format(first_name),
        body=campaign["message"].replace("{{name}}", first_name),
        task_id=campaign["id"],
        seq=_SEQ,
        written_by=campaign["task_id"],
    )
    return channels.enqueue(connection, org, message, new_id())


def _finish(connection: Connection, org: UUID, campaign: RowMapping) -> None:
    values = {"status": "finished", "ended_at": queries.now(connection), "note": ""}
    queries.change_record(connection, models.campaigns, campaign["id"], values)
    standing = queries.members_by_standing(connection, [campaign["id"]]).get(campaign["id"], {})
    told = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(standing.items()))
    event = Event(
        kind="campaign.finished",
        title=f"The campaign {campaign['name']} is finished",
        body=f"Of its members: {told or 'none'}.",
        data={"campaign_id": str(campaign["id"]), "members": standing},
    )
    tell_managers(connection, org, event)


def _row(connection: Connection, campaign_id: UUID, *, locked: bool = False) -> RowMapping:
    row = queries.record(connection, models.campaigns, campaign_id, locked=locked)
    if row is None:
        raise NotFound(f"There is no campaign {campaign_id}.")
    return row


def _refuse_unless(row: RowMapping, *statuses: str) -> None:
    if row["status"] not in statuses:
        raise Conflict(f"This campaign is {row['status']}; it must be {' or '.join(statuses)} for that.")


def _shown(connection: Connection, rows: list[RowMapping]) -> list[Campaign]:
    standing = queries.members_by_standing(connection, [row["id"] for row in rows])
    return [Campaign.model_validate(dict(row) | {"members": standing.get(row["id"], {})}) for row in rows]
