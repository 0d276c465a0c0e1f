"""Who did what: an append-only log of everything that people and agents changed."""

TABLES = ("audit_log",)
