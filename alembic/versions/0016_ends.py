"""Whether an organisation buys tokens; months by its own clock; and an end for what agents begin: posts, campaigns,
charges, tickets, staff tasks and events move on.

Organisations that ever bought tokens keep their wallets. What was drafted before by somebody limited to some locations
cannot be told any more: it is seen from everywhere only.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

PREPAID = """
ALTER TABLE organisations ADD prepaid_since timestamptz;
COMMENT ON COLUMN organisations.prepaid_since IS 'Since when it buys the tokens that its tasks spend; null: no wallet.';
UPDATE organisations o SET prepaid_since = created_at WHERE EXISTS (SELECT FROM wallet_entries e WHERE e.org_id = o.id);
"""

MOVES = """
ALTER TABLE support_tickets
    ADD note text NOT NULL DEFAULT '',
    ADD changed_at timestamptz NOT NULL DEFAULT rota_now();
ALTER TABLE staff_tasks
    ADD note text NOT NULL DEFAULT '',
    ADD changed_at timestamptz NOT NULL DEFAULT rota_now();

ALTER TABLE calendar_events
    ADD note text NOT NULL DEFAULT '',
    ADD changed_at timestamptz NOT NULL DEFAULT rota_now(),
    DROP CONSTRAINT calendar_events_status_check,
    ADD CONSTRAINT calendar_events_status_check CHECK (status IN ('scheduled', 'held', 'no_show', 'cancelled'));

ALTER TABLE social_posts
    ADD note text NOT NULL DEFAULT '',
    ADD changed_at timestamptz NOT NULL DEFAULT rota_now(),
    ADD handed_over_at timestamptz,
    ADD url text,
    ADD made_within text NOT NULL DEFAULT coalesce(current_setting('app.locations', true), ''),
    DROP CONSTRAINT social_posts_status_check,
    ADD CONSTRAINT social_posts_status_check
        CHECK (status IN ('draft', 'scheduled', 'due', 'published', 'missed', 'cancelled'));
CREATE INDEX social_posts_open ON social_posts (org_id, scheduled_at) WHERE status IN ('scheduled', 'due');

ALTER TABLE payments
    ADD task_id uuid,
    ADD created_by text,
    ADD reference text,
    ADD note text NOT NULL DEFAULT '',
    ADD settled_at timestamptz,
    DROP CONSTRAINT payments_status_check,
    ADD CONSTRAINT payments_status_check CHECK (status IN ('paid', 'failed', 'refunded', 'pending', 'lapsed'));
CREATE INDEX payments_pending ON payments (org_id, paid_at) WHERE status = 'pending';
COMMENT ON COLUMN payments.reference IS 'What the payment provider calls it.';

ALTER TABLE campaigns
    ADD note text NOT NULL DEFAULT '',
    ADD changed_at timestamptz NOT NULL DEFAULT rota_now(),
    ADD launched_by uuid,
    ADD launched_at timestamptz,
    ADD ended_at timestamptz,
    ADD made_within text NOT NULL DEFAULT coalesce(current_setting('app.locations', true), '');
CREATE INDEX campaigns_active ON campaigns (org_id) WHERE status = 'active';
ALTER TABLE campaign_members
    ADD status text NOT NULL DEFAULT 'chosen' CHECK (status IN ('chosen', 'written', 'left_out')),
    ADD message_id uuid,
    ADD reason text;
CREATE INDEX exports_age ON exports (created_at);
"""


MONTHS = """
CREATE FUNCTION rota_month(org uuid, moment timestamptz) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT date_trunc('month', moment AT TIME ZONE o.time_zone)::date FROM organisations o WHERE o.id = org $$;
COMMENT ON FUNCTION rota_month IS 'The first day of the month in which a moment lies, by the clock of an organisation.';
CREATE FUNCTION rota_month_begins(org uuid, month date) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT month::timestamp AT TIME ZONE o.time_zone FROM organisations o WHERE o.id = org $$;
"""


def upgrade() -> None:
    op.execute(PREPAID)
    op.execute(MONTHS)
    op.execute(MOVES)
    # As exports: they hold what was seen at some locations, and are seen by who sees all of these.
    within = "string_to_array(made_within, ',') <@ string_to_array(current_setting('app.locations', true), ',')"
    for table in ("social_posts", "campaigns"):
        op.execute(
            f"CREATE POLICY {table}_where ON {table} AS RESTRICTIVE TO rota_app "
            f"USING (rota_everywhere() OR (made_within <> '' AND {within}))"
        )
