"""Loans of books."""

from alembic import op
from core.row_security import protect, restrict_to_locations

revision = "library_0001"
down_revision = None
branch_labels = None
depends_on = None

LOANS = """
CREATE TABLE library_loans (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    reader_id uuid NOT NULL REFERENCES contacts,
    title text NOT NULL,
    lent_at timestamptz NOT NULL DEFAULT rota_now(),
    due_at timestamptz NOT NULL,
    returned_at timestamptz
);
CREATE INDEX library_loans_open ON library_loans (org_id, due_at) WHERE returned_at IS NULL;
CREATE INDEX library_loans_reader ON library_loans (reader_id);
"""


def upgrade() -> None:
    op.execute(LOANS)
    op.execute(protect("library_loans"))
    op.execute(restrict_to_locations("library_loans", "reader_id"))
