"""Words on their way to people: channels, templates, the outbox, notifications."""
