"""Records that agents keep beside contacts: tickets, staff tasks, campaigns, posts, events, exports, resources."""

TABLES = (
    "calendar_events",
    "campaign_members",
    "campaigns",
    "exports",
    "resources",
    "social_posts",
    "staff_tasks",
    "support_tickets",
)
