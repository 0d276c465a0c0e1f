"""The events of new steps are written once for each statement: a plain task writes its three steps with one."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

KIND = """
CREATE FUNCTION rota_step_kind(stage text, status text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN stage = 'decide' AND status = 'done' THEN 'decision.made'
                WHEN stage <> 'act' THEN 'task.step'
                WHEN status = 'begun' THEN 'action.begun'
                WHEN status = 'done' THEN 'action.executed'
                WHEN status = 'failed' THEN 'action.failed'
                ELSE 'action.unknown' END
$$;
"""

# Not a plain join: there are no statistics of the rows that were written, and the planner would read all tasks.
WRITTEN = """
CREATE FUNCTION rota_steps_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
    SELECT s.org_id, rota_step_kind(s.stage, s.status), s.task_id, s.id, t.agent, t.location_id, t.conversation_id
      FROM written s, LATERAL (SELECT * FROM tasks WHERE id = s.task_id LIMIT 1) t ORDER BY s.seq;
    RETURN NULL;
END $$;
DROP TRIGGER steps_written ON steps;
CREATE TRIGGER steps_written AFTER INSERT ON steps REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION rota_steps_written();
"""

# Only of a step whose status changes: one at a time.
MOVED = """
CREATE OR REPLACE FUNCTION rota_step_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
    SELECT NEW.org_id, rota_step_kind(NEW.stage, NEW.status), NEW.task_id, NEW.id, t.agent, t.location_id,
           t.conversation_id
      FROM tasks t WHERE t.id = NEW.task_id;
    RETURN NULL;
END $$;
"""


def upgrade() -> None:
    for part in (KIND, WRITTEN, MOVED):
        op.execute(part)
