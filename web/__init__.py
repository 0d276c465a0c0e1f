"""What routes and pages share: authentication, problem details, rate limits. No Celery, no routes."""
