"""Feedback on answers: whether they were good, and why not."""

from alembic import op
from core.row_security import protect

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE feedback (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    task_id uuid NOT NULL,
    message_id uuid REFERENCES conversation_messages ON DELETE CASCADE,
    agent text NOT NULL,
    location_id uuid,
    conversation_id uuid,
    user_id uuid NOT NULL,
    rating text NOT NULL CHECK (rating IN ('up', 'down')),
    comment text NOT NULL,
    given_at timestamptz NOT NULL DEFAULT rota_now(),
    UNIQUE (task_id, user_id)
);
COMMENT ON COLUMN feedback.task_id IS 'Not a reference: tasks are cleaned up after some days, and feedback stays.';
COMMENT ON COLUMN feedback.message_id IS 'The answer, if it was given in a conversation: with it the feedback goes.';
CREATE INDEX feedback_message ON feedback (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX feedback_latest ON feedback (org_id, id DESC);

CREATE FUNCTION rota_feedback_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, agent, location_id, conversation_id, data)
    VALUES (NEW.org_id, 'answer.rated', NEW.task_id, NEW.agent, NEW.location_id, NEW.conversation_id,
            jsonb_build_object('rating', NEW.rating, 'feedback_id', NEW.id, 'user_id', NEW.user_id));
    RETURN NULL;
END $$;
CREATE TRIGGER feedback_given AFTER INSERT OR UPDATE ON feedback
    FOR EACH ROW EXECUTE FUNCTION rota_feedback_event();
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(protect("feedback"))
    op.execute(
        "CREATE POLICY feedback_where ON feedback AS RESTRICTIVE TO rota_app "
        "USING (rota_everywhere() OR rota_at(location_id))"
    )
