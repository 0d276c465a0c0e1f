"""What agents propose and people decide: rules that give an action its level, approvals, votes."""

TABLES = ("approvals", "policies", "unattended_actions", "votes")
