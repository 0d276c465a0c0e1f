"""What agents keep beside the customer records: tickets, staff tasks, campaigns, posts, events, exports, resources; and
places in a session given to trials.
"""

from alembic import op
from core.row_security import protect

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A task's rows outlive the clean-up of the task, so `task_id` refers to nothing.
WHO = """
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    task_id uuid,
    created_by text,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
"""

# The unique indexes are what makes a second click harmless.
TABLES = f"""
CREATE TABLE support_tickets ({WHO}
    subject text NOT NULL,
    body text NOT NULL,
    priority text NOT NULL CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'resolved', 'closed')),
    client_id uuid REFERENCES clients,
    assignee text
);
CREATE INDEX support_tickets_status ON support_tickets (org_id, status, created_at DESC);
CREATE UNIQUE INDEX support_tickets_once ON support_tickets (org_id, client_id, subject) NULLS NOT DISTINCT
    WHERE status IN ('open', 'in_progress');

CREATE TABLE staff_tasks ({WHO}
    title text NOT NULL,
    details text NOT NULL,
    assignee text,
    due_on date,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done', 'cancelled')),
    lead_id uuid REFERENCES leads,
    client_id uuid REFERENCES clients
);
CREATE INDEX staff_tasks_due ON staff_tasks (org_id, status, due_on);
CREATE UNIQUE INDEX staff_tasks_once ON staff_tasks (org_id, lead_id, client_id, title) NULLS NOT DISTINCT
    WHERE status = 'open';

CREATE TABLE campaigns ({WHO}
    name text NOT NULL,
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]*$'),
    audience jsonb NOT NULL,
    message text NOT NULL,
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'active', 'finished', 'cancelled'))
);
CREATE UNIQUE INDEX campaigns_name ON campaigns (org_id, name) WHERE status IN ('draft', 'active');

CREATE TABLE campaign_members (
    campaign_id uuid NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    client_id uuid NOT NULL REFERENCES clients,
    org_id uuid NOT NULL REFERENCES organisations,
    PRIMARY KEY (campaign_id, client_id)
);
CREATE INDEX campaign_members_client ON campaign_members (org_id, client_id);

CREATE TABLE social_posts ({WHO}
    platform text NOT NULL CHECK (platform IN ('instagram', 'facebook', 'x', 'linkedin')),
    text text NOT NULL,
    media_url text,
    scheduled_at timestamptz,
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'scheduled', 'cancelled')),
    CONSTRAINT scheduled_has_time CHECK (status <> 'scheduled' OR scheduled_at IS NOT NULL)
);
CREATE UNIQUE INDEX social_posts_once ON social_posts (org_id, scheduled_at, platform, md5(text))
    WHERE status = 'scheduled';

CREATE TABLE calendar_events ({WHO}
    kind text NOT NULL CHECK (kind IN ('tour', 'event', 'reminder', 'milestone')),
    title text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    location text,
    lead_id uuid REFERENCES leads,
    client_id uuid REFERENCES clients,
    status text NOT NULL DEFAULT 'scheduled' CHECK (status IN ('scheduled', 'cancelled')),
    CONSTRAINT ends_after_start CHECK (ends_at >= starts_at)
);
CREATE INDEX calendar_events_time ON calendar_events (org_id, starts_at);

CREATE TABLE exports ({WHO}
    what text NOT NULL CHECK (what IN ('clients', 'leads', 'payments', 'bookings', 'subscriptions')),
    format text NOT NULL CHECK (format IN ('csv', 'json')),
    content text NOT NULL,
    row_count integer NOT NULL,
    is_complete boolean NOT NULL,
    made_within text NOT NULL DEFAULT coalesce(current_setting('app.locations', true), '')
);
CREATE INDEX exports_time ON exports (org_id, created_at DESC);
COMMENT ON COLUMN exports.made_within IS 'The locations whose rows it holds, as app.locations; empty for everywhere.';

CREATE TABLE resources ({WHO}
    kind text NOT NULL CHECK (kind ~ '^[a-z0-9][a-z0-9-]{{0,62}}$'),
    name text NOT NULL,
    data jsonb NOT NULL,
    version integer NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT rota_now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX resources_name ON resources (org_id, kind, name) WHERE deleted_at IS NULL;

CREATE TABLE trial_bookings ({WHO}
    lead_id uuid NOT NULL REFERENCES leads,
    session_id uuid NOT NULL REFERENCES class_sessions,
    status text NOT NULL DEFAULT 'booked' CHECK (status IN ('booked', 'attended', 'no_show', 'cancelled'))
);
CREATE UNIQUE INDEX trial_bookings_once ON trial_bookings (session_id, lead_id) WHERE status <> 'cancelled';
CREATE INDEX trial_bookings_lead ON trial_bookings (org_id, lead_id);
"""

# SECURITY DEFINER, because a place is taken also by somebody whom this transaction, limited to some locations, cannot
# see. It tells a number, of the transaction's own organisation.
PLACES_TAKEN = """
CREATE FUNCTION rota_places_taken(session uuid) RETURNS integer
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
        SELECT count(*)::int
          FROM (SELECT org_id FROM bookings WHERE session_id = $1 AND status <> 'cancelled'
                UNION ALL
                SELECT org_id FROM trial_bookings WHERE session_id = $1 AND status <> 'cancelled') AS taken
         WHERE org_id = nullif(current_setting('app.org', true), '')::uuid
    $$;
"""

TENANT_TABLES = (
    "support_tickets", "staff_tasks", "campaigns", "campaign_members", "social_posts", "calendar_events", "exports",
    "resources", "trial_bookings",
)  # fmt: skip
OF_A_CLIENT = ("support_tickets", "staff_tasks", "campaign_members", "calendar_events")
OF_A_LEAD = ("staff_tasks", "calendar_events", "trial_bookings")


def where(table: str, name: str, condition: str) -> str:
    return (
        f"CREATE POLICY {table}_{name} ON {table} AS RESTRICTIVE TO rota_app USING (rota_everywhere() OR {condition})"
    )


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(PLACES_TAKEN)
    for table in TENANT_TABLES:
        op.execute(protect(table))
    for table in OF_A_CLIENT:
        whose = f"client_id IS NULL OR EXISTS (SELECT FROM clients c WHERE c.id = {table}.client_id)"
        op.execute(where(table, "where", whose))
    for table in OF_A_LEAD:
        whose = f"lead_id IS NULL OR EXISTS (SELECT FROM leads l WHERE l.id = {table}.lead_id)"
        op.execute(where(table, "where_lead", whose))
    # An export holds copies of rows: who may not see these rows may not see it either.
    within = "string_to_array(made_within, ',') <@ string_to_array(current_setting('app.locations', true), ',')"
    op.execute(where("exports", "where", f"(made_within <> '' AND {within})"))
