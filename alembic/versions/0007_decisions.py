"""What agents propose and people decide: the rules that give an action its level, approvals and votes.

An approval is bound to one tool with exactly these arguments (`digest`), stands for one step of one task, and is used
once. It outlives the clean-up of its task.
"""

from alembic import op
from core.row_security import protect

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE policies (
    org_id uuid PRIMARY KEY REFERENCES organisations,
    rules jsonb NOT NULL,
    asks jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT rota_now()
);

CREATE TABLE approvals (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    task_id uuid NOT NULL,
    seq integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('approval', 'advice', 'suggestion')),
    status text NOT NULL DEFAULT 'open'
        CHECK (status IN ('open', 'approved', 'rejected', 'denied', 'expired', 'withdrawn')),
    agent text NOT NULL,
    user_id uuid NOT NULL,
    location_id uuid,
    tool text NOT NULL,
    arguments jsonb NOT NULL,
    proposed jsonb NOT NULL,
    digest bytea NOT NULL,
    decision jsonb NOT NULL,
    asks jsonb NOT NULL,
    stage integer NOT NULL DEFAULT 0,
    needed integer NOT NULL DEFAULT 1 CHECK (needed > 0),
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    decided_at timestamptz,
    decided_by uuid,
    reason text,
    used_at timestamptz,
    used_by_task uuid,
    used_by_seq integer,
    linked_task uuid,
    UNIQUE (task_id, seq),
    UNIQUE (org_id, id),
    CONSTRAINT open_is_undecided CHECK ((status = 'open') = (decided_at IS NULL)),
    CONSTRAINT used_was_approved CHECK (used_at IS NULL OR status = 'approved')
);
COMMENT ON COLUMN approvals.asks IS 'Who is asked, stage by stage, for how long, and what happens then.';
COMMENT ON COLUMN approvals.proposed IS 'The arguments as the agent proposed them, before anybody edited them.';
CREATE INDEX approvals_open ON approvals (org_id, expires_at) WHERE status = 'open';
CREATE INDEX approvals_list ON approvals (org_id, id DESC);
CREATE INDEX approvals_tool ON approvals (org_id, tool, agent, id DESC);

CREATE TABLE votes (
    approval_id uuid NOT NULL,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    stage integer NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('approve', 'reject')),
    digest bytea NOT NULL,
    words text,
    voted_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (approval_id, user_id),
    FOREIGN KEY (org_id, approval_id) REFERENCES approvals (org_id, id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("policies", "approvals", "votes"):
        op.execute(protect(table))
    op.execute("""
        CREATE POLICY approvals_where ON approvals AS RESTRICTIVE TO rota_app
            USING (rota_everywhere() OR rota_at(location_id))
    """)
    op.execute("REVOKE DELETE ON approvals FROM rota_app, rota_system")
