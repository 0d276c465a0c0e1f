"""All SQL of the reports. No statement filters by organisation: row-level security does."""

from datetime import date
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, TextClause, text

from business.analytics.schemas import (
    AttendanceOfPart,
    BookedSession,
    Cohort,
    CohortPayments,
    DayCounts,
    KeptByClient,
    KeptByNotice,
    MemberActivity,
    MonthMovement,
    PaymentsOfPart,
    PaymentsOfPeriod,
    PlanMovement,
    RecurringAmounts,
    Span,
    Unit,
)
from core.rows import fetch_all

Record = TypeVar("Record")

_STEP: dict[Unit, str] = {"week": "7 days", "month": "1 month", "quarter": "3 months", "year": "1 year"}

# Whole weeks, months, quarters or years that overlap the requested days.
_PERIODS = """
    periods AS (
        SELECT starts::date AS starts_on, (starts + CAST(:step AS interval))::date - 1 AS ends_on
          FROM generate_series(date_trunc(CAST(:unit AS text), CAST(:first AS timestamp)), CAST(:last AS timestamp),
                               CAST(:step AS interval)) AS starts)
"""


def _fetch(
    connection: Connection, statement: TextClause, record: type[Record], span: Span, **more: object
) -> list[Record]:
    values = {"first": span.first, "last": span.last, "begin": span.begin, "end": span.end, "zone": str(span.zone)}
    return fetch_all(connection.execute(statement, values | more), record)


# ── payments ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_SUMS = """
           count(*) FILTER (WHERE status = 'paid') AS paid_count,
           count(*) FILTER (WHERE status = 'failed') AS failed_count,
           count(*) FILTER (WHERE status = 'refunded') AS refunded_count,
           count(*) FILTER (WHERE status = 'pending') AS pending_count,
           coalesce(sum(amount) FILTER (WHERE status = 'paid'), 0) AS paid,
           coalesce(sum(amount) FILTER (WHERE status = 'failed'), 0) AS failed,
           coalesce(sum(amount) FILTER (WHERE status = 'refunded'), 0) AS refunded,
           coalesce(sum(amount) FILTER (WHERE status = 'pending'), 0) AS pending
"""
_PAYMENTS = """
    SELECT amount, currency, kind, method, status, paid_at AT TIME ZONE CAST(:zone AS text) AS paid_at
      FROM payments WHERE paid_at >= :begin AND paid_at < :end
"""
_PAYMENTS_BY_PERIOD = text(f"""
    WITH {_PERIODS},
    made AS (SELECT *, CAST(date_trunc(CAST(:unit AS text), paid_at) AS date) AS starts_on FROM ({_PAYMENTS}) AS local),
    currencies AS (SELECT DISTINCT currency FROM made)
    SELECT currency, starts_on, ends_on, {_SUMS}
      FROM periods CROSS JOIN currencies LEFT JOIN made USING (currency, starts_on)
     GROUP BY currency, starts_on, ends_on ORDER BY currency, starts_on
""")  # noqa: S608 - built from constants only, no values


def payments_by_period(connection: Connection, span: Span, unit: Unit) -> list[PaymentsOfPeriod]:
    """Return counts and amounts by status, for each currency and each week, month, quarter or year, even empty ones.

    Payments before or after the requested days are left out of the first and last period.
    """
    return _fetch(connection, _PAYMENTS_BY_PERIOD, PaymentsOfPeriod, span, unit=unit, step=_STEP[unit])


_PAYMENTS_BY_PART = text(f"""
    WITH made AS (SELECT *, CAST(paid_at AS date) AS day, CAST(date_trunc('week', paid_at) AS date) AS week
                    FROM ({_PAYMENTS}) AS local)
    SELECT currency, coalesce(kind, method, CAST(day AS text), CAST(week AS text)) AS value,
           CASE 0 WHEN grouping(kind) THEN 'kind' WHEN grouping(method) THEN 'method' WHEN grouping(day) THEN 'day'
                  WHEN grouping(week) THEN 'week' ELSE 'all' END AS part, {_SUMS}
      FROM made
     GROUP BY GROUPING SETS ((currency), (currency, kind), (currency, method), (currency, day), (currency, week))
     ORDER BY currency, part, value
