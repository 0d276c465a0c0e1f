"""The HTTP API: validates, writes, answers. Imports no Celery: a task is accepted by one insert and one commit."""
