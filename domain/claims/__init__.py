"""Claims: a worker's right to a task, the journal that it writes, and how it ends."""

TABLES = ("attempts", "steps")
