"""An organisation's row is another one (its `xmin`) when its prices or budgets change: each claim reads that version
anyway, so that a worker need not ask for either while it is the same.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


# SECURITY DEFINER, because whoever may set a price may not write organisations.
def upgrade() -> None:
    op.execute("""
    CREATE FUNCTION note_money_change() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
        AS $$
        BEGIN
            UPDATE organisations SET slug = slug WHERE id = CASE TG_OP WHEN 'DELETE' THEN OLD.org_id ELSE NEW.org_id END;
            RETURN NULL;
        END $$;
    CREATE TRIGGER price_changed AFTER INSERT OR UPDATE OR DELETE ON prices
        FOR EACH ROW EXECUTE FUNCTION note_money_change();
    CREATE TRIGGER budget_changed AFTER INSERT OR UPDATE OR DELETE ON budgets
        FOR EACH ROW EXECUTE FUNCTION note_money_change();
    """)
