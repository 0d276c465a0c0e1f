"""Prepaid tokens and dollars: wallets with a double-entry ledger, holds, the price list, fees; budgets; monthly bills.

An entry moves tokens from one account to another, so the accounts together always come to zero. The wallet's row is
touched by hold, extend, release, top-up and fee only: what a task spends it spends against its own hold.
"""

from alembic import op
from core.row_security import protect

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WALLET = """
CREATE TABLE wallets (
    org_id uuid PRIMARY KEY REFERENCES organisations,
    balance bigint NOT NULL DEFAULT 0 CHECK (balance >= 0),
    held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    owed bigint NOT NULL DEFAULT 0 CHECK (owed >= 0),
    CONSTRAINT never_holds_more_than_there_is CHECK (held <= balance)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
COMMENT ON COLUMN wallets.balance IS 'Tokens owned; what open holds have spent is still in it.';
COMMENT ON COLUMN wallets.held IS 'Of the balance, promised to tasks at work.';
COMMENT ON COLUMN wallets.owed IS 'Fees that could not be paid: the next top-up pays them first.';
INSERT INTO wallets (org_id) SELECT id FROM organisations;

-- No organisation without a wallet: the periodic duties go over all of them.
CREATE FUNCTION open_wallet() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO wallets (org_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER organisation_has_a_wallet AFTER INSERT ON organisations FOR EACH ROW EXECUTE FUNCTION open_wallet();
CREATE INDEX wallets_owing ON wallets (org_id) WHERE owed > 0;

CREATE TABLE holds (
    task_id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    reserved bigint NOT NULL CHECK (reserved > 0),
    spent bigint NOT NULL DEFAULT 0 CHECK (spent >= 0),
    held_at timestamptz NOT NULL DEFAULT rota_now(),
    CONSTRAINT never_spends_more_than_was_held CHECK (spent <= reserved)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 500);
CREATE INDEX holds_org ON holds (org_id);

CREATE TABLE wallet_entries (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL,
    source text NOT NULL CHECK (source IN ('purchases', 'available', 'spent', 'fees', 'owed', 'corrections')),
    target text NOT NULL CHECK (target IN ('purchases', 'available', 'spent', 'fees', 'owed', 'corrections')),
    tokens bigint NOT NULL CHECK (tokens > 0),
    reason text NOT NULL CHECK (reason IN ('top_up', 'spend', 'refund', 'fee', 'arrears', 'correction')),
    item text,
    quantity integer,
    task_id uuid,
    seq integer,
    reference text,
    refunds uuid,
    user_id uuid,
    note text,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    CONSTRAINT moves_between_two_accounts CHECK (source <> target)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX wallet_entries_statement ON wallet_entries (org_id, id DESC);
CREATE INDEX wallet_entries_task ON wallet_entries (task_id, seq) WHERE task_id IS NOT NULL;
CREATE UNIQUE INDEX wallet_entries_reference ON wallet_entries (org_id, reason, reference) WHERE reference IS NOT NULL;
CREATE UNIQUE INDEX wallet_entries_refunds ON wallet_entries (refunds) WHERE refunds IS NOT NULL;

CREATE TABLE fees (
    org_id uuid NOT NULL REFERENCES organisations,
    month date NOT NULL,
    tokens bigint NOT NULL,
    charged_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, month)
);

-- Months before there were fees are free.
INSERT INTO fees (org_id, month, tokens)
SELECT o.id, CAST(month AS date), 0 FROM organisations o,
       generate_series(date_trunc('month', o.created_at) + interval '1 month', rota_now(), interval '1 month') month;

-- The price list of the installation, with its history: the latest row whose time has come is in force.
CREATE TABLE token_prices (
    item text NOT NULL,
    tokens bigint NOT NULL CHECK (tokens >= 0),
    effective_from timestamptz NOT NULL,
    set_by text,
    PRIMARY KEY (item, effective_from)
);
INSERT INTO token_prices (item, tokens, effective_from)
VALUES ('whatsapp_conversation', 10, '-infinity'), ('sms', 1, '-infinity'), ('email', 1, '-infinity'),
       ('call', 50, '-infinity'), ('internal_llm_call', 1, '-infinity'), ('monthly_fee', 200, '-infinity');
GRANT SELECT ON token_prices TO rota_app;
GRANT SELECT, INSERT ON token_prices TO rota_system;
"""