""")  # noqa: S608 - built from constants only, no values


def payments_by_part(connection: Connection, span: Span) -> list[PaymentsOfPart]:
    """Return counts and amounts by status in each currency: of all payments, and by kind, method, day, and week (named
    by its Monday). `part` names the grouping, `value` the group.
    """
    return _fetch(connection, _PAYMENTS_BY_PART, PaymentsOfPart, span)


_FIRST_PAYMENT = text("SELECT CAST(min(paid_at) AT TIME ZONE CAST(:zone AS text) AS date) FROM payments")


def first_payment(connection: Connection, zone: ZoneInfo) -> date | None:
    """Return the day of the earliest recorded payment; None if there is none."""
    found: date | None = connection.execute(_FIRST_PAYMENT, {"zone": str(zone)}).scalar_one()
    return found


# ── subscriptions ────────────────────────────────────────────────────────────────────────────────────────────────────

# A subscription counts from the day on which it starts to the day before it ended. One that was cancelled since still
# counts on earlier days. One cancelled without an end date does not count: its end is unknown.
_RECURRING = text("""
    WITH counted AS (
        SELECT *, CASE status WHEN 'past_due' THEN 'past_due' ELSE 'active' END AS standing FROM subscriptions
         WHERE started_on <= :day AND (ended_on IS NULL OR ended_on > :day)
           AND (status IN ('active', 'past_due')
                OR (status = 'cancelled' AND ended_on IS NOT NULL AND CAST(:day AS date) < CAST(:today AS date))))
    SELECT currency, plan, standing, count(*) AS subscriptions, count(DISTINCT client_id) AS members,
           coalesce(sum(amount) FILTER (WHERE period = 'month'), 0) AS monthly,
           coalesce(sum(amount) FILTER (WHERE period = 'year'), 0) AS yearly
      FROM counted GROUP BY GROUPING SETS ((currency), (currency, standing), (currency, plan))
     ORDER BY currency, plan NULLS FIRST, standing NULLS FIRST
""")


def recurring_amounts(connection: Connection, day: date, today: date) -> list[RecurringAmounts]:
    """Return what subscriptions that count on `day` charge by month and by year, in each currency: in total (`plan` and
    `standing` are None), by standing, and by plan.
    """
    return fetch_all(connection.execute(_RECURRING, {"day": day, "today": today}), RecurringAmounts)


_MEMBERS_OF = """
    SELECT {by} client_id,
           bool_or(started_on < p.starts_on AND (ended_on IS NULL OR ended_on >= p.starts_on)) AS was_member,
           bool_or(started_on <= p.ends_on AND (ended_on IS NULL OR ended_on > p.ends_on)) AS is_member
      FROM subscriptions WHERE status <> 'cancelled' OR ended_on IS NOT NULL GROUP BY {by} client_id
"""
_COUNTS = """
           count(*) FILTER (WHERE was_member) AS at_start,
           count(*) FILTER (WHERE was_member AND NOT is_member) AS lost,
           count(*) FILTER (WHERE is_member AND NOT was_member) AS gained,
           count(*) FILTER (WHERE is_member) AS at_end
"""
_MOVEMENT = text(f"""
    WITH {_PERIODS}, clipped AS (
        SELECT greatest(starts_on, :first) AS starts_on, least(ends_on, :last) AS ends_on,
               starts_on >= :first AND ends_on <= :last AS is_whole FROM periods)
    SELECT p.starts_on, p.ends_on, p.is_whole, {_COUNTS}
      FROM clipped p LEFT JOIN LATERAL ({_MEMBERS_OF.format(by="")}) AS m ON true
     GROUP BY p.starts_on, p.ends_on, p.is_whole ORDER BY p.starts_on
