"""Visitors of web pages, and the publishable keys that admit them."""

TABLES = ("publishable_keys", "visitor_days", "visitors")
