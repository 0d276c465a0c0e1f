"""Conversations of people with agents: their messages, and the tasks that answer them."""

TABLES = ("conversation_messages", "conversation_summaries", "conversations")
