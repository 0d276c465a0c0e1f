"""People hear of a wallet before it is empty: what it was last filled to, and of which mark they were told."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

WALLETS = """
ALTER TABLE wallets
    ADD COLUMN filled bigint NOT NULL DEFAULT 0,
    ADD COLUMN alerted smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN wallets.filled IS 'Tokens that there were when some were last added.';
COMMENT ON COLUMN wallets.alerted IS 'The highest share of these that was spent when people were told, in percent.';
UPDATE wallets SET filled = balance;
"""


def upgrade() -> None:
    op.execute(WALLETS)
