"""Attachments: files that a user uploads and sends with a message. Their bytes are in the blob store, under `key`."""

from alembic import op
from core.row_security import protect

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE attachments (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    user_id uuid NOT NULL,
    location_id uuid,
    conversation_id uuid REFERENCES conversations ON DELETE CASCADE,
    task_id uuid REFERENCES tasks ON DELETE CASCADE,
    name text NOT NULL,
    media_type text NOT NULL,
    size bigint NOT NULL CHECK (size > 0),
    pages int,
    sha256 text NOT NULL,
    key text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    stored_at timestamptz,
    deleted_at timestamptz,
    FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id),
    CHECK (conversation_id IS NULL OR task_id IS NULL)
);
COMMENT ON COLUMN attachments.conversation_id IS 'Null until it is sent: then it belongs to this conversation.';
COMMENT ON COLUMN attachments.task_id IS 'Of one that came with a chat completion, which has no conversation.';
COMMENT ON COLUMN attachments.pages IS 'Of a PDF: its pages, as far as they can be counted.';
COMMENT ON COLUMN attachments.stored_at IS 'Null while the bytes are being stored: the row is first, so that no blob is forgotten.';
CREATE INDEX attachments_conversation ON attachments (conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX attachments_task ON attachments (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX attachments_stored ON attachments (org_id) INCLUDE (size) WHERE deleted_at IS NULL;
CREATE INDEX attachments_unsent ON attachments (created_at) WHERE conversation_id IS NULL AND task_id IS NULL;

CREATE TABLE blob_removals (
    key text PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    asked_at timestamptz NOT NULL DEFAULT rota_now()
);
COMMENT ON TABLE blob_removals IS 'Blobs that no row refers to any more, until they are deleted from the store.';
CREATE INDEX blob_removals_oldest ON blob_removals (asked_at);

ALTER TABLE conversation_messages ADD COLUMN attachments uuid[];
COMMENT ON COLUMN conversation_messages.attachments IS 'Of a user''s message: its attachments, in order.';
"""

# In the transaction that deletes the row, however that comes: by its user, with its conversation, or with its task.
REMOVALS = """
CREATE FUNCTION rota_remove_blob() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO blob_removals (key, org_id) VALUES (OLD.key, OLD.org_id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER attachments_removed AFTER DELETE ON attachments FOR EACH ROW EXECUTE FUNCTION rota_remove_blob();
CREATE TRIGGER attachments_deleted AFTER UPDATE OF deleted_at ON attachments FOR EACH ROW
    WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION rota_remove_blob();
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("attachments", "blob_removals"):
        op.execute(protect(table))
    op.execute(
        "CREATE POLICY attachments_where ON attachments AS RESTRICTIVE TO rota_app "
        "USING (rota_everywhere() OR rota_at(location_id))"
    )
    op.execute(REMOVALS)
