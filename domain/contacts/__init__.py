"""The people that an organisation deals with: who they are, how to reach them, what they allow."""

TABLES = ("contacts",)
