"""What people would use instead, each as its own documentation recommends, doing the job that Rota does here.

Every module runs in an environment of its own, with the peer and without Rota: `python -m benchmarks.peers.celery_app
worker` or `submit N`.
"""
