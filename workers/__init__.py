"""How work runs: the dispatcher, the Celery workers, retries, recovery. Knows no FastAPI."""
