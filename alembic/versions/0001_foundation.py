"""The foundation: organisations, keys, agents, tasks with their journal, usage and prices, workers.

Row-level security stands on every table with `org_id` from here on: `rota_app` sees the organisation named in
`app.org`, `rota_system` sees all. FORCE binds the owner as well, who therefore has a policy of its own.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CLOCK = """
CREATE TABLE clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ahead interval NOT NULL DEFAULT interval '0'
);
INSERT INTO clock DEFAULT VALUES;
COMMENT ON TABLE clock IS 'How far rota_now() runs ahead of now(): zero outside tests.';
GRANT SELECT ON clock TO rota_app, rota_system;

CREATE FUNCTION rota_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT now() + (SELECT ahead FROM clock) $$;
"""

TENANTS = """
CREATE TABLE organisations (
    id uuid PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    markup numeric(6, 4) NOT NULL DEFAULT 0.20 CHECK (markup >= 0),
    created_at timestamptz NOT NULL DEFAULT rota_now()
);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL,
    secret_digest bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_org ON api_keys (org_id);
"""

AGENTS = """
CREATE TABLE agents (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    role text NOT NULL,
    description text NOT NULL,
    system_prompt text NOT NULL,
    model text NOT NULL,
    fallback_model text,
    tools text[] NOT NULL DEFAULT '{}',
    mode text NOT NULL DEFAULT 'auto' CHECK (mode IN ('manual', 'semi-auto', 'auto')),
    limits jsonb NOT NULL DEFAULT '{}',
    retry jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    updated_at timestamptz NOT NULL DEFAULT rota_now(),
    deleted_at timestamptz
);
-- A deleted agent keeps its row, because tasks and bills name it; its slug is free again.
CREATE UNIQUE INDEX agents_slug ON agents (org_id, slug) WHERE deleted_at IS NULL;
"""

# The task row is the outbox: `dispatched_at` says that a message was published for this claim number.
# `claim` is the fence and grows at every claim; `attempts` grows only when a try counts.
# The columns that change often stay out of the indexes but for status; fillfactor leaves room for HOT updates.
TASKS = """
CREATE TYPE task_status AS ENUM ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled', 'expired');
CREATE TYPE task_priority AS ENUM ('critical', 'high', 'normal', 'low');

