"""How often models are called while their providers limit us or are down, and accounts that need a person.

Accounts at providers belong to the installation, as `provider_limits` do: no organisation's rows, and no policies.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    CREATE TABLE provider_paces (
        provider text NOT NULL,
        model text NOT NULL,
        key text NOT NULL,
        cause text NOT NULL CHECK (cause IN ('limit', 'outage')),
        rate double precision NOT NULL CHECK (rate > 0),
        ceiling double precision CHECK (ceiling > 0),
        evidence integer NOT NULL,
        held_until timestamptz NOT NULL,
        next_at timestamptz NOT NULL,
        strikes integer NOT NULL,
        successes integer NOT NULL,
        changed_at timestamptz NOT NULL,
        ready_at timestamptz,
        sent integer NOT NULL,
        since timestamptz NOT NULL DEFAULT rota_now(),
        PRIMARY KEY (provider, model, key)
    ) WITH (fillfactor = 50);
    COMMENT ON COLUMN provider_paces.key IS 'a digest of the key and the address that calls are made with';

    CREATE TABLE provider_alerts (
        provider text NOT NULL,
        key text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('quota', 'authentication')),
        message text NOT NULL,
        since timestamptz NOT NULL DEFAULT rota_now(),
        last_at timestamptz NOT NULL DEFAULT rota_now(),
        told_at timestamptz,
        PRIMARY KEY (provider, key, kind)
    );
    GRANT SELECT, INSERT, UPDATE, DELETE ON provider_paces, provider_alerts TO rota_system;
    GRANT SELECT ON provider_alerts TO rota_app;  -- for `rota doctor`

    ALTER TABLE provider_limits DROP COLUMN held_until, DROP COLUMN held_because;
    """)
