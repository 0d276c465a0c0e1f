"""Messages to and from people: channels, templates, the outbox, the inbox, notifications, webhooks."""

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
