"""A clock for what must be stamped with the moment it happened, whenever its transaction began.

`rota_now()` is the time at which a transaction began. A worker can hold one open for seconds, frozen or starved, before
its claim is carried out: stamped with `rota_now()`, the task would seem to have started before it was even dispatched,
and would leave the minute that starts are counted in too early.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION rota_clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE
            AS $$ SELECT clock_timestamp() + (SELECT ahead FROM clock) $$
    """)
