"""Postgres, Valkey and a rehearsal model on one machine, and the supervisor that runs all processes there."""
