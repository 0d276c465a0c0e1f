"""The worker processes: who is there, what they have in hand, how many tasks they should take at once."""

TABLES = ("worker_targets", "workers")
