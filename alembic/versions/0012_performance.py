"""What measuring asked for: a hold that is over is only marked, so that the wallet's row is wanted once a task."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    ALTER TABLE holds ADD COLUMN is_over boolean NOT NULL DEFAULT false;
    COMMENT ON COLUMN holds.is_over IS 'Its task has left the worker; the next hold takes it off the wallet.';
    CREATE INDEX holds_over ON holds (org_id, task_id) WHERE is_over;
    DROP INDEX holds_org;
    """)
