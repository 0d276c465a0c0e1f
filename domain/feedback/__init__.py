"""Feedback: what people think of the answers of agents."""

TABLES = ("feedback",)
