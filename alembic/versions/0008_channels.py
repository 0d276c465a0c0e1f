"""Words on their way to people: channels with their settings, templates, the outbox, in-app notifications.

A message is a row first and sent afterwards. One that was being sent when its process died, over a channel that would
send it twice, is `unknown` and waits for a person.
"""

from alembic import op
from core.row_security import protect

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
-- Settings hold no secret: that stands beside them, encrypted.
CREATE TABLE channels (
    org_id uuid NOT NULL REFERENCES organisations,
    kind text NOT NULL CHECK (kind IN ('email', 'sms', 'whatsapp')),
    settings jsonb NOT NULL,
    secret bytea,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, kind)
);

CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    url text NOT NULL,
    events text[] NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    disabled_at timestamptz
);
CREATE INDEX webhooks_org ON webhooks (org_id);

CREATE TABLE templates (
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    subject text NOT NULL,
    body text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, name)
);

CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp', 'webhook', 'in_app')),
    recipient text NOT NULL,
    contact uuid,
    subject text NOT NULL DEFAULT '',
    body text NOT NULL,
    webhook_id uuid,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'sending', 'sent', 'failed', 'unknown', 'cancelled')),
    send_after timestamptz NOT NULL DEFAULT rota_now(),
    attempts integer NOT NULL DEFAULT 0,
    error text,
    task_id uuid,
    seq integer,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    sending_since timestamptz,
    sent_at timestamptz
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX outbox_due ON outbox (send_after) WHERE status = 'queued';
CREATE INDEX outbox_sending ON outbox (org_id, sending_since) WHERE status = 'sending';
CREATE INDEX outbox_list ON outbox (org_id, id DESC);
CREATE INDEX outbox_task ON outbox (task_id) WHERE task_id IS NOT NULL;

CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    user_id uuid NOT NULL,
    kind text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    read_at timestamptz,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
);
CREATE INDEX notifications_user ON notifications (user_id, id DESC);
"""

WORKFLOWS = """
-- A workflow is a list of tasks that are done one after the other; a run is one time it was started.
CREATE TABLE workflows (
    org_id uuid NOT NULL REFERENCES organisations,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    steps jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, slug)
);

CREATE TABLE workflow_runs (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    slug text NOT NULL,
    variables jsonb NOT NULL,
    tasks uuid[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT rota_now()
);
CREATE INDEX workflow_runs_org ON workflow_runs (org_id, id DESC);
"""

TENANT_TABLES = (
    "channels", "webhooks", "templates", "outbox", "notifications", "workflows", "workflow_runs",
)  # fmt: skip


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(WORKFLOWS)
    for table in TENANT_TABLES:
        op.execute(protect(table))
