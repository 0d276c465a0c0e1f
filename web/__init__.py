"""What routes and pages share: authentication, problem documents, rate limits. No Celery, no routes."""
