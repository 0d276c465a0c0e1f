"""Words on their way to people: channels, templates, the outbox, notifications."""

TABLES = (
    "channels",
    "inbox",
    "notifications",
    "outbox",
    "templates",
    "troubled_receivers",
    "webhooks",
    "whatsapp_conversations",
)
