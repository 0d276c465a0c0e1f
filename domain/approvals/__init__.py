"""What agents propose and people decide: rules that give an action its level, approvals, votes."""
