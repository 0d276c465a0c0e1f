"""Follow-ups: what they begin with (quotes, carts, products), what people answer, what they allow, the rules,
the follow-ups themselves, and which variant did how well.

A follow-up is a row for each step of a rule on one subject, made when the subject is found, once: the unique index holds
even where two sweeps work at once. What is due is found through a partial index on `due_at`, which is null for whatever
is not going to come due.
"""

from alembic import op
from core.row_security import protect

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Who reports these chooses their ids: they are an organisation's own.
SALES = """
CREATE TABLE products (
    id uuid NOT NULL,
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL,
    category text NOT NULL,
    description text NOT NULL DEFAULT '',
    price numeric(10, 2) NOT NULL CHECK (price >= 0),
    currency text NOT NULL DEFAULT 'EUR',
    is_active boolean NOT NULL DEFAULT true,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX products_category ON products (org_id, category) WHERE is_active;

CREATE TABLE quotes (
    id uuid NOT NULL,
    org_id uuid NOT NULL REFERENCES organisations,
    contact uuid NOT NULL,
    title text NOT NULL,
    amount numeric(10, 2) NOT NULL CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'EUR',
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'accepted', 'declined', 'withdrawn')),
    sent_at timestamptz NOT NULL DEFAULT rota_now(),
    valid_until timestamptz,
    decided_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX quotes_open ON quotes (org_id, sent_at) WHERE status = 'open';
CREATE INDEX quotes_contact ON quotes (contact);

CREATE TABLE carts (
    id uuid NOT NULL,
    org_id uuid NOT NULL REFERENCES organisations,
    contact uuid NOT NULL,
    items jsonb NOT NULL,
    amount numeric(10, 2) NOT NULL CHECK (amount >= 0),
    currency text NOT NULL DEFAULT 'EUR',
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'bought', 'emptied')),
    touched_at timestamptz NOT NULL DEFAULT rota_now(),
    decided_at timestamptz,
    PRIMARY KEY (org_id, id)
);
COMMENT ON COLUMN carts.touched_at IS 'When the customer last did something with it.';
CREATE INDEX carts_open ON carts (org_id, touched_at) WHERE status = 'open';
CREATE INDEX carts_bought ON carts (org_id, decided_at) WHERE status = 'bought';
CREATE INDEX carts_contact ON carts (contact);
"""

PEOPLE = """
CREATE TABLE contact_preferences (
    org_id uuid NOT NULL REFERENCES organisations,
    contact uuid NOT NULL,
    time_zone text,
    has_consented boolean NOT NULL DEFAULT false,
    opted_out_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, contact)
);
COMMENT ON COLUMN contact_preferences.has_consented IS 'To advertising; whoever has no row has not.';
COMMENT ON COLUMN contact_preferences.opted_out_at IS 'Since when they want no follow-up at all.';

CREATE TABLE inbox (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    contact uuid NOT NULL,
    channel text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp', 'in_person', 'phone')),
    body text NOT NULL,
    outside_id text,
    received_at timestamptz NOT NULL DEFAULT rota_now()
);
COMMENT ON COLUMN inbox.outside_id IS 'The id that whoever delivered it gave it: delivered twice, it is kept once.';
CREATE UNIQUE INDEX inbox_once ON inbox (org_id, channel, outside_id) WHERE outside_id IS NOT NULL;
CREATE INDEX inbox_contact ON inbox (contact, received_at);
CREATE INDEX inbox_latest ON inbox (org_id, id);
ALTER TABLE outbox ADD COLUMN leave_by timestamptz, ADD COLUMN is_unwanted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN outbox.leave_by IS 'It leaves earlier than this or not at all, until somebody moves it.';
COMMENT ON COLUMN outbox.is_unwanted IS 'It was to be withdrawn while it was being sent: not sent then, it is not sent.';
CREATE INDEX outbox_contact ON outbox (contact, created_at) WHERE contact IS NOT NULL;
"""

LEARNING = """
CREATE TABLE arms (
    org_id uuid NOT NULL REFERENCES organisations,
    policy text NOT NULL,
    context text NOT NULL,
    option text NOT NULL,
    successes bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    chosen bigint NOT NULL DEFAULT 0,
    explored bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, policy, context, option)
);
COMMENT ON TABLE arms IS 'What is known of each option in each context: the counts behind its Beta posterior.';

CREATE TABLE choices (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    policy text NOT NULL,
    context text NOT NULL,
    option text NOT NULL,
    options jsonb NOT NULL,
    propensity double precision NOT NULL CHECK (propensity > 0 AND propensity <= 1),
    is_exploration boolean NOT NULL,
    subject uuid NOT NULL,
    made_at timestamptz NOT NULL DEFAULT rota_now(),
    outcome text CHECK (outcome IN ('success', 'failure', 'void')),
    settled_at timestamptz
);
COMMENT ON COLUMN choices.options IS 'What was known of each option then: {option: [successes, failures]}.';
COMMENT ON COLUMN choices.outcome IS 'void: what was chosen was never carried out, so that nothing was learnt.';
CREATE INDEX choices_latest ON choices (org_id, policy, id);
"""

