"""What every task pays for is cheaper: the time, the events of its steps and moves, the audit log's lines by record.

The time was a function that read a table, and such a function runs a query of its own at each call: some twenty for
each task. It is now an expression that the planner copies into the statement; moving the clock writes the function
anew. The events of new steps are written by the statement that writes the steps. Of the triggers of tasks one less has
a condition, which Postgres parses again for each statement. The audit log's lines are found by the ids that they name
through an index of the array, whose entries are written in bulk, instead of a row for each id.
"""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

CLOCK = """
CREATE FUNCTION rota_clock_moved() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    ahead text := CASE WHEN NEW.ahead = interval '0' THEN '' ELSE format(' + interval %L', NEW.ahead) END;
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION rota_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE '
                   'AS %L', 'SELECT now()' || ahead);
    EXECUTE format('CREATE OR REPLACE FUNCTION rota_clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE '
                   'AS %L', 'SELECT clock_timestamp()' || ahead);
    RETURN NULL;
END $$;
CREATE TRIGGER clock_moved AFTER UPDATE ON clock FOR EACH ROW EXECUTE FUNCTION rota_clock_moved();
COMMENT ON COLUMN clock.ahead IS 'Zero outside tests. A change writes rota_now() and rota_clock() anew.';
UPDATE clock SET ahead = ahead;
"""

# The answer is told before the end of its task.
TASKS = """
DROP TRIGGER tasks_answer ON tasks;
DROP FUNCTION rota_answer();
CREATE FUNCTION rota_answer(task tasks) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE conversation_messages
       SET status = CASE task.status WHEN 'queued' THEN 'queued' WHEN 'running' THEN 'answering'
                                     WHEN 'waiting' THEN 'waiting' WHEN 'succeeded' THEN 'answered'
                                     WHEN 'cancelled' THEN 'stopped' ELSE 'failed' END,
           text = CASE WHEN task.status = 'succeeded' THEN coalesce(task.result ->> 'answer', '')
                       WHEN task.status IN ('cancelled', 'failed', 'expired') THEN coalesce((
                           SELECT string_agg(said, E'\\n\\n' ORDER BY seq) FROM (
                               SELECT DISTINCT ON (s.seq) s.seq,
                                      coalesce(s.output -> 'message' ->> 'text', s.output ->> 'text') AS said
                                 FROM steps s WHERE s.task_id = task.id AND s.stage = 'decide'
                                ORDER BY s.seq, s.status = 'done' DESC, s.recorded_at DESC) AS steps_said
                            WHERE said <> ''), '')
                       ELSE '' END,
           is_untrusted = CASE WHEN task.status = 'succeeded'
                               THEN coalesce((task.result ->> 'has_read_untrusted')::boolean, true) ELSE true END,
           error = task.error, billed_cost = task.billed_cost, ended_at = task.finished_at
     WHERE id = task.message_id;
    IF task.finished_at IS NOT NULL THEN
        INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, conversation_id)
        VALUES (task.org_id, 'message.answered', task.id, task.message_id, task.agent, task.location_id,
                task.conversation_id);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION rota_task_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.message_id IS NOT NULL THEN
        PERFORM rota_answer(NEW);
    END IF;
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
"""

# The one statement that writes steps also writes their events; a status that changes is still told by a trigger.
STEPS = """
DROP TRIGGER steps_written ON steps;
DROP FUNCTION rota_steps_written();
"""

# With row-level security, operators of arrays use no index: the owner looks, within the organisation of the
# transaction. A short list of pending entries keeps the writer short that has to sort it in.
RECORDS = """
DROP TABLE audit_records;
CREATE INDEX audit_log_records ON audit_log USING gin (records) WITH (gin_pending_list_limit = 1024);
CREATE FUNCTION rota_lines_naming(record uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id FROM audit_log
     WHERE records @> ARRAY[record] AND org_id = nullif(current_setting('app.org', true), '')::uuid
$$;
REVOKE ALL ON FUNCTION rota_lines_naming(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rota_lines_naming(uuid) TO rota_app, rota_system;
"""


def forgetting(name: str, condition: str, least: str) -> str:
    """Return SQL for a function that deletes a portion of an organisation's old lines and returns how many."""
    return f"""
CREATE OR REPLACE FUNCTION {name}(organisation uuid, kept interval, batch integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (
        DELETE FROM audit_log WHERE id IN (
            SELECT id FROM audit_log
             WHERE org_id = organisation AND {condition} AND at < rota_now() - greatest(kept, interval '{least}')
             ORDER BY at LIMIT batch FOR UPDATE SKIP LOCKED)
        RETURNING id
    )
    SELECT count(*) FROM gone
$$;
"""  # noqa: S608


def upgrade() -> None:
    for part in (CLOCK, TASKS, STEPS):
        op.execute(part)
    op.execute(forgetting("rota_forget_reads", "verb = 'read'", "1 day"))
    op.execute(forgetting("rota_forget_changes", "verb <> 'read'", "30 days"))
    op.execute(RECORDS)
