"""Conversations: people talk with agents. A message is answered by a task; what becomes of the task becomes of the answer.

The answer's row is written by a trigger in the transaction that moves its task, however the task ends.
"""

from alembic import op
from core.row_security import protect

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    agent text NOT NULL,
    user_id uuid NOT NULL,
    location_id uuid,
    contact uuid,
    title text NOT NULL,
    session text,
    context jsonb NOT NULL,
    preferences jsonb NOT NULL,
    last_position bigint NOT NULL DEFAULT 0,
    head uuid,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    updated_at timestamptz NOT NULL DEFAULT rota_now(),
    archived_at timestamptz,
    deleted_at timestamptz,
    folded text GENERATED ALWAYS AS (rota_fold(title)) STORED,
    FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id)
) WITH (fillfactor = 70);
COMMENT ON COLUMN conversations.session IS 'The caller''s own id of what the conversation belongs to.';
COMMENT ON COLUMN conversations.head IS 'The last message of the branch that the conversation goes on from.';
CREATE INDEX conversations_latest ON conversations (org_id, updated_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX conversations_session ON conversations (org_id, session) WHERE session IS NOT NULL;
CREATE INDEX conversations_deleted ON conversations (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE conversation_messages (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    position bigint NOT NULL,
    parent_id uuid,
    role text NOT NULL CHECK (role IN ('user', 'assistant')),
    status text NOT NULL CHECK (status IN ('sent', 'queued', 'answering', 'waiting', 'answered', 'stopped', 'failed')),
    text text NOT NULL,
    context jsonb,
    is_from_outside boolean NOT NULL DEFAULT false,
    is_untrusted boolean NOT NULL DEFAULT false,
    task_id uuid,
    idempotency_key text,
    error jsonb,
    billed_cost numeric(20, 10) NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    ended_at timestamptz,
    UNIQUE (conversation_id, position)
) WITH (fillfactor = 80);
COMMENT ON COLUMN conversation_messages.parent_id IS 'The message that it follows: an answer regenerated has the same.';
COMMENT ON COLUMN conversation_messages.is_untrusted IS 'Strangers may have written it, or what it was made of.';
CREATE UNIQUE INDEX conversation_messages_key ON conversation_messages (conversation_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

ALTER TABLE tasks ADD COLUMN conversation_id uuid, ADD COLUMN message_id uuid;
CREATE INDEX tasks_conversation ON tasks (conversation_id) WHERE conversation_id IS NOT NULL;
ALTER TABLE events ADD COLUMN conversation_id uuid;
CREATE INDEX events_conversation ON events (conversation_id, xid, seq) WHERE conversation_id IS NOT NULL;
"""

# Of an answer that was stopped, what was said stays: in its steps that are done, and in the last one that failed.
ANSWERS = """
CREATE FUNCTION rota_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE conversation_messages
       SET status = CASE NEW.status WHEN 'queued' THEN 'queued' WHEN 'running' THEN 'answering'
                                    WHEN 'waiting' THEN 'waiting' WHEN 'succeeded' THEN 'answered'
                                    WHEN 'cancelled' THEN 'stopped' ELSE 'failed' END,
           text = CASE WHEN NEW.status = 'succeeded' THEN coalesce(NEW.result ->> 'answer', '')
                       WHEN NEW.status IN ('cancelled', 'failed', 'expired') THEN coalesce((
                           SELECT string_agg(said, E'\\n\\n' ORDER BY seq) FROM (
                               SELECT DISTINCT ON (s.seq) s.seq,
                                      coalesce(s.output -> 'message' ->> 'text', s.output ->> 'text') AS said
                                 FROM steps s WHERE s.task_id = NEW.id AND s.stage = 'decide'
                                ORDER BY s.seq, s.status = 'done' DESC, s.recorded_at DESC) AS steps_said
                            WHERE said <> ''), '')
                       ELSE '' END,
           is_untrusted = CASE WHEN NEW.status = 'succeeded'
                               THEN coalesce((NEW.result ->> 'has_read_untrusted')::boolean, true) ELSE true END,
           error = NEW.error, billed_cost = NEW.billed_cost, ended_at = NEW.finished_at
     WHERE id = NEW.message_id;
    IF NEW.finished_at IS NOT NULL THEN
        INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
        VALUES (NEW.org_id, 'message.answered', NEW.id, NEW.message_id, NEW.agent, NEW.location_id, NEW.conversation_id);
    END IF;
    RETURN NULL;
END $$;
-- Deferred: the statement that ends a task also writes its last decision, which is told first. Of the triggers that are
-- deferred the names decide: the answer is told before the end of its task.
CREATE CONSTRAINT TRIGGER tasks_answer AFTER UPDATE OF status ON tasks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.message_id IS NOT NULL AND OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION rota_answer();

CREATE FUNCTION rota_message_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
    SELECT NEW.org_id, 'message.sent', NEW.task_id, NEW.id, c.agent, c.location_id, NEW.conversation_id
      FROM conversations c WHERE c.id = NEW.conversation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER conversation_messages_sent AFTER INSERT ON conversation_messages FOR EACH ROW
    WHEN (NEW.role = 'user') EXECUTE FUNCTION rota_message_event();

-- An event of a task of a conversation is one of the conversation.
CREATE OR REPLACE FUNCTION rota_task_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, agent, location_id, conversation_id, data)
    VALUES (NEW.org_id,
            CASE WHEN TG_OP = 'INSERT' THEN 'task.accepted'
                 WHEN NEW.status = 'queued' THEN 'task.queued'
                 WHEN NEW.status = 'running' THEN 'task.started'
                 WHEN NEW.status = 'waiting' THEN 'task.waiting'
                 ELSE 'task.ended' END,
            NEW.id, NEW.agent, NEW.location_id, NEW.conversation_id,
            jsonb_build_object('status', NEW.status, 'claim', NEW.claim, 'attempts', NEW.attempts)
            || CASE WHEN NEW.waiting_for IS NULL THEN '{}'
                    ELSE jsonb_build_object('waiting_for', NEW.waiting_for) END
            || CASE WHEN NEW.error IS NULL OR NEW.status = 'running' THEN '{}'
                    ELSE jsonb_build_object('error', NEW.error -> 'kind') END);
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION rota_step_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
    SELECT NEW.org_id,
           CASE WHEN NEW.stage = 'decide' AND NEW.status = 'done' THEN 'decision.made'
                WHEN NEW.stage <> 'act' THEN 'task.step'
                WHEN NEW.status = 'begun' THEN 'action.begun'
                WHEN NEW.status = 'done' THEN 'action.executed'
                WHEN NEW.status = 'failed' THEN 'action.failed'
                ELSE 'action.unknown' END,
           NEW.task_id, NEW.id, t.agent, t.location_id, t.conversation_id
      FROM tasks t WHERE t.id = NEW.task_id;
    RETURN NULL;
END $$;
"""

ROLES = """
UPDATE roles SET permissions = ARRAY(SELECT DISTINCT unnest(permissions || ARRAY['conversations:*']))
 WHERE is_built_in AND name IN ('manager', 'coordinator', 'staff');
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("conversations", "conversation_messages"):
        op.execute(protect(table))
    op.execute(
        "CREATE POLICY conversations_where ON conversations AS RESTRICTIVE TO rota_app "
        "USING (rota_everywhere() OR rota_at(location_id))"
    )
    op.execute(
        "CREATE POLICY conversation_messages_where ON conversation_messages AS RESTRICTIVE TO rota_app USING ("
        "rota_everywhere() OR EXISTS (SELECT FROM conversations c WHERE c.id = conversation_messages.conversation_id))"
    )
    op.execute(ANSWERS)
    op.execute(ROLES)
