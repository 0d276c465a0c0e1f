"""Workers tell when they last claimed a task; indexes for overdue deadlines, and for agents and users switched off."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    ALTER TABLE workers
        ADD COLUMN claims bigint NOT NULL DEFAULT 0,
        ADD COLUMN last_claimed_at timestamptz NOT NULL DEFAULT rota_now();
    COMMENT ON COLUMN workers.last_claimed_at IS 'The heartbeat after its last claim; its start before the first.';
    CREATE INDEX tasks_overdue ON tasks (deadline) WHERE status IN ('queued', 'waiting') AND deadline IS NOT NULL;
    CREATE INDEX agents_off ON agents (id) WHERE NOT enabled;
    CREATE INDEX users_off ON users (id) WHERE disabled_at IS NOT NULL;
    """)
