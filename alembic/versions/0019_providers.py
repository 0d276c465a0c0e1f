"""Endpoints of organisations' own that serve models; calls whose tokens are estimated, or whose model has no price, are
marked; errors that differ only in request ids count as the same, those that differ in words do not.
"""

from alembic import op
from core.row_security import protect

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# The secret is the endpoint's key, encrypted.
PROVIDERS = """
CREATE TABLE providers (
    org_id uuid NOT NULL REFERENCES organisations,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    url text NOT NULL,
    secret bytea,
    models text[] NOT NULL CHECK (cardinality(models) > 0),
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, name)
);
CREATE TRIGGER provider_changed AFTER INSERT OR UPDATE OR DELETE ON providers
    FOR EACH ROW EXECUTE FUNCTION note_money_change();
"""

MARKS = """
ALTER TABLE usage
    ADD COLUMN is_estimated boolean NOT NULL DEFAULT false,
    ADD COLUMN is_unpriced boolean NOT NULL DEFAULT false;
ALTER TABLE usage_totals
    ADD COLUMN estimated_calls bigint NOT NULL DEFAULT 0,
    ADD COLUMN unpriced_calls bigint NOT NULL DEFAULT 0;
"""

# An error's kind, and its message without what differs from case to case: quoted words, ids (of twelve letters or more,
# a digit among them), numbers. An apostrophe within a word begins no quotation.
FINGERPRINT = r"""
CREATE OR REPLACE FUNCTION error_fingerprint(error jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT left(md5((error ->> 'kind') || ' ' || regexp_replace(regexp_replace(left(error ->> 'message', 500),
           '[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?<!\w)''[^'']*''(?!\w)|"[^"]*"|\m(?=[a-zA-Z_]*[0-9])[a-zA-Z0-9_]{12,}\M',
           '?', 'g'), '[0-9]+', '?', 'g')), 12)
$$;
UPDATE tasks SET error = error WHERE status = 'failed';
"""


def upgrade() -> None:
    op.execute(PROVIDERS)
    op.execute(protect("providers"))
    op.execute(MARKS)
    op.execute(FINGERPRINT)
