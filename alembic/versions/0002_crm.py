"""The customer records that agents work on: clients, leads, classes and sessions, bookings, payments, subscriptions."""

from alembic import op
from core.row_security import protect

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Matching "JOSE" to "José" and finding parts of words, without an extension, and in every locale: lower() alone knows
# no accents where the database's locale is C.
_ACCENTED, _PLAIN = "áàäâãåéèëêíìïîóòöôõúùüûñçÁÀÄÂÃÅÉÈËÊÍÌÏÎÓÒÖÔÕÚÙÜÛÑÇ", "aaaaaaeeeeiiiiooooouuuunc" * 2
FOLD = f"""
CREATE FUNCTION rota_fold(words text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURNS NULL ON NULL INPUT
    AS $$ SELECT lower(translate(words, '{_ACCENTED}', '{_PLAIN}')) $$;
"""

TABLES = """
CREATE TABLE clients (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL,
    email text NOT NULL,
    phone text,
    status text NOT NULL CHECK (status IN ('active', 'frozen', 'lapsed', 'cancelled')),
    language text NOT NULL DEFAULT 'en' CHECK (language IN ('en', 'es')),
    tags text[] NOT NULL DEFAULT '{}',
    notes text NOT NULL DEFAULT '',
    joined_on date NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    updated_at timestamptz NOT NULL DEFAULT rota_now()
);
CREATE INDEX clients_org ON clients (org_id, status);

CREATE TABLE leads (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL,
    email text NOT NULL,
    phone text,
    source text NOT NULL,
    interest text NOT NULL,
    status text NOT NULL CHECK (status IN ('new', 'contacted', 'trial_booked', 'trial_done', 'won', 'lost')),
    notes text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    updated_at timestamptz NOT NULL DEFAULT rota_now()
);
CREATE INDEX leads_org ON leads (org_id, status);

CREATE TABLE classes (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL,
    category text NOT NULL,
    description text NOT NULL,
    level text NOT NULL CHECK (level IN ('all levels', 'beginner', 'intermediate', 'advanced')),
    duration_minutes integer NOT NULL CHECK (duration_minutes > 0),
    capacity integer NOT NULL CHECK (capacity > 0)
);
CREATE INDEX classes_org ON classes (org_id);

CREATE TABLE class_sessions (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    class_id uuid NOT NULL REFERENCES classes,
    instructor text NOT NULL,
    room text NOT NULL,
    starts_at timestamptz NOT NULL,
    capacity integer NOT NULL CHECK (capacity > 0),
    status text NOT NULL DEFAULT 'scheduled' CHECK (status IN ('scheduled', 'cancelled'))
);
CREATE INDEX class_sessions_time ON class_sessions (org_id, starts_at);

CREATE TABLE bookings (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    client_id uuid NOT NULL REFERENCES clients,
    session_id uuid NOT NULL REFERENCES class_sessions,
    status text NOT NULL DEFAULT 'booked' CHECK (status IN ('booked', 'attended', 'no_show', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT rota_now()
);
CREATE UNIQUE INDEX bookings_once ON bookings (session_id, client_id) WHERE status <> 'cancelled';
CREATE INDEX bookings_client ON bookings (client_id, created_at DESC);

CREATE TABLE subscriptions (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    client_id uuid NOT NULL REFERENCES clients,
    plan text NOT NULL,
    amount numeric(10, 2) NOT NULL CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'EUR',
    period text NOT NULL CHECK (period IN ('month', 'year')),
    status text NOT NULL CHECK (status IN ('active', 'past_due', 'paused', 'cancelled')),
    started_on date NOT NULL,
    renews_on date,
    ended_on date
);
CREATE INDEX subscriptions_client ON subscriptions (client_id);
CREATE INDEX subscriptions_org ON subscriptions (org_id, status);

CREATE TABLE payments (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    client_id uuid NOT NULL REFERENCES clients,
    subscription_id uuid REFERENCES subscriptions,
    amount numeric(10, 2) NOT NULL,
    currency text NOT NULL DEFAULT 'EUR',
    kind text NOT NULL CHECK (kind IN ('membership', 'personal_training', 'shop', 'day_pass')),
    method text NOT NULL CHECK (method IN ('card', 'direct_debit', 'cash')),
    status text NOT NULL CHECK (status IN ('paid', 'failed', 'refunded', 'pending')),
    paid_at timestamptz NOT NULL
);
CREATE INDEX payments_client ON payments (client_id, paid_at DESC);
CREATE INDEX payments_time ON payments (org_id, paid_at);
"""

TENANT_TABLES = ("clients", "leads", "classes", "class_sessions", "bookings", "subscriptions", "payments")


def upgrade() -> None:
    op.execute(FOLD)
    op.execute(TABLES)
    for table in TENANT_TABLES:
        op.execute(protect(table))
