"""Prepaid tokens: a double-entry ledger, holds, the price list, the monthly fee."""

TABLES = ("fees", "holds", "token_prices", "wallet_entries", "wallets")
