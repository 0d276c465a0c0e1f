"""Stored choices, their probability and their outcome. The choosing itself is in `agents/learning/`."""

TABLES = ("arms", "choices")
