"""Conversations over OpenAI's wire: an agent is chosen with the first answer, single responses are conversations that are
not listed, and what an answer was asked for is kept with it.
"""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

CONVERSATIONS = """
ALTER TABLE conversations
    ALTER COLUMN agent DROP NOT NULL,
    ADD COLUMN is_listed boolean NOT NULL DEFAULT true,
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN conversations.agent IS 'The agent that answers; null until the first answer if none was named.';
COMMENT ON COLUMN conversations.is_listed IS 'False for the responses of a program, which began no conversation.';
COMMENT ON COLUMN conversations.metadata IS 'Labels of the caller. The agent does not read them.';
DROP INDEX conversations_latest;
CREATE INDEX conversations_latest ON conversations (org_id, updated_at DESC, id DESC)
    WHERE deleted_at IS NULL AND is_listed;

ALTER TABLE conversation_messages
    ADD COLUMN options jsonb,
    ADD COLUMN tool_calls jsonb,
    ADD COLUMN call_id text,
    DROP CONSTRAINT conversation_messages_role_check,
    ADD CONSTRAINT conversation_messages_role_check CHECK (role IN ('user', 'assistant', 'tool'));
COMMENT ON COLUMN conversation_messages.options IS 'Of an answer: what the request asked for beside the message.';
COMMENT ON COLUMN conversation_messages.tool_calls IS 'Of an earlier answer that the caller told: its calls of client tools.';
COMMENT ON COLUMN conversation_messages.call_id IS 'Of what a client tool returned: the call.';
CREATE INDEX conversation_messages_parent ON conversation_messages (parent_id);
"""


def upgrade() -> None:
    op.execute(CONVERSATIONS)
