"""What was chosen, how probable that was, and what came of it. How to choose is in `agents/learning/`."""

TABLES = ("arms", "choices")
