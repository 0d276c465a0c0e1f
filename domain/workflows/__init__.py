"""Workflows: lists of tasks that run one after the other."""

TABLES = ("workflow_runs", "workflows")
