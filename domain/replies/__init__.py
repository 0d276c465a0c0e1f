"""Cache of model replies, for agents that get identical requests repeatedly. Off unless an agent enables it."""

TABLES = ("cached_replies",)
