"""Agents as data: who they are, which model and tools they have, within which limits."""

TABLES = ("agents",)
