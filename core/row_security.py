"""Row-level security of a table: the policies that every table with an organisation has. For migrations.

What stands here has run on databases: a change of it needs a migration that brings it to the tables that are there.
"""

_MINE = "org_id = nullif(current_setting('app.org', true), '')::uuid"


def protect(table: str) -> str:
    """SQL that lets `rota_app` reach one organisation's rows of `table`, and `rota_system` and the owner all."""
    return f"""
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY {table}_app ON {table} TO rota_app USING ({_MINE}) WITH CHECK ({_MINE});
    CREATE POLICY {table}_system ON {table} TO rota_system USING (true) WITH CHECK (true);
    CREATE POLICY {table}_owner ON {table} TO rota_owner USING (true) WITH CHECK (true);
    GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO rota_app, rota_system;
    """


def restrict_to_locations(table: str, contact: str) -> str:
    """SQL that hides rows of `table` from a user of some locations, unless the contact whose id is in the column
    `contact` is at one of them.
    """
    return f"""
    CREATE POLICY {table}_where ON {table} AS RESTRICTIVE TO rota_app
        USING (rota_everywhere() OR EXISTS (SELECT FROM contacts p WHERE p.id = {table}.{contact}));
    """
