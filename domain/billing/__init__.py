"""What model calls cost: prices, markup, the usage ledger, bills."""
