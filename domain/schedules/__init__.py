"""Schedules: when tasks are started by themselves, and what became of each time."""
