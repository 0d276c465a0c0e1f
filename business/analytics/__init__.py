"""What a gym's records add up to: money, retention, attendance and risk."""
