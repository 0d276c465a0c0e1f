"""Execution of tasks and duties: the dispatcher, the Celery workers, retries, recovery. Independent of FastAPI."""