CREATE TABLE tasks (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    agent_id uuid NOT NULL REFERENCES agents,
    agent text NOT NULL,
    status task_status NOT NULL DEFAULT 'queued',
    priority task_priority NOT NULL DEFAULT 'normal',
    input jsonb NOT NULL,
    result jsonb,
    error jsonb,
    waiting_for text,
    idempotency_key text,
    request_digest bytea,
    run_after timestamptz NOT NULL DEFAULT rota_now(),
    deadline timestamptz,
    expires_at timestamptz,
    dispatched_at timestamptz,
    claim integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
    worker text,
    cancel_requested_at timestamptz,
    parent_id uuid,
    parent_seq integer,
    origin_id uuid,
    model_calls integer NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    billed_cost numeric(20, 10) NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT ended_has_time CHECK (
        (status IN ('succeeded', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL)),
    CONSTRAINT running_has_worker CHECK ((status = 'running') = (worker IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE UNIQUE INDEX tasks_idempotency ON tasks (org_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_due ON tasks (priority, run_after, id) WHERE status = 'queued' AND dispatched_at IS NULL;
CREATE INDEX tasks_dispatched ON tasks (priority, dispatched_at) WHERE status = 'queued' AND dispatched_at IS NOT NULL;
CREATE INDEX tasks_running ON tasks (worker) WHERE status = 'running';
CREATE INDEX tasks_expiring ON tasks (expires_at) WHERE status IN ('queued', 'waiting') AND expires_at IS NOT NULL;
CREATE INDEX tasks_list ON tasks (org_id, id DESC);
CREATE INDEX tasks_list_status ON tasks (org_id, status, id DESC);
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE attempts (
    task_id uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    claim integer NOT NULL,
    org_id uuid NOT NULL,
    worker text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT rota_now(),
    ended_at timestamptz,
    outcome text CHECK (outcome IN ('succeeded', 'failed', 'retry', 'deferred', 'released', 'waiting', 'cancelled', 'lost')),
    counted boolean,
    error jsonb,
    PRIMARY KEY (task_id, claim)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

-- The journal. A finished step is there once (the partial unique index); failed tries are kept beside it.
CREATE TABLE steps (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    task_id uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    seq integer NOT NULL,
    claim integer NOT NULL,
    stage text NOT NULL CHECK (stage IN ('perceive', 'decide', 'act', 'learn')),
    name text NOT NULL,
    status text NOT NULL CHECK (status IN ('done', 'failed')),
    input jsonb NOT NULL,
    output jsonb NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    model text,
    input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    billed_cost numeric(20, 10) NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT rota_now()
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE UNIQUE INDEX steps_done ON steps (task_id, seq) WHERE status = 'done';
CREATE INDEX steps_task ON steps (task_id, seq);
"""

# Usage names its task but does not hang on it: a bill outlives the clean-up of the task it was for.
BILLING = """
CREATE TABLE usage (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    task_id uuid NOT NULL,
    seq integer NOT NULL,
    step_id uuid NOT NULL UNIQUE,
    agent_id uuid NOT NULL,
    agent text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    input_tokens integer NOT NULL,
    cached_tokens integer NOT NULL,
    cache_write_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    base_cost numeric(20, 10) NOT NULL,
    markup numeric(6, 4) NOT NULL,
    billed_cost numeric(20, 10) NOT NULL,
    price jsonb NOT NULL,
    is_rehearsal boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now()
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX usage_month ON usage (org_id, created_at);
CREATE INDEX usage_task ON usage (task_id);

CREATE TABLE prices (
    org_id uuid NOT NULL REFERENCES organisations,
    model text NOT NULL,
    provider text NOT NULL CHECK (provider IN ('anthropic', 'openai')),
    input_per_million numeric(20, 10) NOT NULL CHECK (input_per_million >= 0),
    output_per_million numeric(20, 10) NOT NULL CHECK (output_per_million >= 0),
    cached_per_million numeric(20, 10) CHECK (cached_per_million >= 0),
    cache_write_per_million numeric(20, 10) CHECK (cache_write_per_million >= 0),
    context_window integer CHECK (context_window > 0),
    updated_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, model)
);

CREATE TABLE cached_replies (
    org_id uuid NOT NULL REFERENCES organisations,
    digest bytea NOT NULL,
    reply jsonb NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, digest)
);
CREATE INDEX cached_replies_expiry ON cached_replies (expires_at);
"""

# Machines, not tenants: no organisation owns a worker, and only the system's role may write here.
WORKERS = """
CREATE TABLE workers (
    id text PRIMARY KEY,
    name text NOT NULL,
    hostname text NOT NULL,
    pid integer NOT NULL,
    queues text[] NOT NULL,
    concurrency integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT rota_now(),
    last_seen_at timestamptz NOT NULL DEFAULT rota_now(),
    stopped_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO rota_system;
GRANT SELECT ON workers TO rota_app;

CREATE TABLE leaders (
    duty text PRIMARY KEY,
    process text NOT NULL,
    backend_pid integer NOT NULL,
    term integer NOT NULL DEFAULT 1,
    elected_at timestamptz NOT NULL DEFAULT rota_now(),
    last_seen_at timestamptz NOT NULL DEFAULT rota_now()
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE, DELETE ON leaders TO rota_system;
GRANT SELECT ON leaders TO rota_app;
"""

TENANT_TABLES = (
    "api_keys", "agents", "tasks", "attempts", "steps", "usage", "prices", "cached_replies",
)  # fmt: skip


def protect(table: str, column: str = "org_id") -> str:
    """SQL that lets `rota_app` reach one organisation's rows of `table`, and `rota_system` and the owner all."""
    mine = f"{column} = nullif(current_setting('app.org', true), '')::uuid"
    return f"""
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY {table}_app ON {table} TO rota_app USING ({mine}) WITH CHECK ({mine});
    CREATE POLICY {table}_system ON {table} TO rota_system USING (true) WITH CHECK (true);
    CREATE POLICY {table}_owner ON {table} TO rota_owner USING (true) WITH CHECK (true);
    GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO rota_app, rota_system;
    """


def upgrade() -> None:
    for part in (CLOCK, TENANTS, AGENTS, TASKS, BILLING, WORKERS):
        op.execute(part)
    op.execute(protect("organisations", column="id"))
    for table in TENANT_TABLES:
        op.execute(protect(table))
    # A key is looked up before its organisation is known: its own id opens just that row.
    op.execute("""
        CREATE POLICY api_keys_lookup ON api_keys FOR SELECT TO rota_app
            USING (id = nullif(current_setting('app.key', true), '')::uuid)
    """)
    op.execute("GRANT SELECT ON alembic_version TO rota_app, rota_system")  # readiness compares it with the code's
    op.execute("REVOKE INSERT, UPDATE, DELETE ON organisations FROM rota_app")
    op.execute("REVOKE UPDATE, DELETE ON usage FROM rota_app, rota_system")