FOLLOW_UPS = """
CREATE TABLE follow_up_rules (
    org_id uuid NOT NULL REFERENCES organisations,
    slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    fields jsonb NOT NULL,
    is_on boolean NOT NULL DEFAULT false,
    on_since timestamptz,
    user_id uuid NOT NULL,
    scopes text[],
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, slug)
);
COMMENT ON COLUMN follow_up_rules.on_since IS 'What began before is left alone: nobody is written to about old business.';

CREATE TABLE follow_ups (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    rule text NOT NULL,
    step integer NOT NULL CHECK (step >= 1),
    subject uuid NOT NULL,
    contact uuid NOT NULL,
    begun_at timestamptz NOT NULL,
    facts jsonb NOT NULL,
    channel text CHECK (channel IN ('email', 'sms', 'whatsapp')),
    variant text,
    choice_id uuid,
    status text NOT NULL DEFAULT 'planned'
        CHECK (status IN ('planned', 'writing', 'queued', 'sent', 'stopped', 'skipped', 'failed')),
    reason text,
    wanted_at timestamptz NOT NULL,
    due_at timestamptz,
    task_id uuid,
    message_id uuid,
    sent_at timestamptz,
    answered_at timestamptz,
    converted_at timestamptz,
    revenue numeric(12, 2),
    currency text,
    is_settled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    ended_at timestamptz,
    CHECK ((due_at IS NOT NULL) = (status = 'planned'))
);
COMMENT ON COLUMN follow_ups.begun_at IS 'What the delays of the steps are counted from, such as when the quote was sent.';
COMMENT ON COLUMN follow_ups.wanted_at IS 'When the rule says; due_at is that, put off for quiet hours or for the cap.';
COMMENT ON COLUMN follow_ups.is_settled IS 'What came of it is known, or the time for that has passed.';
CREATE UNIQUE INDEX follow_ups_once ON follow_ups (org_id, rule, subject, begun_at, step);
CREATE INDEX follow_ups_due ON follow_ups (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX follow_ups_due_by_org ON follow_ups (org_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX follow_ups_open ON follow_ups (org_id, contact) WHERE status IN ('planned', 'writing', 'queued');
CREATE INDEX follow_ups_under_way ON follow_ups (org_id, task_id) WHERE status IN ('writing', 'queued');
CREATE INDEX follow_ups_stopped ON follow_ups (org_id) WHERE status = 'stopped' AND NOT is_settled;
CREATE INDEX follow_ups_task ON follow_ups (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX follow_ups_unsettled ON follow_ups (org_id, contact, sent_at) WHERE sent_at IS NOT NULL AND NOT is_settled;
CREATE INDEX follow_ups_contact ON follow_ups (contact, sent_at);
CREATE INDEX follow_ups_latest ON follow_ups (org_id, id);
"""

# What looks for unanswered leads and trials goes through these.
SEARCHING = """
CREATE INDEX leads_since ON leads (org_id, created_at) WHERE status IN ('new', 'contacted');
CREATE INDEX trial_bookings_status ON trial_bookings (org_id, status);
"""

# Roles that came with Rota may do with the new what they may do with its like.
ROLES = """
UPDATE roles SET permissions = ARRAY(SELECT DISTINCT unnest(permissions || CASE name
           WHEN 'manager' THEN ARRAY['schedules:*', 'events:*', 'follow_ups:*', 'sales:*', 'contacts:*', 'inbox:*']
           ELSE ARRAY['sales:*', 'contacts:*', 'inbox:*'] END))
 WHERE is_built_in AND name IN ('manager', 'staff');
"""

TENANT_TABLES = (
    "products", "quotes", "carts", "contact_preferences", "inbox", "arms", "choices", "follow_up_rules",
    "follow_ups",
)  # fmt: skip
OF_A_CONTACT = ("quotes", "carts", "contact_preferences", "inbox", "follow_ups")


def where(table: str) -> str:
    condition = " OR ".join(
        f"EXISTS (SELECT FROM {who} w WHERE w.id = {table}.contact)" for who in ("clients", "leads")
    )
    return f"CREATE POLICY {table}_where ON {table} AS RESTRICTIVE TO rota_app USING (rota_everywhere() OR {condition})"


def upgrade() -> None:
    for part in (SALES, PEOPLE, LEARNING, FOLLOW_UPS, SEARCHING, ROLES):
        op.execute(part)
    for table in TENANT_TABLES:
        op.execute(protect(table))
    for table in OF_A_CONTACT:
        op.execute(where(table))
