"""Fair dispatch within limits, conversations in order, effects that happen once, workers that can be scaled.

`tasks_due` groups what is due into lanes (priority, organisation, agent): a lane that may not go on is passed over as a
whole, however long it is. A task with a concurrency key is parked until it is the first of its key that has not ended.
"""

from alembic import op
from core.row_security import protect

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LIMITS = """
ALTER TABLE organisations
    ADD COLUMN weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),
    ADD COLUMN max_in_flight integer CHECK (max_in_flight > 0),
    ADD COLUMN starts_per_minute integer DEFAULT 100 CHECK (starts_per_minute > 0);
ALTER TABLE agents ADD COLUMN max_in_flight integer CHECK (max_in_flight > 0);

CREATE TABLE pauses (
    org_id uuid NOT NULL REFERENCES organisations,
    kind text NOT NULL CHECK (kind IN ('organisation', 'queue', 'agent')),
    name text NOT NULL,
    reason text,
    paused_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, kind, name)
);

-- The accounts at the providers belong to the installation. The row with the empty model stands for all models.
CREATE TABLE provider_limits (
    provider text NOT NULL,
    model text NOT NULL DEFAULT '',
    max_in_flight integer CHECK (max_in_flight > 0),
    starts_per_minute integer CHECK (starts_per_minute > 0),
    held_until timestamptz,
    held_because text,
    PRIMARY KEY (provider, model)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON provider_limits TO rota_system;
"""

# `queue` is the Celery queue a task was last published on: its priority, or a higher one when it has waited for long.
# `provider` and `model` are what its agent named when it was dispatched: what the limits count by.
TASKS = """
ALTER TABLE tasks
    ADD COLUMN concurrency_key text,
    ADD COLUMN key_position bigint,
    ADD COLUMN parked boolean NOT NULL DEFAULT false,
    ADD COLUMN queue task_priority,
    ADD COLUMN provider text,
    ADD COLUMN model text,
    ADD CONSTRAINT key_has_position CHECK ((concurrency_key IS NULL) = (key_position IS NULL));

DROP INDEX tasks_due;
CREATE INDEX tasks_due ON tasks (priority, org_id, agent_id, run_after, id)
    WHERE status = 'queued' AND dispatched_at IS NULL AND NOT parked;
DROP INDEX tasks_dispatched;
CREATE INDEX tasks_dispatched ON tasks (queue, dispatched_at) WHERE status = 'queued' AND dispatched_at IS NOT NULL;
CREATE INDEX tasks_key ON tasks (org_id, concurrency_key, key_position)
    WHERE concurrency_key IS NOT NULL AND status IN ('queued', 'running', 'waiting');
CREATE INDEX tasks_keys ON tasks (org_id, concurrency_key) WHERE concurrency_key IS NOT NULL;

ALTER TABLE attempts
    ADD COLUMN provider text,
    ADD COLUMN model text,
    ADD COLUMN queue task_priority,
    ADD COLUMN waited interval;
CREATE INDEX attempts_started ON attempts (org_id, started_at);
CREATE INDEX attempts_provider ON attempts (provider, started_at) WHERE provider IS NOT NULL;
"""

# The lock on a key's row gives out positions in the order in which submissions commit.
# Whatever ends a task only adds a row to `key_changes`, which no one can have locked: no verb can deadlock with another.
# The one dispatcher that leads reads the changes and lets the next task of each key go.
KEYS = """
CREATE TABLE concurrency_keys (
    org_id uuid NOT NULL REFERENCES organisations,
    key text NOT NULL,
    last_position bigint NOT NULL,
    used_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, key)
) WITH (fillfactor = 70);

CREATE INDEX concurrency_keys_used ON concurrency_keys (used_at);

CREATE TABLE key_changes (
    org_id uuid NOT NULL,
    key text NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION note_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO key_changes (org_id, key) VALUES (NEW.org_id, NEW.concurrency_key);
    RETURN NULL;
END $$;

CREATE TRIGGER task_of_a_key_submitted AFTER INSERT ON tasks FOR EACH ROW
    WHEN (NEW.concurrency_key IS NOT NULL) EXECUTE FUNCTION note_key_change();
CREATE TRIGGER task_of_a_key_ended_or_retried AFTER UPDATE OF status ON tasks FOR EACH ROW
    WHEN (NEW.concurrency_key IS NOT NULL AND (NEW.finished_at IS NULL) <> (OLD.finished_at IS NULL))
    EXECUTE FUNCTION note_key_change();
"""

# An error's fingerprint: its kind, and its message without what differs from case to case (numbers, ids, quoted words).
FINGERPRINT = r"""
CREATE FUNCTION error_fingerprint(error jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(md5((error ->> 'kind') || ' ' || regexp_replace(regexp_replace(left(error ->> 'message', 500),
           '[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|''[^'']*''|"[^"]*"', '?', 'g'), '[0-9]+', '?', 'g')), 12)
$$;
ALTER TABLE tasks ADD COLUMN fingerprint text GENERATED ALWAYS AS (error_fingerprint(error)) STORED;
CREATE INDEX tasks_failures ON tasks (org_id, fingerprint, finished_at) WHERE status = 'failed';
"""

# `begun` is an intent: written before an effect that must not happen twice. What a crash leaves of it is `unknown`.
EFFECTS = """
ALTER TABLE steps DROP CONSTRAINT steps_status_check;
ALTER TABLE steps ADD CONSTRAINT steps_status_check CHECK (status IN ('begun', 'unknown', 'done', 'failed'));
DROP INDEX steps_done;
CREATE INDEX steps_open ON steps (task_id) WHERE status IN ('begun', 'unknown');
CREATE UNIQUE INDEX steps_once ON steps (task_id, seq) WHERE status IN ('begun', 'unknown', 'done');
"""

WORKERS = """
ALTER TABLE workers
    ADD COLUMN pool text NOT NULL DEFAULT 'elastic',
    ADD COLUMN memory_bytes bigint,
    ADD COLUMN stuck integer NOT NULL DEFAULT 0,
    ADD COLUMN draining_because text;

-- What people want; the processes of that name follow.
CREATE TABLE worker_targets (
    name text PRIMARY KEY,
    concurrency integer NOT NULL CHECK (concurrency BETWEEN 1 AND 5000),
    changed_at timestamptz NOT NULL DEFAULT rota_now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON worker_targets TO rota_system;
GRANT SELECT ON worker_targets TO rota_app;
"""


def upgrade() -> None:
    for part in (LIMITS, TASKS, KEYS, FINGERPRINT, EFFECTS, WORKERS):
        op.execute(part)
    for table in ("pauses", "concurrency_keys", "key_changes"):
        op.execute(protect(table))
