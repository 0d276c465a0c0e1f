"""Exact money. Amounts are US dollars as `Decimal`, never binary floats."""

from decimal import ROUND_HALF_EVEN, Decimal

# A token can cost a ten-millionth of a cent; ten places keep every model call exact in NUMERIC(20, 10).
_QUANTUM = Decimal("0.0000000001")


def exact(amount: Decimal) -> Decimal:
    """Round `amount` half-even to the ten decimal places in which amounts are stored."""
    return amount.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)


def in_words(amount: Decimal) -> str:
    """Format dollars for people: two places from ten cents upwards and for zero, otherwise six, so that the cost of a
    single call shows.
    """
    return f"${amount:,.2f}" if abs(amount) >= Decimal("0.1") or not amount else f"${amount:.6f}"
