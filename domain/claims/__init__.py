"""Claims: a worker's right to a task, the journal that it writes under the claim, and how the claim ends."""

TABLES = ("attempts", "steps")
