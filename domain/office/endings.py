"""Periodic ends: posts that are due or were missed, campaigns under way, exports that are too old.

Safe to run late, repeatedly or concurrently: the run that changes a row's status first handles it.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.db import transaction
from domain.channels.schemas import Notice
from domain.office import campaigns, queries
from domain.office.schemas import DuePost, MissedPost
from domain.office.telling import tell_managers

POST_PATIENCE = timedelta(days=2)
EXPORTS_KEPT = timedelta(days=30)
_PORTION = 100
_SHOWN = 200


def organisations_in_need(connection: Connection) -> list[UUID]:
    """Return the organisations in which something is due, overdue or under way."""
    return queries.organisations_in_need(connection, post=POST_PATIENCE, export=EXPORTS_KEPT)


def attend(org: UUID) -> None:
    """Hand over due posts, mark missed ones, delete old exports and continue active campaigns of an organisation."""
    with transaction(org) as connection:
        for post in queries.hand_over_posts(connection, _PORTION):
            tell_managers(connection, org, _due(post), written_by=post.task_id)
        for missed in queries.miss_posts(connection, POST_PATIENCE, _PORTION):
            tell_managers(connection, org, _missed(missed), written_by=missed.task_id)
        queries.forget_exports(connection, EXPORTS_KEPT)
        active = queries.active_campaigns(connection)
    for campaign in active:
        has_more = True
        while has_more:
            with transaction(org) as connection:
                has_more = campaigns.carry_on(connection, org, campaign)


def _due(post: DuePost) -> Notice:
    media = f"\n{post.media_url}" if post.media_url else ""
    return Notice(
        kind="post.due",
        title=f"Publish a post on {post.platform} now",
        body=f"{post.text}{media}\n\nThen say so: rota posts settle {post.id} published --url ADDRESS",
        data={
            "post_id": str(post.id),
            "scheduled_at": post.scheduled_at.isoformat(),
            "platform": post.platform,
            "text": post.text,
            "media_url": post.media_url,
            "created_by": post.created_by,
        },
    )


def _missed(post: MissedPost) -> Notice:
    return Notice(
        kind="post.missed",
        title=f"A post on {post.platform} was not published",
        body=f"Nobody said within {POST_PATIENCE.days} days that it was: {post.text[:_SHOWN]}",
        data={"post_id": str(post.id), "platform": post.platform},
    )
