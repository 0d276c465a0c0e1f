"""Follow-ups: rules that say whom to write to, when and why; what is planned, what was sent, what came of it."""

TABLES = ("follow_up_rules", "follow_ups")
