"""Export of bills as CSV."""

import csv
import io
from decimal import Decimal

from domain.billing.schemas import Bill

_COLUMNS = (
    "model_calls", "rehearsal_calls", "input_tokens", "cached_tokens", "output_tokens", "base_cost", "billed_cost",
    "estimated_calls", "unpriced_calls",
)  # fmt: skip
# A spreadsheet would evaluate a cell that starts with one of these as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(bill: Bill) -> str:
    """Return a bill as CSV (RFC 4180): a line for the total, then one per model, agent, conversation and workflow."""
    written = io.StringIO()
    lines = csv.writer(written)
    lines.writerow(["month", "part", "name", *_COLUMNS, "currency"])
    parts = {
        "model": bill.by_model, "agent": bill.by_agent, "conversation": bill.by_conversation,
        "workflow": bill.by_workflow,
    }  # fmt: skip
    rows = [("total", "", bill.total), *((part, line.name, line) for part, found in parts.items() for line in found)]
    for part, name, line in rows:
        safe = f"'{name}" if name.startswith(_FORMULA) else name
        numbers = (_in_digits(getattr(line, column)) for column in _COLUMNS)
        lines.writerow([f"{bill.month:%Y-%m}", part, safe, *numbers, bill.currency])
    return written.getvalue()


def _in_digits(number: int | Decimal) -> str:
    """Write a number without an exponent, which small amounts would have (`1E-10`)."""
    return f"{number:f}" if isinstance(number, Decimal) else str(number)
