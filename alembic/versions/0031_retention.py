"""What agents read is in the audit log; organisations set how long lines and conversations are kept; broadcasts.

The audit log stays append-only: no role may delete from it. Two functions of the owner delete what is older than it is
to be kept, and never a line that is younger than the least time.
"""

from alembic import op
from core.row_security import protect

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

AUDIT = """
ALTER TABLE audit_log ADD COLUMN records uuid[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN audit_log.records IS 'Ids of records that were read, or that the arguments of an action name.';
CREATE INDEX audit_log_changes ON audit_log (org_id, id DESC) WHERE verb <> 'read';
CREATE INDEX audit_log_reads_age ON audit_log (org_id, at) WHERE verb = 'read';
CREATE INDEX audit_log_changes_age ON audit_log (org_id, at) WHERE verb <> 'read';

-- A table and not an index of the array: row-level security lets no operator of arrays use an index.
CREATE TABLE audit_records (
    org_id uuid NOT NULL,
    record_id uuid NOT NULL,
    line_id uuid NOT NULL,
    PRIMARY KEY (org_id, record_id, line_id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE audit_records IS 'The lines of the audit log by the records that they name.';
"""


def forgetting(name: str, condition: str, least: str) -> str:
    """Return SQL for a function that deletes a portion of an organisation's old lines and returns how many."""
    return f"""
CREATE FUNCTION {name}(organisation uuid, kept interval, batch integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH gone AS (
        DELETE FROM audit_log WHERE id IN (
            SELECT id FROM audit_log
             WHERE org_id = organisation AND {condition} AND at < rota_now() - greatest(kept, interval '{least}')
             ORDER BY at LIMIT batch FOR UPDATE SKIP LOCKED)
        RETURNING org_id, id, records
    ), named AS (
        DELETE FROM audit_records r USING gone g, unnest(g.records) AS n (id)
         WHERE r.org_id = g.org_id AND r.record_id = n.id AND r.line_id = g.id
    )
    SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION {name}(uuid, interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {name}(uuid, interval, integer) TO rota_system;
"""  # noqa: S608


RETENTION = """
CREATE TABLE retention (
    org_id uuid PRIMARY KEY REFERENCES organisations,
    reads interval,
    changes interval,
    conversations interval
);
COMMENT ON TABLE retention IS 'How long an organisation keeps what; null: as long as the installation does.';
CREATE INDEX conversations_idle ON conversations (org_id, updated_at) WHERE deleted_at IS NULL;
"""

BROADCASTS = """
CREATE TABLE broadcasts (
    id uuid PRIMARY KEY,
    text text NOT NULL,
    level text NOT NULL CHECK (level IN ('info', 'warning', 'critical')),
    until timestamptz,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    created_by uuid,
    withdrawn_at timestamptz
);
COMMENT ON TABLE broadcasts IS 'Messages of operators to every organisation.';
COMMENT ON COLUMN broadcasts.created_by IS 'The operator.';
GRANT SELECT ON broadcasts TO rota_app;
GRANT SELECT, INSERT, UPDATE ON broadcasts TO rota_system;
"""


def upgrade() -> None:
    for part in (AUDIT, RETENTION, BROADCASTS):
        op.execute(part)
    for table in ("audit_records", "retention"):
        op.execute(protect(table))
    op.execute("REVOKE UPDATE, DELETE ON audit_records FROM rota_app, rota_system")
    op.execute(forgetting("rota_forget_reads", "verb = 'read'", "1 day"))
    op.execute(forgetting("rota_forget_changes", "verb <> 'read'", "30 days"))
