"""What bounds agents: the tree of tasks that one task grew into, and what was done without a person.

`tasks.root_id` is null for a task that no agent started. `bounds` says what the agents that led to a task could do: it
does no more than that. `task_trees` counts the tasks that stem from a root, and outlives their clean-up.

The arguments of approvals are kept as the text that was digested: jsonb would spell some numbers otherwise.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    ALTER TABLE tasks ADD root_id uuid, ADD depth smallint NOT NULL DEFAULT 0, ADD bounds jsonb,
        ADD approvals_from timestamptz;
    COMMENT ON COLUMN tasks.approvals_from IS 'Approvals given before do not stand: the task was cancelled since.';
    CREATE INDEX tasks_root ON tasks (root_id) WHERE root_id IS NOT NULL;

    CREATE TABLE task_trees (
        org_id uuid NOT NULL REFERENCES organisations,
        root_id uuid NOT NULL,
        descendants integer NOT NULL DEFAULT 0,
        used_at timestamptz NOT NULL DEFAULT rota_now(),
        PRIMARY KEY (org_id, root_id)
    );

    CREATE TABLE unattended_actions (
        org_id uuid NOT NULL REFERENCES organisations,
        task_id uuid NOT NULL,
        seq integer NOT NULL,
        root_id uuid NOT NULL,
        rule text NOT NULL,
        contacts text[] NOT NULL,
        amount numeric NOT NULL,
        at timestamptz NOT NULL DEFAULT rota_now(),
        PRIMARY KEY (task_id, seq)
    );
    CREATE INDEX unattended_actions_day ON unattended_actions (org_id, at);
    CREATE INDEX unattended_actions_root ON unattended_actions (root_id);

    ALTER TABLE policies ADD caps jsonb;
    ALTER TABLE approvals ALTER arguments TYPE json USING arguments::json, ALTER proposed TYPE json USING proposed::json,
        ADD edits json NOT NULL DEFAULT '[]';
    COMMENT ON COLUMN approvals.edits IS 'Versions before the present one: digest, arguments, by whom and when edited.';
    """)
    mine = "org_id = nullif(current_setting('app.org', true), '')::uuid"
    for table in ("task_trees", "unattended_actions"):
        op.execute(f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY {table}_app ON {table} TO rota_app USING ({mine}) WITH CHECK ({mine});
        CREATE POLICY {table}_system ON {table} TO rota_system USING (true) WITH CHECK (true);
        CREATE POLICY {table}_owner ON {table} TO rota_owner USING (true) WITH CHECK (true);
        GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO rota_app, rota_system;
        """)
