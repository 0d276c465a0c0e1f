"""A gym's customer records: clients, leads, classes, bookings, subscriptions, payments."""