""")  # noqa: S608 - built from constants only, no values


def member_movement(connection: Connection, span: Span) -> list[MonthMovement]:
    """Return for each month: the members on the day before it began, those of them lost by its end, those gained, and
    the members at its end. A member has a subscription that is not over, even if it is paused.
    """
    return _fetch(connection, _MOVEMENT, MonthMovement, span, unit="month", step=_STEP["month"])


_MOVEMENT_BY_PLAN = text(f"""
    SELECT plan, {_COUNTS}
      FROM (SELECT CAST(:first AS date) AS starts_on, CAST(:last AS date) AS ends_on) AS p
      CROSS JOIN LATERAL ({_MEMBERS_OF.format(by="plan,")}) AS m
     GROUP BY plan HAVING bool_or(was_member OR is_member) ORDER BY plan
""")  # noqa: S608 - built from constants only, no values


def plan_movement(connection: Connection, span: Span) -> list[PlanMovement]:
    """Return for each plan, over all the days: the members before them, those lost, those gained, and the members at
    their end. A member who changed plans is lost by one and gained by the other.
    """
    return _fetch(connection, _MOVEMENT_BY_PLAN, PlanMovement, span)


# ── cohorts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_COHORTS = text("""
    SELECT CAST(date_trunc(CAST(:unit AS text), joined_on) AS date) AS starts_on, count(*) AS clients,
           count(*) FILTER (WHERE EXISTS (
               SELECT FROM subscriptions u
                WHERE u.client_id = c.id AND (u.status <> 'cancelled' OR u.ended_on IS NOT NULL)
                  AND u.started_on <= :today AND (u.ended_on IS NULL OR u.ended_on > :today))) AS members_today
      FROM client_contacts c WHERE joined_on BETWEEN :first AND :last GROUP BY 1 ORDER BY 1
""")
_COHORTS_PAID = text("""
    SELECT CAST(date_trunc(CAST(:unit AS text), c.joined_on) AS date) AS starts_on, p.currency, sum(p.amount) AS paid
      FROM client_contacts c JOIN payments p ON p.client_id = c.id AND p.status = 'paid'
     WHERE c.joined_on BETWEEN :first AND :last GROUP BY 1, 2 ORDER BY 1, 2
""")


def cohorts(connection: Connection, span: Span, unit: Unit, today: date) -> list[Cohort]:
    """Return how many clients joined in each week, month, quarter or year, and how many are members today."""
    return _fetch(connection, _COHORTS, Cohort, span, unit=unit, today=today)


def paid_by_cohort(connection: Connection, span: Span, unit: Unit) -> list[CohortPayments]:
    """Return what the clients of each cohort have paid so far, in each currency."""
    return _fetch(connection, _COHORTS_PAID, CohortPayments, span, unit=unit)


# ── classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_ATTENDANCE = text("""
    WITH held AS (
        SELECT s.id, s.status, s.capacity, k.name AS class_name, s.instructor,
               CAST(extract(isodow FROM s.starts_at AT TIME ZONE CAST(:zone AS text)) AS int) AS weekday,
               to_char(s.starts_at AT TIME ZONE CAST(:zone AS text), 'HH24:00') AS hour,
               count(b.id) AS booked,
               count(*) FILTER (WHERE b.status = 'attended') AS attended,
               count(*) FILTER (WHERE b.status = 'no_show') AS no_shows
          FROM class_sessions s JOIN classes k ON k.id = s.class_id
          LEFT JOIN bookings b ON b.session_id = s.id AND b.status <> 'cancelled'
         WHERE s.starts_at >= :begin AND s.starts_at < :end AND s.starts_at <= (SELECT rota_now())
         GROUP BY s.id, k.name)
    SELECT coalesce(class_name, instructor, (ARRAY['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday',
                                                   'Sunday'])[weekday], hour) AS value,
           CASE 0 WHEN grouping(class_name) THEN 'class' WHEN grouping(instructor) THEN 'instructor'
                  WHEN grouping(weekday) THEN 'weekday' WHEN grouping(hour) THEN 'hour' ELSE 'all' END AS part,
           count(*) FILTER (WHERE status = 'scheduled') AS sessions,
           count(*) FILTER (WHERE status = 'cancelled') AS cancelled_sessions,
           CAST(coalesce(sum(capacity) FILTER (WHERE status = 'scheduled'), 0) AS int) AS places,
           CAST(coalesce(sum(booked) FILTER (WHERE status = 'scheduled'), 0) AS int) AS booked,
           CAST(coalesce(sum(attended) FILTER (WHERE status = 'scheduled'), 0) AS int) AS attended,
           CAST(coalesce(sum(no_shows) FILTER (WHERE status = 'scheduled'), 0) AS int) AS no_shows
      FROM held GROUP BY GROUPING SETS ((), (class_name), (instructor), (weekday), (hour))
     ORDER BY part, weekday, value
