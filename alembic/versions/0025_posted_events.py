"""Webhooks are posted events of the feed: each goes through the feed with a cursor of its own. A submission may name a
webhook to which the events of its task are posted.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

WEBHOOKS = """
ALTER TABLE webhooks
    ADD COLUMN agents text[],
    ADD COLUMN cursor_xid xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
    ADD COLUMN cursor_seq bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN webhooks.agents IS 'Post only events of these agents; null for all.';
COMMENT ON COLUMN webhooks.cursor_xid IS 'With cursor_seq: up to where events of the feed were put into the outbox.';
ALTER TABLE tasks ADD COLUMN notify text;
COMMENT ON COLUMN tasks.notify IS 'URL of the webhook to which the events of the task are posted.';
"""


def upgrade() -> None:
    op.execute(WEBHOOKS)
