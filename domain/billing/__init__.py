"""What model calls cost: prices, markup, the usage ledger, bills."""

TABLES = ("bills", "budget_holds", "budget_months", "budgets", "prices", "usage", "usage_totals")
