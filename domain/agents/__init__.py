"""Agents as data: instructions, model, tools and limits under a name."""

TABLES = ("agents",)
