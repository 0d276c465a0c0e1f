"""The audit log: an append-only record of everything that people and agents changed."""

TABLES = ("audit_log",)
