"""Whether two periods can be compared, and what came of it. Pure.

Growth is told only over two periods that are known whole: every day of both was asked for, is over, and lies after the
records begin. Otherwise it is null, with the reason.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from business.analytics.formulas import growth

# Money comes in at least once a month: records that begin so soon after a period does say nothing was missing before.
_MOST_UNTIL_RECORDS_BEGIN = timedelta(days=31)


@dataclass(frozen=True)
class Known:
    """What is known of the days compared: which were asked for, what day it is, and since when there are records."""

    asked_from: date
    asked_to: date
    today: date
    since: date | None

    def gap(self, first: date, last: date) -> str | None:
        """Why the period from `first` to `last` is not known whole; None where it is."""
        if first < self.asked_from or last > self.asked_to:
            return f"only a part of {first} to {last} was asked for"
        if last >= self.today:
            return f"{first} to {last} is not over: it is {self.today}"
        leeway = min(_MOST_UNTIL_RECORDS_BEGIN, (last - first) / 2)
        if self.since is None or self.since > first + leeway:
            return f"the records begin on {self.since}, so {first} to {last} is known only in part"
        return None


def compared(before: Decimal, now: Decimal, reason: str | None) -> dict[str, Any]:
    """Growth in percent, and why there is none where there is none; `reason` is that of the periods."""
    reason = reason or ("nothing was paid in the period before" if not before else None)
    return {"growth_percent": None if reason else growth(before, now), "no_growth_because": reason}
