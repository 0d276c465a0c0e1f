"""Workflows: lists of tasks that are done one after the other."""

TABLES = ("workflow_runs", "workflows")
