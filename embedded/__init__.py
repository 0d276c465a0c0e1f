"""Postgres, Redis and a rehearsal model for one machine, and the supervisor that runs everything there."""
