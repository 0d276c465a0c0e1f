"""What agents do to clients, places and payments, and make of the gym's records."""

TABLES = ("trial_bookings",)
