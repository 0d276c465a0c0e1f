"""Worker processes: which are alive, which tasks they run, and their wanted concurrency."""

TABLES = ("worker_targets", "workers")
