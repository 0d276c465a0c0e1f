"""Tasks: their life from submission to end, their attempts, and the journal of what each step returned."""

TABLES = ("concurrency_keys", "task_trees", "tasks")
