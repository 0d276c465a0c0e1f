"""The state of the whole installation, for operators, health checks and metrics. Reads no organisation's data."""
