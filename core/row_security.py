"""Row-level security: the policies of every table that has an organisation. For migrations.

This SQL has already run on existing databases: a change to it also needs a migration for the existing tables.
"""

_MINE = "org_id = nullif(current_setting('app.org', true), '')::uuid"


def protect(table: str) -> str:
    """Return SQL that limits `rota_app` to one organisation's rows of `table`, and gives `rota_system` and the owner
    access to all.
    """
    return f"""
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY {table}_app ON {table} TO rota_app USING ({_MINE}) WITH CHECK ({_MINE});
    CREATE POLICY {table}_system ON {table} TO rota_system USING (true) WITH CHECK (true);
    CREATE POLICY {table}_owner ON {table} TO rota_owner USING (true) WITH CHECK (true);
    GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO rota_app, rota_system;
    """


def restrict_to_locations(table: str, contact: str) -> str:
    """Return SQL for a transaction that is limited to some locations: it hides a row of `table` unless the transaction
    can see the contact whose id is in the column `contact`.
    """
    return f"""
    CREATE POLICY {table}_where ON {table} AS RESTRICTIVE TO rota_app
        USING (rota_everywhere() OR EXISTS (SELECT FROM contacts p WHERE p.id = {table}.{contact}));
    """
