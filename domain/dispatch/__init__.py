"""What runs next: due tasks in lanes, limits, turns between organisations, pauses, conversations in order."""
