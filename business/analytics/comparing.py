"""Growth between two periods, if they can be compared. Pure functions.

Growth is reported only between two periods that are known in full: every day of both was requested, is over, and lies
after the records begin. Otherwise it is null, with the reason.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from business.analytics.formulas import growth

# Payments arrive at least once a month: if the records begin this soon after a period does, nothing is missing.
_MOST_UNTIL_RECORDS_BEGIN = timedelta(days=31)


@dataclass(frozen=True)
class Known:
    """What is known of the compared days: which were requested, what day it is, and since when there are records."""

    asked_from: date
    asked_to: date
    today: date
    since: date | None

    def gap(self, first: date, last: date) -> str | None:
        """Return why the period from `first` to `last` is not known in full; None if it is."""
        if first < self.asked_from or last > self.asked_to:
            return f"only a part of {first} to {last} was asked for"
        if last >= self.today:
            return f"{first} to {last} is not over: it is {self.today}"
        leeway = min(_MOST_UNTIL_RECORDS_BEGIN, (last - first) / 2)
        if self.since is None or self.since > first + leeway:
            return f"the records begin on {self.since}, so {first} to {last} is known only in part"
        return None


def compared(before: Decimal, now: Decimal, reason: str | None) -> dict[str, Any]:
    """Return growth in percent, or why there is none. `reason` is why the periods cannot be compared, if so."""
    reason = reason or ("nothing was paid in the period before" if not before else None)
    return {"growth_percent": None if reason else growth(before, now), "no_growth_because": reason}
