"""Campaigns from launch to end: a user launches a draft, its messages leave through the outbox in batches, each paid
for like any other message, and it is finished when the last one has left or failed.

A batch is written in one transaction that locks the campaign's row, so that concurrent runs cannot write to a contact
twice. In the ledger and the outbox, the campaign's id takes the place of a task's id.
"""

from uuid import UUID

from sqlalchemy import Connection

from core.errors import Conflict, NotFound, NotPermitted
from core.ids import new_id
from domain.channels import service as channels
from domain.channels.schemas import NewMessage, Notice
from domain.contacts import service as contact_service
from domain.contacts.reaching import why_not_win
from domain.contacts.schemas import Contact
from domain.office import models, queries
from domain.office.schemas import Campaign, CampaignStatus, Language, Member, StoredCampaign
from domain.office.telling import tell_managers
from domain.tenants import service as tenants
from domain.wallet import service as wallet
from domain.wallet.schemas import InsufficientFunds

PORTION = 200
"""members written to per transaction"""
_SEQ = 0
_SUBJECTS: dict[Language, str] = {"en": "{}, we miss you", "es": "{}, te echamos de menos"}


def list_campaigns(
    connection: Connection, *, status: CampaignStatus | None = None, before: UUID | None = None, limit: int = 50
) -> list[Campaign]:
    """Return campaigns, the latest first, with the number of their members by status."""
    wanted = {"status": status}
    found = queries.page(connection, models.campaigns, StoredCampaign, wanted, before=before, limit=limit)
    return _shown(connection, found)


def get_campaign(connection: Connection, campaign_id: UUID) -> Campaign:
    """Return a campaign.

    Raises:
        NotFound: there is no such campaign.
    """
    [campaign] = _shown(connection, [_stored(connection, campaign_id)])
    return campaign


def list_members(connection: Connection, campaign_id: UUID, *, after: UUID | None, limit: int) -> list[Member]:
    """Return the members of a campaign in order of client id, with the status of the message to each.

    Raises:
        NotFound: there is no such campaign.
    """
    _stored(connection, campaign_id)
    return queries.members(connection, campaign_id, after=after, limit=limit)


def launch_campaign(connection: Connection, org: UUID, campaign_id: UUID, user: UUID) -> Campaign:
    """Launch a draft: its messages start to leave. Idempotent.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it has ended, or there is no channel for its messages.
    """
    campaign = _stored(connection, campaign_id, locked=True)
    if campaign.status != "active":
        _refuse_unless(campaign, "draft")
        channels.ensure_channel(connection, org, "email")
        values = {"status": "active", "launched_by": user, "launched_at": queries.now(connection), "note": ""}
        queries.change_record(connection, models.campaigns, campaign_id, values)
    return get_campaign(connection, campaign_id)


def cancel_campaign(connection: Connection, org: UUID, campaign_id: UUID) -> Campaign:
    """Cancel a campaign. Messages that have not left are withdrawn and their cost is refunded. Idempotent.

    Raises:
        NotFound: there is no such campaign.
        Conflict: it is finished.
    """
    campaign = _stored(connection, campaign_id, locked=True)
    if campaign.status != "cancelled":
        _refuse_unless(campaign, "draft", "active")
        channels.withdraw(connection, org, queries.messages_under_way(connection, campaign_id))
        values = {"status": "cancelled", "ended_at": queries.now(connection)}
        queries.change_record(connection, models.campaigns, campaign_id, values)
    return get_campaign(connection, campaign_id)


def carry_on(connection: Connection, org: UUID, campaign_id: UUID) -> bool:
    """Write to the next members of an active campaign, or finish it if all were written to and no message is under way.
    Returns whether there is more to write at once.
    """
    campaign = queries.record(connection, models.campaigns, StoredCampaign, campaign_id, locked=True)
    if campaign is None or campaign.status != "active":
        return False
    members = queries.take_members(connection, campaign_id, PORTION)
    if not members:
        if not queries.messages_under_way(connection, campaign_id):
            _finish(connection, org, campaign)
        return False
    try:
        channels.ensure_channel(connection, org, "email")
        _write_to(connection, org, campaign, members)
    except InsufficientFunds as short:
        queries.change_record(connection, models.campaigns, campaign_id, {"note": f"Waits for tokens: {short.message}"})
        return False
    except (Conflict, NotPermitted) as gone:  # the channel was removed since the launch, or the text was rehearsed
        values = {"status": "draft", "note": f"Stopped: {gone.message} Then launch it again."}
        queries.change_record(connection, models.campaigns, campaign_id, values)
        return False
    return len(members) == PORTION


def _write_to(connection: Connection, org: UUID, campaign: StoredCampaign, members: list[UUID]) -> None:
    """Write to members as long as the tokens suffice. The hold that pays for them exists only within this transaction.

    Raises:
        InsufficientFunds: the tokens do not suffice for all. Messages written until then stay.
    """
    contacts = contact_service.get_many(connection, members)
    tokens = wallet.prices(connection)["email"] if tenants.get_organisation(connection, org).is_prepaid else 0
    try:
        for client in members:
            contact = contacts.get(client)
            reason = why_not_win(contact) if contact else "is gone"
            message = None
            if contact is not None and reason is None:
                wallet.ensure(connection, org, campaign.id, tokens)
                message = _enqueue(connection, org, campaign, contact)
                wallet.spend_ensured(connection, campaign.id, _SEQ, "email", tokens, str(message))
            status = "written" if message else "left_out"
            queries.note_member(connection, campaign.id, client, status, message=message, reason=reason)
    finally:
        wallet.release(connection, campaign.id)


def _enqueue(connection: Connection, org: UUID, campaign: StoredCampaign, contact: Contact) -> UUID:
    first_name = contact.name.split()[0] if contact.name.split() else contact.name
    language: Language = "es" if contact.language == "es" else "en"
    message = NewMessage(
        channel="email",
        recipient=contact.email,
        contact=contact.id,
        subject=_SUBJECTS[language].format(first_name),
        body=campaign.message.replace("{{name}}", first_name),
        task_id=campaign.id,
        seq=_SEQ,
        written_by=campaign.task_id,
    )
    return channels.enqueue(connection, org, message, new_id())


def _finish(connection: Connection, org: UUID, campaign: StoredCampaign) -> None:
    values = {"status": "finished", "ended_at": queries.now(connection), "note": ""}
    queries.change_record(connection, models.campaigns, campaign.id, values)
    standing = queries.members_by_standing(connection, [campaign.id]).get(campaign.id, {})
    told = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(standing.items()))
    notice = Notice(
        kind="campaign.finished",
        title=f"The campaign {campaign.name} is finished",
        body=f"Of its members: {told or 'none'}.",
        data={"campaign_id": str(campaign.id), "members": standing},
    )
    tell_managers(connection, org, notice)


def _stored(connection: Connection, campaign_id: UUID, *, locked: bool = False) -> StoredCampaign:
    campaign = queries.record(connection, models.campaigns, StoredCampaign, campaign_id, locked=locked)
    if campaign is None:
        raise NotFound(f"There is no campaign {campaign_id}.")
    return campaign


def _refuse_unless(campaign: StoredCampaign, *statuses: CampaignStatus) -> None:
    if campaign.status not in statuses:
        raise Conflict(f"This campaign is {campaign.status}; it must be {' or '.join(statuses)} for that.")


def _shown(connection: Connection, found: list[StoredCampaign]) -> list[Campaign]:
    standing = queries.members_by_standing(connection, [campaign.id for campaign in found])
    return [Campaign(**campaign.model_dump(), members=standing.get(campaign.id, {})) for campaign in found]
