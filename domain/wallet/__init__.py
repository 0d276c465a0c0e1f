"""Prepaid tokens: a double-entry ledger, holds, the price list, the monthly fee."""
