"""A gym's customer records: clients, leads, classes, bookings, subscriptions, payments."""

TABLES = ("bookings", "class_sessions", "classes", "clients", "leads", "payments", "subscriptions")
