"""Events: what happened, in order, for those who follow an organisation or a task live.

An event is written by a trigger in the transaction of the change it tells of, so that none is lost and none tells of
what was rolled back. It names the row that holds the details (a step, an approval), which are read from there: nothing
is written twice. Its position is the transaction's id and a number within it: a reader that stops before the oldest
transaction that is still open never skips a row that commits late.
"""

from alembic import op
from core.row_security import protect

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE events (
    org_id uuid NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    at timestamptz NOT NULL DEFAULT rota_now(),
    task_id uuid,
    subject_id uuid,
    agent text,
    location_id uuid,
    data jsonb,
    once text,
    PRIMARY KEY (org_id, xid, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
COMMENT ON TABLE events IS 'Without foreign keys: the rows that events tell of hold them, and are written first.';
COMMENT ON COLUMN events.subject_id IS 'The row that holds the details: a step, an approval.';
COMMENT ON COLUMN events.data IS 'What no other row says.';
COMMENT ON COLUMN events.location_id IS 'Null: of the organisation as a whole, hidden from those limited to a location.';
COMMENT ON COLUMN events.once IS 'An event with the same value is not written again.';
CREATE UNIQUE INDEX events_once ON events (org_id, once) WHERE once IS NOT NULL;
CREATE INDEX events_task ON events (task_id, xid, seq) WHERE task_id IS NOT NULL;
-- The clean-up deletes by age, and rows lie on the disk by age: an index of ranges costs next to nothing to keep.
CREATE INDEX events_at ON events USING brin (at) WITH (pages_per_range = 16, autosummarize = on);

-- The last event that the clean-up deleted: a cursor before it is too old.
CREATE TABLE deleted_events (
    org_id uuid PRIMARY KEY REFERENCES organisations,
    xid xid8 NOT NULL,
    seq bigint NOT NULL
);
"""

TASKS = """
CREATE FUNCTION rota_task_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, agent, location_id, data)
    VALUES (NEW.org_id,
            CASE WHEN TG_OP = 'INSERT' THEN 'task.accepted'
                 WHEN NEW.status = 'queued' THEN 'task.queued'
                 WHEN NEW.status = 'running' THEN 'task.started'
                 WHEN NEW.status = 'waiting' THEN 'task.waiting'
                 ELSE 'task.ended' END,
            NEW.id, NEW.agent, NEW.location_id,
            jsonb_build_object('status', NEW.status, 'claim', NEW.claim, 'attempts', NEW.attempts)
            || CASE WHEN NEW.waiting_for IS NULL THEN '{}'
                    ELSE jsonb_build_object('waiting_for', NEW.waiting_for) END
            || CASE WHEN NEW.error IS NULL OR NEW.status = 'running' THEN '{}'
                    ELSE jsonb_build_object('error', NEW.error -> 'kind') END);
    RETURN NULL;
END $$;
-- Deferred: the last steps of a task are written by the statement that ends it, and are told first.
CREATE CONSTRAINT TRIGGER tasks_accepted AFTER INSERT ON tasks DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION rota_task_event();
CREATE CONSTRAINT TRIGGER tasks_moved AFTER UPDATE OF status ON tasks DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION rota_task_event();

CREATE FUNCTION rota_step_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id)
    SELECT NEW.org_id,
           CASE WHEN NEW.stage = 'decide' AND NEW.status = 'done' THEN 'decision.made'
                WHEN NEW.stage <> 'act' THEN 'task.step'
                WHEN NEW.status = 'begun' THEN 'action.begun'
                WHEN NEW.status = 'done' THEN 'action.executed'
                WHEN NEW.status = 'failed' THEN 'action.failed'
                ELSE 'action.unknown' END,
           NEW.task_id, NEW.id, t.agent, t.location_id
      FROM tasks t WHERE t.id = NEW.task_id;
    RETURN NULL;
