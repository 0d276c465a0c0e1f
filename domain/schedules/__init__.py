"""Schedules: when tasks start by themselves, and the outcome of each run."""

TABLES = ("schedule_runs", "schedulers", "schedules")
