"""Reports on a gym's records: money, retention, attendance and risk."""
