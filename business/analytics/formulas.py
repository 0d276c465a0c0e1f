"""The formulas of the reports, pure. Money is `Decimal`, in one currency at a time; rates are percentages."""

from collections.abc import Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from business.analytics.schemas import MemberActivity, Risk, RiskLevel

_CENT = Decimal("0.01")
_MONTHS = 12
_HIGH, _MEDIUM = 50, 25


def cents(amount: Decimal | None) -> Decimal | None:
    """Round an amount to the cent, half up, as PostgreSQL rounds numerics. None stays None."""
    return None if amount is None else amount.quantize(_CENT, ROUND_HALF_UP)


def average(total: Decimal, count: int) -> Decimal | None:
    """Return the arithmetic mean; None if `count` is 0."""
    return total / count if count else None


def percent(part: Decimal | int, whole: Decimal | int) -> float | None:
    """Return `part` of `whole` in percent, to one decimal; None if `whole` is 0."""
    return round(float(100 * Decimal(part) / whole), 1) if whole else None


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def mrr(monthly: Decimal, yearly: Decimal) -> Decimal:
    """Return monthly recurring revenue, an amount a month, not rounded: what monthly plans charge, and a twelfth of
    what yearly plans charge (David Skok, "SaaS Metrics 2.0", forEntrepreneurs).
    """
    return monthly + yearly / _MONTHS


def arr(monthly_recurring: Decimal) -> Decimal:
    """Return annual recurring revenue, an amount a year: twelve times MRR (David Skok, "SaaS Metrics 2.0").

    Pass the MRR before rounding; otherwise a yearly plan of 100 comes back as 99.96.
    """
    return _MONTHS * monthly_recurring


def arpu(monthly_recurring: Decimal, members: int) -> Decimal | None:
    """Return average revenue per user, an amount a month: MRR divided by paying members (David Skok, "SaaS Metrics
    2.0", there named ARPA); None without members.
    """
    return average(monthly_recurring, members)


def growth(before: Decimal | int, now: Decimal | int) -> float | None:
    """Return growth from `before` to `now` in percent (Paul Farris et al., "Marketing Metrics"); None from 0."""
    return percent(Decimal(now) - before, before)


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


def churn_rate(at_start: int, lost: int) -> float | None:
    """Return the percentage of the members at the period's start who were no members at its end (Paul Farris et al.,
    "Marketing Metrics", on retention); None without members at the start.
    """
    return percent(lost, at_start)


def retention_rate(at_start: int, lost: int) -> float | None:
    """Return the percentage of the members at the period's start who were still members at its end: 100 less churn
    (Paul Farris et al., "Marketing Metrics").
    """
    return percent(at_start - lost, at_start)


def expected_lifetime(member_months: int, lost: int) -> float | None:
    """Return how many months a member stays on average: one divided by the monthly churn rate (Sunil Gupta and Donald
    Lehmann, "Managing Customers as Investments"). None if no member left.

    `member_months` is the sum of the members at the start of each month, `lost` the sum of those lost in each.
    """
    return round(member_months / lost, 1) if lost else None


def lifetime_value(
    revenue_per_user: Decimal | None, member_months: int, lost: int, margin_percent: Decimal
) -> Decimal | None:
    """Return lifetime value, an amount: ARPU a month x margin / monthly churn rate (David Skok, "SaaS Metrics 2.0").
    No discounting. None if no member left, or none pays.
    """
    if revenue_per_user is None or not lost:
        return None
    return revenue_per_user * margin_percent / 100 * member_months / lost


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def occupancy(taken: int, places: int) -> float | None:
    """Return the percentage of places taken: utilisation, output divided by design capacity (Nigel Slack et al.,
    "Operations Management"); None without places.
    """
    return percent(taken, places)


def no_show_rate(missed: int, came: int) -> float | None:
    """Return the percentage of missed bookings among kept and missed ones, without those cancelled in time (Leila
    Dantas et al., "No-shows in appointment scheduling: a systematic literature review", Health Policy 122); None
    without bookings.
    """
    return percent(missed, missed + came)


# ── risk ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def at_risk(member: MemberActivity, today: date) -> Risk:
    """Return how likely a member is to leave: a scorecard whose points add up to at most 100, each with its reason.

    Recency, frequency, their decline, and the length of the relationship predict who leaves (Wouter Buckinx and Dirk
    Van den Poel, "Customer base analysis: partial defection of behaviourally loyal clients", European Journal of
    Operational Research 164). The points are ours, and not fitted to any gym's history.
    """
    found = list(_signs(member, today))
    score = min(100, sum(points for points, _ in found))
    level: RiskLevel = "high" if score >= _HIGH else "medium" if score >= _MEDIUM else "low"
    return Risk(score=score, level=level, reasons=[reason for _, reason in sorted(found, key=lambda sign: -sign[0])])


def _signs(member: MemberActivity, today: date) -> Iterator[tuple[int, str]]:
    yield from _absence(member, today)
    yield from _fewer_visits(member)
    yield from _slow_start(member, today)
    yield from _missed_classes(member)
    yield from _money(member)


def _absence(member: MemberActivity, today: date) -> Iterator[tuple[int, str]]:
    days = (today - (member.last_visit or member.joined_on)).days
    points = next((points for least, points in ((45, 40), (21, 25), (10, 10)) if days >= least), 0)
    if points:
        yield (
            points,
            f"No visit for {days} days" if member.last_visit else f"Not one visit in {days} days since joining",
        )


def _fewer_visits(member: MemberActivity) -> Iterator[tuple[int, str]]:
    # The last month's visits against the average of the two months before, if there was a habit to lose.
    now, before = member.visits_30_days, (member.visits_90_days - member.visits_30_days) / 2
    if before >= 2 and now <= before * 0.75:  # noqa: PLR2004 - the rule is clearest with its numbers inline
        yield 25 if now < before / 2 else 10, f"Visits fell from {before:g} to {now} in 30 days"


def _slow_start(member: MemberActivity, today: date) -> Iterator[tuple[int, str]]:
    days = (today - member.joined_on).days
    if 14 <= days <= 60 and member.visits < 4:  # noqa: PLR2004 - as above
        yield 10, f"Visits in the first {days} days: only {member.visits}"


def _missed_classes(member: MemberActivity) -> Iterator[tuple[int, str]]:
    missed = member.no_shows_90_days
    booked = missed + member.visits_90_days
    if missed and booked >= 3 and 3 * missed >= booked:  # noqa: PLR2004 - as above
        yield 10, f"Missed {missed} of {booked} booked classes in 90 days"


def _money(member: MemberActivity) -> Iterator[tuple[int, str]]:
    failed = member.failed_payments_90_days
    points = 10 * min(failed, 2)
    if member.is_past_due:  # failed payments are its cause: one fault, counted once
        yield max(15, points), "Subscription past due" + (f", failed payments in 90 days: {failed}" if failed else "")
        return
    if failed:
        yield points, f"Failed payments in 90 days: {failed}"
    if not member.has_active_subscription:
        yield 15, "No active subscription"
