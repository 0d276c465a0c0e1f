"""Approvals: the rules that give an action its level, the actions that people decide on, and their votes."""

TABLES = ("approvals", "policies", "unattended_actions", "votes")
