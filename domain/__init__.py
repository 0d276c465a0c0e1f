"""What Rota is about, a folder per concept. Knows no Celery, no FastAPI, no model.

In each: `models.py` (tables), `schemas.py` (what goes in and out), `queries.py` (all SQL), `service.py` (verbs).
Others see a slice's `service` and `schemas` only.
"""
