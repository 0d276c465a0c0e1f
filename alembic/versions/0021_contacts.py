"""Contacts: one table of the people an organisation deals with. What clients and leads had in common moves there, with
what they allow; the two point to it. The views `client_contacts` and `lead_contacts` show a record with its contact.
"""

from alembic import op
from core.row_security import protect

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

CONTACTS = """
CREATE TABLE contacts (
    id uuid PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES organisations,
    kind text NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    phone text,
    status text NOT NULL DEFAULT '',
    language text,
    location_id uuid,
    time_zone text,
    has_consented boolean NOT NULL DEFAULT false,
    opted_out_at timestamptz,
    preferences_changed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT rota_now(),
    updated_at timestamptz NOT NULL DEFAULT rota_now(),
    folded text GENERATED ALWAYS AS (rota_fold(name || ' ' || email || ' ' || coalesce(phone, ''))) STORED,
    FOREIGN KEY (org_id, location_id) REFERENCES locations (org_id, id)
);
COMMENT ON COLUMN contacts.kind IS 'In the words of the pack that made the contact, such as client or lead.';
COMMENT ON COLUMN contacts.status IS 'In the words of the pack, too.';
COMMENT ON COLUMN contacts.time_zone IS 'IANA name; null for the organisation''s.';
COMMENT ON COLUMN contacts.has_consented IS 'To advertising.';
COMMENT ON COLUMN contacts.opted_out_at IS 'Since when the contact wants no follow-up at all.';
COMMENT ON COLUMN contacts.preferences_changed_at IS 'Null: the time zone, consent and opt-out were never set.';

INSERT INTO contacts (id, org_id, kind, name, email, phone, status, language, location_id, time_zone, has_consented,
                      opted_out_at, preferences_changed_at, created_at, updated_at)
SELECT p.id, p.org_id, p.kind, p.name, p.email, p.phone, p.status, p.language, p.location_id, f.time_zone,
       coalesce(f.has_consented, false), f.opted_out_at, f.changed_at, p.created_at, p.updated_at
  FROM (SELECT id, org_id, 'client' AS kind, name, email, phone, status, language, location_id, created_at, updated_at
          FROM clients
         UNION ALL
        SELECT id, org_id, 'lead', name, email, phone, status, NULL, location_id, created_at, updated_at
          FROM leads) p
  LEFT JOIN contact_preferences f ON f.org_id = p.org_id AND f.contact = p.id;

CREATE INDEX contacts_status ON contacts (org_id, kind, status);
CREATE INDEX contacts_since ON contacts (org_id, kind, created_at);
CREATE INDEX contacts_email ON contacts (org_id, lower(email));
"""

# The gym's own constraints on its kinds of contacts.
GYM = """
ALTER TABLE contacts
    ADD CONSTRAINT contacts_client CHECK (
        kind <> 'client' OR (language IS NOT NULL AND status IN ('active', 'frozen', 'lapsed', 'cancelled'))),
    ADD CONSTRAINT contacts_lead CHECK (
        kind <> 'lead' OR status IN ('new', 'contacted', 'trial_booked', 'trial_done', 'won', 'lost'));
DROP POLICY clients_where ON clients;
DROP POLICY leads_where ON leads;
ALTER TABLE clients DROP COLUMN folded;
ALTER TABLE clients DROP COLUMN name, DROP COLUMN email, DROP COLUMN phone, DROP COLUMN status, DROP COLUMN language,
    DROP COLUMN location_id, ADD FOREIGN KEY (id) REFERENCES contacts;
ALTER TABLE leads DROP COLUMN folded;
ALTER TABLE leads DROP COLUMN name, DROP COLUMN email, DROP COLUMN phone, DROP COLUMN status, DROP COLUMN location_id,
    ADD FOREIGN KEY (id) REFERENCES contacts,
    ADD COLUMN folded text GENERATED ALWAYS AS (rota_fold(interest)) STORED;
CREATE INDEX clients_org ON clients (org_id);
CREATE INDEX leads_org ON leads (org_id, created_at);

CREATE VIEW client_contacts WITH (security_invoker = true) AS
SELECT c.id, c.org_id, p.name, p.email, p.phone, p.status, p.language, c.tags, c.notes, p.location_id, c.joined_on,
       c.created_at, greatest(c.updated_at, p.updated_at) AS updated_at, p.folded
  FROM clients c JOIN contacts p ON p.id = c.id;
CREATE VIEW lead_contacts WITH (security_invoker = true) AS
SELECT l.id, l.org_id, p.name, p.email, p.phone, l.source, l.interest, p.status, l.notes, p.location_id, l.created_at,
       greatest(l.updated_at, p.updated_at) AS updated_at, p.folded || ' ' || l.folded AS folded
  FROM leads l JOIN contacts p ON p.id = l.id;
GRANT SELECT ON client_contacts, lead_contacts TO rota_app, rota_system;
"""

