"""Follow-ups: rules for whom to write to, when and why; planned and sent messages, and their outcome."""

TABLES = ("follow_up_rules", "follow_ups")
