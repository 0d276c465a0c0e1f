"""How long organisations keep what: lines of the audit log, and conversations."""

TABLES = ("retention",)