""")


def attendance_by_part(connection: Connection, span: Span) -> list[AttendanceOfPart]:
    """Return the sessions that have begun, their places and bookings: in total, and by class, instructor, weekday and
    hour. `part` names the grouping, `value` the group. Bookings of cancelled sessions do not count.
    """
    return _fetch(connection, _ATTENDANCE, AttendanceOfPart, span)


_PAST_BOOKINGS = """
      FROM bookings b JOIN class_sessions s ON s.id = b.session_id
     WHERE s.starts_at >= :begin AND s.starts_at < :end AND s.starts_at <= (SELECT rota_now())
       AND s.status = 'scheduled' AND b.status IN ('attended', 'no_show')
"""
_BY_NOTICE = text(f"""
    SELECT CASE WHEN s.starts_at - b.created_at < interval '1 day' THEN 'less than a day'
                WHEN s.starts_at - b.created_at < interval '3 days' THEN '1 to 3 days'
                ELSE '3 days or more' END AS booked_ahead,
           count(*) FILTER (WHERE b.status = 'attended') AS attended,
           count(*) FILTER (WHERE b.status = 'no_show') AS no_shows
           {_PAST_BOOKINGS} GROUP BY 1 ORDER BY min(s.starts_at - b.created_at)
""")
_WHO_MISSES = text(f"""
    WITH missing AS (
        SELECT b.client_id, count(*) FILTER (WHERE b.status = 'attended') AS attended,
               count(*) FILTER (WHERE b.status = 'no_show') AS no_shows
               {_PAST_BOOKINGS} GROUP BY b.client_id HAVING count(*) FILTER (WHERE b.status = 'no_show') >= :least)
    SELECT m.client_id, c.name, m.attended, m.no_shows FROM missing m JOIN client_contacts c ON c.id = m.client_id
     ORDER BY m.no_shows DESC, m.attended, c.name, c.id LIMIT :limit
""")  # noqa: S608 - built from constants only, no values


def attendance_by_notice(connection: Connection, span: Span) -> list[KeptByNotice]:
    """Return bookings kept and missed, by how long before the class they were made."""
    return _fetch(connection, _BY_NOTICE, KeptByNotice, span)


def clients_who_miss(connection: Connection, span: Span, *, least: int, limit: int) -> list[KeptByClient]:
    """Return clients who missed at least `least` booked classes, most missed first."""
    return _fetch(connection, _WHO_MISSES, KeptByClient, span, least=least, limit=limit)


_SESSIONS = text("""
    SELECT s.id AS session_id, k.name AS class_name, s.instructor, s.room, s.starts_at, s.status, s.capacity,
           (SELECT count(*) FROM bookings b WHERE b.session_id = s.id AND b.status <> 'cancelled') AS booked
      FROM class_sessions s JOIN classes k ON k.id = s.class_id
     WHERE s.starts_at >= :begin AND s.starts_at < :end ORDER BY s.starts_at, k.name
