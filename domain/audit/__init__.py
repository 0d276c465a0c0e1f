"""The audit log: an append-only record of everything that people and agents changed, and of what agents read."""

TABLES = ("audit_log",)
