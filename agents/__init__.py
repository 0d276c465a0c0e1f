"""How agents think: the pipeline, the providers of models, the tools, the ready-made agents. No Celery, no FastAPI."""
