"""Exact money. Amounts are US dollars as `Decimal`; nothing here or elsewhere touches binary floats."""

from decimal import ROUND_HALF_EVEN, Decimal

# A token can cost a ten-millionth of a cent; ten places keep every model call exact in NUMERIC(20, 10).
_QUANTUM = Decimal("0.0000000001")


def exact(amount: Decimal) -> Decimal:
    """`amount` rounded half-even to the ten places in which amounts are stored."""
    return amount.quantize(_QUANTUM, rounding=ROUND_HALF_EVEN)


def in_words(amount: Decimal) -> str:
    """Dollars for people: cents from ten cents upwards, otherwise enough places to see the cost of one call."""
    return f"${amount:,.2f}" if abs(amount) >= Decimal("0.1") or not amount else f"${amount:.6f}"
