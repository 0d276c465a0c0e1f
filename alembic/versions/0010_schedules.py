"""Schedules and their runs; the scheduler of an organisation, where it was stopped.

The sweep looks for what is due through partial indexes on `due_at`, which is null for whatever is not going to come due:
paused, finished, stopped, waiting for an event. So its cost grows with what is due and with nothing else. A due time has
one run: the unique index holds even where two sweeps work at once.
"""

from alembic import op
from core.row_security import protect

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE schedules (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    times jsonb NOT NULL,
    task jsonb NOT NULL,
    starts_at timestamptz,
    ends_at timestamptz,
    jitter interval NOT NULL,
    overlap text NOT NULL CHECK (overlap IN ('skip', 'buffer_one', 'buffer_all', 'cancel_other', 'allow_all')),
    catch_up interval NOT NULL,
    pause_after_failures integer,
    remaining_runs integer CHECK (remaining_runs >= 0),
    monthly_budget numeric,
    is_paused boolean NOT NULL DEFAULT false,
    note text,
    failures_in_a_row integer NOT NULL DEFAULT 0,
    next_at timestamptz,
    due_at timestamptz,
    event text,
    user_id uuid NOT NULL,
    scopes text[],
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    UNIQUE (org_id, slug),
    CONSTRAINT due_where_active CHECK (due_at IS NULL OR (next_at IS NOT NULL AND NOT is_paused))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON COLUMN schedules.next_at IS 'The next time in its calendar.';
COMMENT ON COLUMN schedules.due_at IS 'When to act on it: next_at and its jitter; null while paused or stopped.';
CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_due_by_org ON schedules (org_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_event ON schedules (org_id, event) WHERE event IS NOT NULL;

CREATE TABLE schedule_runs (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    schedule_id uuid NOT NULL REFERENCES schedules ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('due', 'manual', 'backfill', 'event')),
    scheduled_for timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('buffered', 'running', 'succeeded', 'failed', 'cancelled', 'expired',
                                           'skipped', 'missed')),
    overlap text NOT NULL,
    reason text,
    missed integer,
    event_key text,
    payload jsonb,
    task_id uuid,
    billed_cost numeric,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    ended_at timestamptz,
    CONSTRAINT running_has_a_task CHECK (status <> 'running' OR task_id IS NOT NULL)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX schedule_runs_once ON schedule_runs (schedule_id, scheduled_for) WHERE kind = 'due';
CREATE UNIQUE INDEX schedule_runs_event ON schedule_runs (schedule_id, event_key) WHERE event_key IS NOT NULL;
CREATE INDEX schedule_runs_open ON schedule_runs (schedule_id, scheduled_for) WHERE status IN ('buffered', 'running');
CREATE INDEX schedule_runs_running ON schedule_runs (org_id, task_id) WHERE status = 'running';
CREATE INDEX schedule_runs_latest ON schedule_runs (schedule_id, id);
CREATE INDEX schedule_runs_age ON schedule_runs (org_id, created_at);

CREATE TABLE schedulers (
    org_id uuid PRIMARY KEY REFERENCES organisations,
    stopped_at timestamptz NOT NULL DEFAULT rota_now(),
    note text
);
COMMENT ON TABLE schedulers IS 'A row for each organisation whose scheduler was stopped.';
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("schedules", "schedule_runs", "schedulers"):
        op.execute(protect(table))