END $$;
CREATE TRIGGER steps_written AFTER INSERT ON steps FOR EACH ROW EXECUTE FUNCTION rota_step_event();
CREATE TRIGGER steps_moved AFTER UPDATE OF status ON steps
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION rota_step_event();
"""

APPROVALS = """
CREATE FUNCTION rota_approval_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (org_id, kind, task_id, subject_id, agent, location_id, data)
    VALUES (NEW.org_id, NEW.kind || CASE WHEN NEW.status = 'open' THEN '.requested' ELSE '.decided' END,
            NEW.task_id, NEW.id, NEW.agent, NEW.location_id,
            jsonb_build_object('status', NEW.status, 'stage', NEW.stage));
    RETURN NULL;
END $$;
CREATE TRIGGER approvals_requested AFTER INSERT ON approvals FOR EACH ROW EXECUTE FUNCTION rota_approval_event();
CREATE TRIGGER approvals_moved AFTER UPDATE OF status, stage ON approvals FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.stage IS DISTINCT FROM NEW.stage)
    EXECUTE FUNCTION rota_approval_event();
"""

# The first argument is the event's kind, the others are the columns that it tells.
RECORDS = """
CREATE FUNCTION rota_record_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    INSERT INTO events (org_id, kind, task_id, data)
    SELECT changed.org_id, TG_ARGV[0], CAST(to_jsonb(changed) ->> 'task_id' AS uuid),
           jsonb_object_agg(name, value)
           || jsonb_build_object('change', CASE TG_OP WHEN 'INSERT' THEN 'added' WHEN 'UPDATE' THEN 'changed'
                                                      ELSE 'removed' END)
      FROM jsonb_each(to_jsonb(changed)) AS given (name, value)
     WHERE name = ANY(TG_ARGV[1:]);
    RETURN NULL;
END $$;
"""

# (kind, table, changes that it tells of, condition, columns)
OF_RECORDS = (
    ("calendar.changed", "calendar_events", "INSERT OR UPDATE OR DELETE", "",
     ("id", "kind", "title", "starts_at", "ends_at", "location", "status")),
    ("campaign.changed", "campaigns", "INSERT OR UPDATE OF status", "", ("id", "name", "kind", "status")),
    ("schedule.fired", "schedule_runs", "INSERT OR UPDATE OF status", "NEW.status = 'running'",
     ("id", "schedule_id", "kind", "scheduled_for")),
    ("schedule.skipped", "schedule_runs", "INSERT OR UPDATE OF status", "NEW.status IN ('skipped', 'missed')",
     ("id", "schedule_id", "kind", "scheduled_for", "reason")),
    ("follow_up.sent", "follow_ups", "UPDATE OF status", "NEW.status = 'sent'",
     ("id", "rule", "step", "contact", "channel")),
    ("workflow.started", "workflow_runs", "INSERT", "", ("id", "slug")),
    ("wallet.changed", "wallet_entries", "INSERT", "NEW.task_id IS NULL", ("id", "reason", "source", "target", "tokens", "note")),
)  # fmt: skip


def upgrade() -> None:
    op.execute(TABLES)
    op.execute("ALTER TABLE tasks ADD COLUMN is_streamed boolean NOT NULL DEFAULT false")
    for table in ("events", "deleted_events"):
        op.execute(protect(table))
    # For reading only: a change that was made within a location is also told to the organisation as a whole.
    op.execute(
        "CREATE POLICY events_where ON events AS RESTRICTIVE FOR SELECT TO rota_app "
        "USING (rota_everywhere() OR rota_at(location_id))"
    )
    op.execute("REVOKE UPDATE, DELETE ON events FROM rota_app")
    op.execute("REVOKE INSERT, UPDATE, DELETE ON deleted_events FROM rota_app")
    for part in (TASKS, APPROVALS, RECORDS):
        op.execute(part)
    for kind, table, changes, condition, columns in OF_RECORDS:
        told = ", ".join(f"'{name}'" for name in (kind, *columns))
        op.execute(
            f"CREATE TRIGGER {kind.replace('.', '_')} AFTER {changes} ON {table} FOR EACH ROW "
            f"{f'WHEN ({condition})' if condition else ''} EXECUTE FUNCTION rota_record_event({told})"
        )