# What the platform keeps about clients and leads is about contacts.
OFFICE = """
ALTER TABLE exports DROP CONSTRAINT exports_what_check;
ALTER TABLE support_tickets DROP CONSTRAINT support_tickets_client_id_fkey, ADD FOREIGN KEY (client_id)
    REFERENCES contacts;
ALTER TABLE staff_tasks DROP CONSTRAINT staff_tasks_client_id_fkey, DROP CONSTRAINT staff_tasks_lead_id_fkey,
    ADD FOREIGN KEY (client_id) REFERENCES contacts, ADD FOREIGN KEY (lead_id) REFERENCES contacts;
ALTER TABLE campaign_members DROP CONSTRAINT campaign_members_client_id_fkey, ADD FOREIGN KEY (client_id)
    REFERENCES contacts;
ALTER TABLE calendar_events DROP CONSTRAINT calendar_events_client_id_fkey,
    DROP CONSTRAINT calendar_events_lead_id_fkey,
    ADD FOREIGN KEY (client_id) REFERENCES contacts, ADD FOREIGN KEY (lead_id) REFERENCES contacts;
"""

# (table, name of the policy, column that names the contact)
OF_A_CONTACT = (
    ("clients", "where", "id"),
    ("leads", "where", "id"),
    ("bookings", "where", "client_id"),
    ("subscriptions", "where", "client_id"),
    ("payments", "where", "client_id"),
    ("trial_bookings", "where_lead", "lead_id"),
    ("support_tickets", "where", "client_id"),
    ("staff_tasks", "where", "client_id"),
    ("staff_tasks", "where_lead", "lead_id"),
    ("calendar_events", "where", "client_id"),
    ("calendar_events", "where_lead", "lead_id"),
    ("campaign_members", "where", "client_id"),
    ("quotes", "where", "contact"),
    ("carts", "where", "contact"),
    ("inbox", "where", "contact"),
    ("follow_ups", "where", "contact"),
)
# Rows of these tables need not be about a contact.
OPTIONAL = ("support_tickets", "staff_tasks", "calendar_events")


def restrict(table: str, name: str, column: str) -> str:
    """SQL that hides rows of `table` whose contact is at a location that a user may not see."""
    condition = f"EXISTS (SELECT FROM contacts p WHERE p.id = {table}.{column})"
    if table in OPTIONAL:
        condition = f"{column} IS NULL OR {condition}"
    return f"""
    DROP POLICY IF EXISTS {table}_{name} ON {table};
    CREATE POLICY {table}_{name} ON {table} AS RESTRICTIVE TO rota_app USING (rota_everywhere() OR {condition})
    """


def upgrade() -> None:
    op.execute(CONTACTS)
    op.execute(protect("contacts"))
    op.execute(
        "CREATE POLICY contacts_where ON contacts AS RESTRICTIVE TO rota_app "
        "USING (rota_everywhere() OR rota_at(location_id))"
    )
    op.execute(GYM)
    op.execute(OFFICE)
    for table, name, column in OF_A_CONTACT:
        op.execute(restrict(table, name, column))
    op.execute("DROP TABLE contact_preferences")