""")


def sessions_of(connection: Connection, span: Span) -> list[BookedSession]:
    """Return every session, past and future, with the number of bookings."""
    return _fetch(connection, _SESSIONS, BookedSession, span)


# ── members ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# The periods are those of one client's engagement score, so that the two agree. The clock is read once, and each
# client's rows are found by index scan: otherwise this took seconds.
_ACTIVITY = text("""
    WITH since AS MATERIALIZED (
        SELECT rota_now() - interval '30 days' AS month, rota_now() - interval '90 days' AS quarter)
    SELECT c.id AS client_id, c.name, c.joined_on, came.*,
           (SELECT count(*) FROM payments p WHERE p.client_id = c.id AND p.status = 'failed' AND p.paid_at > quarter)
               AS failed_payments_90_days,
           EXISTS (SELECT FROM subscriptions u WHERE u.client_id = c.id AND u.status = 'active')
               AS has_active_subscription,
           EXISTS (SELECT FROM subscriptions u WHERE u.client_id = c.id AND u.status = 'past_due') AS is_past_due
      FROM client_contacts c CROSS JOIN since
     CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE b.status = 'attended' AND s.starts_at > month) AS visits_30_days,
               count(*) FILTER (WHERE b.status = 'attended' AND s.starts_at > quarter) AS visits_90_days,
               count(*) FILTER (WHERE b.status = 'no_show' AND s.starts_at > quarter) AS no_shows_90_days,
               count(*) FILTER (WHERE b.status = 'attended') AS visits,
               CAST(max(s.starts_at AT TIME ZONE CAST(:zone AS text))
                    FILTER (WHERE b.status = 'attended') AS date) AS last_visit
          FROM bookings b JOIN class_sessions s ON s.id = b.session_id WHERE b.client_id = c.id) AS came
     WHERE c.status = 'active' ORDER BY c.name, c.id
""")


def activity_of_members(connection: Connection, zone: ZoneInfo) -> list[MemberActivity]:
    """Return the activity of each active client in the last 30 and 90 days."""
    return fetch_all(connection.execute(_ACTIVITY, {"zone": str(zone)}), MemberActivity)


_CLIENTS_BY_STATUS = text("SELECT status, count(*) AS clients FROM client_contacts GROUP BY status ORDER BY status")


def clients_by_status(connection: Connection) -> dict[str, int]:
    """Return the number of clients with each status."""
    return {row.status: row.clients for row in connection.execute(_CLIENTS_BY_STATUS)}


_DUTIES = text("""
    WITH week AS (SELECT (CAST(:first AS timestamp) - interval '6 days') AT TIME ZONE CAST(:zone AS text) AS since)
    SELECT (SELECT count(*) FROM lead_contacts
             WHERE created_at >= (SELECT since FROM week) AND created_at < :end) AS new_leads_7_days,
           (SELECT count(*) FROM lead_contacts WHERE status = 'new') AS leads_not_contacted,
           (SELECT count(*) FROM lead_contacts WHERE status = 'trial_booked') AS trials_booked,
           (SELECT count(*) FROM payments WHERE status = 'failed'
               AND paid_at >= (SELECT since FROM week) AND paid_at < :end) AS failed_payments_7_days,
           (SELECT count(*) FROM payments WHERE status = 'pending') AS pending_payments,
           (SELECT count(*) FROM subscriptions WHERE status = 'past_due') AS subscriptions_past_due,
           (SELECT count(*) FROM subscriptions WHERE status = 'active'
               AND renews_on BETWEEN CAST(:first AS date) AND CAST(:first AS date) + 6) AS renewals_next_7_days,
           (SELECT count(*) FROM subscriptions
             WHERE ended_on BETWEEN date_trunc('month', CAST(:first AS timestamp)) AND :first)
               AS subscriptions_ended_this_month,
           (SELECT count(*) FROM client_contacts
             WHERE joined_on BETWEEN date_trunc('month', CAST(:first AS timestamp)) AND :first)
               AS new_clients_this_month
""")


def counts_of_day(connection: Connection, day: Span) -> DayCounts:
    """Return counts of what needs attention on one day: leads, payments and subscriptions."""
    [counts] = _fetch(connection, _DUTIES, DayCounts, day)
    return counts
