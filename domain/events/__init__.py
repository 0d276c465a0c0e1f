"""Events: what happened, in the order in which it became visible, for readers that follow it."""

TABLES = ("deleted_events", "events")
