"""Summaries of conversations: what the messages up to one of them came to, for agents that no longer read them all."""

from alembic import op
from core.row_security import protect

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE conversation_summaries (
    message_id uuid PRIMARY KEY REFERENCES conversation_messages ON DELETE CASCADE,
    org_id uuid NOT NULL,
    text text NOT NULL,
    is_untrusted boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now()
);
COMMENT ON TABLE conversation_summaries IS 'What the messages of a branch came to, up to the one that is named.';
COMMENT ON COLUMN conversation_summaries.is_untrusted IS 'Strangers may have written what it was made of.';
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(protect("conversation_summaries"))
    op.execute(
        "CREATE POLICY conversation_summaries_where ON conversation_summaries AS RESTRICTIVE TO rota_app USING ("
        "rota_everywhere() OR EXISTS (SELECT FROM conversation_messages m WHERE m.id = message_id))"
    )
