"""Who may do what, where: users, locations, roles and grants; keys with scopes; the audit log.

A transaction may be limited to some locations (`app.locations`, ids with commas; empty for everywhere). The restrictive
policies here then hide every other location's rows, whatever a statement asks for.
"""

from alembic import op
from core.row_security import protect

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

PEOPLE = """
CREATE TABLE users (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    email text NOT NULL,
    name text NOT NULL,
    is_operator boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    disabled_at timestamptz,
    UNIQUE (org_id, id)
);
CREATE UNIQUE INDEX users_email ON users (org_id, lower(email));
COMMENT ON COLUMN users.is_operator IS 'May govern the installation: only the command line grants it.';

CREATE TABLE locations (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    UNIQUE (org_id, slug),
    UNIQUE (org_id, id)
);

CREATE TABLE roles (
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    permissions text[] NOT NULL,
    is_built_in boolean NOT NULL DEFAULT false,
    PRIMARY KEY (org_id, name)
);

-- A role, everywhere or at one location. The organisation is part of every key: no row can point across tenants.
CREATE TABLE grants (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    location_id uuid,
    granted_at timestamptz NOT NULL DEFAULT rota_now(),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id),
    FOREIGN KEY (org_id, role) REFERENCES roles (org_id, name),
    FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id),
    UNIQUE NULLS NOT DISTINCT (user_id, role, location_id)
);
"""

KEYS = """
ALTER TABLE api_keys
    ADD COLUMN user_id uuid,
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{*}',
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN replaced_by uuid,
    ADD FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id);
"""

AUDIT = """
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    at timestamptz NOT NULL DEFAULT rota_now(),
    user_id uuid,
    key_id uuid,
    agent text,
    verb text NOT NULL,
    subject text NOT NULL,
    task_id uuid,
    seq integer,
    details jsonb NOT NULL DEFAULT '{}'
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX audit_log_time ON audit_log (org_id, id DESC);
CREATE INDEX audit_log_subject ON audit_log (org_id, subject, id DESC);
CREATE INDEX audit_log_agents ON audit_log (org_id, subject, agent, verb, at) WHERE agent IS NOT NULL;
"""

PLACES = """
CREATE FUNCTION rota_everywhere() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT coalesce(current_setting('app.locations', true), '') = '' $$;
CREATE FUNCTION rota_at(location uuid) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT coalesce(location = ANY(string_to_array(current_setting('app.locations', true), ',')::uuid[]), false) $$;

ALTER TABLE clients ADD COLUMN location_id uuid, ADD FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id,
id); ALTER TABLE leads ADD COLUMN location_id uuid, ADD FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id,
id); ALTER TABLE class_sessions
    ADD COLUMN location_id uuid, ADD FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id);
ALTER TABLE tasks
    ADD COLUMN user_id uuid,
    ADD COLUMN location_id uuid,
    ADD COLUMN contact uuid,
    ADD COLUMN scopes text[],
    ADD COLUMN action jsonb,
    ADD COLUMN waiting_amount numeric,
    ADD COLUMN wakes integer NOT NULL DEFAULT 0,
    ADD FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id),
    ADD FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id);
COMMENT ON COLUMN tasks.user_id IS 'For whom the task is done: the agent may do what this user may.';
COMMENT ON COLUMN tasks.scopes IS 'Of the key it was submitted with, where that has not all: the agent may do no more.';
COMMENT ON COLUMN tasks.contact IS 'The client or lead that the task is about.';
COMMENT ON COLUMN tasks.action IS 'An accepted action to carry out; the task then asks no model.';
COMMENT ON COLUMN tasks.wakes IS 'How often something that a task may wait for has come: nobody waits for what came
meanwhile.';
"""

# Every organisation that is there gets its roles and an owner, who holds the keys and the tasks made so far.
BUILT_IN = """
INSERT INTO roles (org_id, name, permissions, is_built_in)
SELECT o.id, r.name, r.permissions, true
  FROM organisations o CROSS JOIN (VALUES ('owner', ARRAY['*'])) AS r (name, permissions);
INSERT INTO users (id, org_id, email, name)
SELECT gen_random_uuid(), id, 'owner@' || slug, 'Owner' FROM organisations;
INSERT INTO grants (id, org_id, user_id, role) SELECT gen_random_uuid(), org_id, id, 'owner' FROM users;
UPDATE api_keys k SET user_id = u.id FROM users u WHERE u.org_id = k.org_id;
UPDATE tasks t SET user_id = u.id FROM users u WHERE u.org_id = t.org_id;
ALTER TABLE api_keys ALTER COLUMN user_id SET NOT NULL, ALTER COLUMN scopes DROP DEFAULT;
ALTER TABLE tasks ALTER COLUMN user_id SET NOT NULL;
"""

TENANT_TABLES = ("users", "locations", "roles", "grants", "audit_log")
AT_A_LOCATION = ("clients", "leads", "class_sessions", "tasks")
OF_A_CLIENT = ("bookings", "subscriptions", "payments")


def where(table: str, condition: str) -> str:
    return f"CREATE POLICY {table}_where ON {table} AS RESTRICTIVE TO rota_app USING (rota_everywhere() OR {condition})"


def upgrade() -> None:
    for part in (PEOPLE, KEYS, AUDIT, PLACES, BUILT_IN):
        op.execute(part)
    for table in TENANT_TABLES:
        op.execute(protect(table))
    for table in AT_A_LOCATION:
        op.execute(where(table, "rota_at(location_id)"))
    for table in OF_A_CLIENT:
        op.execute(where(table, f"EXISTS (SELECT FROM clients c WHERE c.id = {table}.client_id)"))
    op.execute("REVOKE UPDATE, DELETE ON audit_log FROM rota_app, rota_system")
    op.execute("REVOKE UPDATE (is_operator) ON users FROM rota_app")
