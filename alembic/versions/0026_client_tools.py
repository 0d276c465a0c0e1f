"""Tools of the caller: a task waits for the results of the calls that its client carries out."""

from alembic import op
from core.row_security import protect

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

RESULTS = """
CREATE TABLE client_tool_results (
    org_id uuid NOT NULL,
    task_id uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    seq integer NOT NULL,
    content text NOT NULL,
    is_error boolean NOT NULL,
    given_by uuid NOT NULL,
    given_at timestamptz NOT NULL DEFAULT rota_now(),
    PRIMARY KEY (task_id, seq)
);
COMMENT ON TABLE client_tool_results IS 'What clients returned for the calls of their own tools; seq is the step of the call.';
CREATE INDEX tasks_waiting_for_client ON tasks (id) WHERE status = 'waiting' AND waiting_for = 'client_tools';
"""


def upgrade() -> None:
    op.execute(RESULTS)
    op.execute(protect("client_tool_results"))
