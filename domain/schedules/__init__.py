"""Schedules: when tasks are started by themselves, and what became of each time."""

TABLES = ("schedule_runs", "schedulers", "schedules")