BUDGETS = """
-- `agent` is empty for the organisation as a whole.
CREATE TABLE budgets (
    org_id uuid NOT NULL REFERENCES organisations,
    agent text NOT NULL DEFAULT '',
    monthly_limit numeric(20, 10) NOT NULL CHECK (monthly_limit >= 0),
    changed_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (org_id, agent)
);

CREATE TABLE budget_months (
    org_id uuid NOT NULL REFERENCES organisations,
    agent text NOT NULL,
    month date NOT NULL,
    spent numeric(20, 10) NOT NULL DEFAULT 0,
    held numeric(20, 10) NOT NULL DEFAULT 0,
    alerted integer NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, agent, month)
) WITH (fillfactor = 50);
COMMENT ON COLUMN budget_months.alerted IS 'The highest share, in percent, that somebody was told of.';

CREATE TABLE budget_holds (
    task_id uuid NOT NULL,
    agent text NOT NULL,
    month date NOT NULL,
    org_id uuid NOT NULL,
    reserved numeric(20, 10) NOT NULL,
    spent numeric(20, 10) NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, agent, month)
) WITH (fillfactor = 70);
"""

BILLS = """
ALTER TABLE usage
    ADD COLUMN conversation text,
    ADD COLUMN workflow_run uuid,
    ADD COLUMN is_totalled boolean NOT NULL DEFAULT false;
CREATE INDEX usage_to_total ON usage (id) WHERE NOT is_totalled;
CREATE INDEX usage_untotalled ON usage (org_id, created_at) WHERE NOT is_totalled;
GRANT UPDATE (is_totalled) ON usage TO rota_system;
ALTER TABLE tasks ADD COLUMN workflow_run uuid;
CREATE INDEX tasks_waiting ON tasks (waiting_for, org_id, run_after) WHERE status = 'waiting';

-- Sums of the usage rows marked as totalled; what is not yet marked is added when somebody asks.
CREATE TABLE usage_totals (
    org_id uuid NOT NULL REFERENCES organisations,
    month date NOT NULL,
    dimension text NOT NULL CHECK (dimension IN ('all', 'model', 'agent', 'conversation', 'workflow')),
    name text NOT NULL,
    model_calls bigint NOT NULL,
    rehearsal_calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    base_cost numeric(20, 10) NOT NULL,
    billed_cost numeric(20, 10) NOT NULL,
    PRIMARY KEY (org_id, month, dimension, name)
) WITH (fillfactor = 70);

CREATE INDEX usage_totals_dearest ON usage_totals (org_id, month, dimension, billed_cost DESC, name);
CREATE INDEX usage_totals_months ON usage_totals (org_id, month) WHERE dimension = 'all';

CREATE TABLE bills (
    org_id uuid NOT NULL REFERENCES organisations,
    month date NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT rota_now(),
    body jsonb NOT NULL,
    PRIMARY KEY (org_id, month)
);
"""

TENANT_TABLES = (
    "wallets", "holds", "wallet_entries", "fees", "budgets", "budget_months", "budget_holds", "usage_totals", "bills",
)  # fmt: skip
WRITTEN_ONCE = ("wallet_entries", "fees", "bills")


def upgrade() -> None:
    for part in (WALLET, BUDGETS, BILLS):
        op.execute(part)
    for table in TENANT_TABLES:
        op.execute(protect(table))
    for table in WRITTEN_ONCE:
        op.execute(f"REVOKE UPDATE, DELETE ON {table} FROM rota_app, rota_system")
    op.execute("REVOKE DELETE ON wallets FROM rota_app, rota_system")
