"""Which providers there are is said in one place, `core/model_providers.py`: own prices are no longer checked by a list."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE prices DROP CONSTRAINT prices_provider_check")
