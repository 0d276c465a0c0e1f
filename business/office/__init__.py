"""What agents do to clients, places and payments, and make from the gym's records."""

TABLES = ("trial_bookings",)
