"""Replies of models, kept for agents that are asked the very same again and again. Off unless they say so."""

TABLES = ("cached_replies",)
