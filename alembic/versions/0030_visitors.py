"""Visitors: a publishable key, which may stand in a web page, is exchanged for a visitor's token; a visitor has
conversations of its own and nothing else.
"""

from alembic import op
from core.row_security import protect

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE publishable_keys (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    user_id uuid NOT NULL,
    name text NOT NULL,
    secret text NOT NULL,
    agents text[] NOT NULL,
    location_id uuid,
    origins text[] NOT NULL,
    permissions text[] NOT NULL,
    limits jsonb NOT NULL,
    lifetime interval NOT NULL,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id),
    FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id)
);
COMMENT ON COLUMN publishable_keys.secret IS 'Not hashed: the key stands in the source of web pages.';
COMMENT ON COLUMN publishable_keys.user_id IS 'The user who made it. Agents act for visitors as this user, within permissions.';
COMMENT ON COLUMN publishable_keys.permissions IS 'All that agents may do for visitors.';
CREATE INDEX publishable_keys_org ON publishable_keys (org_id, id DESC);

CREATE TABLE visitors (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    publishable_key_id uuid NOT NULL REFERENCES publishable_keys,
    secret_digest bytea NOT NULL,
    name text,
    contact_hint text,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    last_seen_at timestamptz NOT NULL DEFAULT rota_now(),
    expires_at timestamptz NOT NULL,
    day date,
    messages integer NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
COMMENT ON COLUMN visitors.name IS 'As the visitor states it: not checked.';
COMMENT ON COLUMN visitors.contact_hint IS 'As the visitor states it: not checked.';
COMMENT ON COLUMN visitors.messages IS 'Messages sent on `day`.';
CREATE INDEX visitors_expired ON visitors (expires_at);

CREATE TABLE visitor_days (
    org_id uuid NOT NULL REFERENCES organisations,
    publishable_key_id uuid NOT NULL REFERENCES publishable_keys,
    day date NOT NULL,
    messages integer NOT NULL,
    PRIMARY KEY (publishable_key_id, day)
) WITH (fillfactor = 70);
COMMENT ON TABLE visitor_days IS 'Messages that all visitors of a publishable key sent on a day, in UTC.';
CREATE INDEX visitor_days_day ON visitor_days (day);
"""

# A key or a token is looked up before its organisation is known: its own id opens just that row.
LOOK_UPS = """
CREATE POLICY publishable_keys_lookup ON publishable_keys FOR SELECT TO rota_app
    USING (id = nullif(current_setting('app.key', true), '')::uuid);
CREATE POLICY visitors_lookup ON visitors FOR SELECT TO rota_app
    USING (id = nullif(current_setting('app.key', true), '')::uuid);
CREATE POLICY publishable_keys_where ON publishable_keys AS RESTRICTIVE TO rota_app
    USING (rota_everywhere() OR rota_at(location_id));
"""

OF_VISITORS = """
ALTER TABLE conversations
    ADD COLUMN visitor_id uuid,
    ALTER COLUMN user_id DROP NOT NULL,
    ADD CONSTRAINT conversations_owner CHECK ((user_id IS NULL) = (visitor_id IS NOT NULL));
COMMENT ON COLUMN conversations.user_id IS 'The user who began it; null for a visitor''s.';
COMMENT ON COLUMN conversations.visitor_id IS 'The visitor who began it. Not a reference: visitors are deleted first.';
CREATE INDEX conversations_visitor ON conversations (visitor_id, updated_at DESC, id DESC)
    WHERE visitor_id IS NOT NULL;
ALTER TABLE audit_log ADD COLUMN visitor_id uuid;
"""


def upgrade() -> None:
    op.execute(TABLES)
    for table in ("publishable_keys", "visitors", "visitor_days"):
        op.execute(protect(table))
    op.execute(LOOK_UPS)
    op.execute(OF_VISITORS)
