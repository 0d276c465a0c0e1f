"""What clients, leads and classes are searched in is kept folded (case and accents aside), instead of being folded for
every row of every search.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    ALTER TABLE clients ADD folded text
        GENERATED ALWAYS AS (rota_fold(name || ' ' || email || ' ' || coalesce(phone, ''))) STORED;
    ALTER TABLE leads ADD folded text
        GENERATED ALWAYS AS (rota_fold(name || ' ' || email || ' ' || coalesce(phone, '') || ' ' || interest)) STORED;
    ALTER TABLE classes ADD folded text
        GENERATED ALWAYS AS (rota_fold(name || ' ' || category || ' ' || description)) STORED;
    """)
