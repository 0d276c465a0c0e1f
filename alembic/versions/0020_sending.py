"""Sending so that one receiver's trouble stays its own: lanes in the outbox, receivers that are left alone for a while,
why a webhook was disabled. And which organisations are demonstrations, which messages the rehearsal model wrote.
Conversations over WhatsApp. And which of what was received is no answer.
"""

from alembic import op
from core.row_security import protect

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

LANES = """
-- What is queued for one receiver: a webhook, or a channel's server.
ALTER TABLE outbox ADD receiver text GENERATED ALWAYS AS (coalesce(webhook_id::text, channel)) STORED;
CREATE INDEX outbox_lanes ON outbox (org_id, receiver, send_after) WHERE status = 'queued';
CREATE INDEX outbox_deliveries ON outbox (webhook_id, id DESC) WHERE webhook_id IS NOT NULL;
DROP INDEX outbox_due;

ALTER TABLE webhooks ADD disabled_because text;

CREATE TABLE troubled_receivers (
    org_id uuid NOT NULL REFERENCES organisations,
    receiver text NOT NULL,
    failures integer NOT NULL,
    since timestamptz NOT NULL DEFAULT rota_now(),
    error text,
    retry_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, receiver)
);
COMMENT ON COLUMN troubled_receivers.receiver IS 'As in the outbox: the id of a webhook, or a channel.';
COMMENT ON COLUMN troubled_receivers.failures IS 'In a row; none where it only was slow.';
"""

REHEARSAL = """
ALTER TABLE organisations ADD is_demonstration boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN organisations.is_demonstration IS 'Its contacts are invented; words of the rehearsal model may leave.';
-- The addresses of the demonstration gym, at reserved domains (RFC 2606).
UPDATE organisations o SET is_demonstration = true
 WHERE EXISTS (SELECT FROM clients c WHERE c.org_id = o.id)
   AND NOT EXISTS (SELECT FROM clients c WHERE c.org_id = o.id AND c.email !~ '@example\\.com$')
   AND NOT EXISTS (SELECT FROM leads l WHERE l.org_id = o.id AND l.email !~ '@example\\.(com|net)$');

ALTER TABLE outbox ADD is_rehearsal boolean NOT NULL DEFAULT false;
UPDATE outbox o SET is_rehearsal = true
 WHERE status IN ('queued', 'sending', 'unknown')
   AND EXISTS (SELECT FROM usage u WHERE u.task_id = o.task_id AND u.is_rehearsal);
"""

CONVERSATIONS = """
-- Of 24 hours from the first message of either side. What pays for it is a message of ours and the step that charged.
CREATE TABLE whatsapp_conversations (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    number text NOT NULL,
    opened_by text NOT NULL CHECK (opened_by IN ('us', 'them')),
    opened_at timestamptz NOT NULL,
    message_id uuid,
    task_id uuid,
    seq integer
);
CREATE INDEX whatsapp_conversations_number ON whatsapp_conversations (org_id, number, opened_at DESC);
ALTER TABLE outbox ADD conversation_id uuid;
ALTER TABLE inbox ADD kind text NOT NULL DEFAULT 'words' CHECK (kind IN ('words', 'auto_reply', 'bounce'));
CREATE INDEX outbox_conversation ON outbox (conversation_id) WHERE conversation_id IS NOT NULL;
"""

TENANT_TABLES = ("troubled_receivers", "whatsapp_conversations")


def upgrade() -> None:
    op.execute(LANES)
    op.execute(REHEARSAL)
    op.execute(CONVERSATIONS)
    for table in TENANT_TABLES:
        op.execute(protect(table))
