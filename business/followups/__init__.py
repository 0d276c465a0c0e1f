"""Follow-ups of a gym: their triggers, and the built-in rules."""
