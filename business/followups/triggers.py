"""The triggers of a gym's follow-ups."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, StringConstraints

from domain.followups.triggers import Trigger, Words


def _day_of_a_year(text: str) -> str:
    try:
        date.fromisoformat(f"2024-{text}")
    except ValueError as error:
        raise ValueError(f"{text!r} is no day of a year; write month and day, such as 12-01") from error
    return text


DayOfYear = Annotated[str, StringConstraints(pattern=r"^\d\d-\d\d$"), AfterValidator(_day_of_a_year)]


class QuoteSent(Trigger):
    """A quote is open. Ends when it is decided, sent again or expires. The amount of an accepted quote is revenue."""

    kind: Literal["quote_sent"] = "quote_sent"

    found: ClassVar[str] = """
        SELECT id AS subject, contact, sent_at AS begun_at,
               jsonb_build_object('quote', title, 'amount', amount, 'currency', currency, 'valid_until', valid_until)
                   AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM quotes
         WHERE status = 'open' AND sent_at <= :now AND (valid_until IS NULL OR valid_until > :now)
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at,
               q.status = 'open' AND q.sent_at = a.begun_at AND (q.valid_until IS NULL OR q.valid_until > :now)
                   AS is_open,
               CASE WHEN q.status <> 'open' THEN 'the quote was ' || q.status
                    WHEN q.sent_at <> a.begun_at THEN 'the quote was sent again'
                    ELSE 'the quote is not valid any more' END AS ending,
               CASE WHEN q.status = 'accepted' THEN q.decided_at END AS converted_at, q.amount AS revenue, q.currency
          FROM asked a JOIN quotes q ON q.id = a.subject
    """


class CartLeft(Trigger):
    """An open cart is left untouched. Ends when it is touched, bought or emptied."""

    kind: Literal["cart_left"] = "cart_left"

    found: ClassVar[str] = """
        SELECT id AS subject, contact, touched_at AS begun_at,
               jsonb_build_object('cart', items, 'amount', amount, 'currency', currency) AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM carts WHERE status = 'open' AND touched_at <= :now
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at, c.status = 'open' AND c.touched_at = a.begun_at AS is_open,
               CASE c.status WHEN 'open' THEN 'the cart was touched again' ELSE 'the cart was ' || c.status END
                   AS ending,
               CASE WHEN c.status = 'bought' THEN c.decided_at END AS converted_at, c.amount AS revenue, c.currency
          FROM asked a JOIN carts c ON c.id = a.subject
    """


class MemberAway(Trigger):
    """An active client has not come for `days` days and has no booking. Ends when they book, come or leave."""

    kind: Literal["member_away"] = "member_away"
    days: int = Field(default=21, ge=3, le=365)

    found: ClassVar[str] = """
        SELECT c.id AS subject, c.id AS contact, latest.at + make_interval(days => :days) AS begun_at,
               jsonb_build_object('last_visit', latest.at, 'member_since', c.joined_on) AS facts,
               latest.at AS not_after
          FROM (SELECT b.client_id, max(s.starts_at) AS at
                  FROM class_sessions s JOIN bookings b ON b.session_id = s.id
                 WHERE s.starts_at >= CAST(:since AS timestamptz) - make_interval(days => :days)
                   AND s.starts_at <= CAST(:now AS timestamptz) - make_interval(days => :days)
                   AND b.status IN ('attended', 'booked')
                 GROUP BY b.client_id
                 UNION ALL
                SELECT n.id, n.created_at FROM client_contacts n
                 WHERE n.created_at >= CAST(:since AS timestamptz) - make_interval(days => :days)
                   AND n.created_at <= CAST(:now AS timestamptz) - make_interval(days => :days)
                   AND NOT EXISTS (SELECT FROM bookings b
                                    WHERE b.client_id = n.id AND b.status IN ('attended', 'booked'))) AS latest
          JOIN client_contacts c ON c.id = latest.client_id AND c.status = 'active'
         WHERE NOT EXISTS (SELECT FROM bookings b JOIN class_sessions s ON s.id = b.session_id
                            WHERE b.client_id = c.id AND b.status IN ('attended', 'booked')
                              AND s.starts_at > latest.at)
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at, c.status = 'active' AND came.id IS NULL AS is_open,
               CASE WHEN came.id IS NULL THEN 'the member is ' || c.status
                    WHEN came.created_at > a.begun_at THEN 'they booked again' ELSE 'they came' END AS ending,
               CASE WHEN came.created_at > a.begun_at THEN came.created_at
                    WHEN came.starts_at > a.begun_at THEN came.starts_at END AS converted_at,
               CAST(NULL AS numeric) AS revenue, CAST(NULL AS text) AS currency
          FROM asked a JOIN client_contacts c ON c.id = a.subject
          LEFT JOIN LATERAL (
               SELECT b.id, b.created_at, s.starts_at FROM bookings b JOIN class_sessions s ON s.id = b.session_id
                WHERE b.client_id = c.id AND b.status IN ('attended', 'booked')
                  AND (b.created_at > a.begun_at OR s.starts_at > a.begun_at - make_interval(days => :days))
                ORDER BY b.created_at LIMIT 1) AS came ON true
    """

    def values(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:  # noqa: ARG002
        """Return the number of days without a visit."""
        return {"days": self.days}


class TrialBooked(Trigger):
    """A lead has booked a trial class; delays count from its start, so that -PT24H is the day before. Ends when it
    starts, or is cancelled.
    """

    kind: Literal["trial_booked"] = "trial_booked"
    lies_ahead: ClassVar[bool] = True

    found: ClassVar[str] = """
        SELECT t.id AS subject, t.lead_id AS contact, s.starts_at AS begun_at,
               jsonb_build_object('class', k.name, 'starts_at', s.starts_at, 'instructor', s.instructor,
                                  'room', s.room) AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM trial_bookings t JOIN class_sessions s ON s.id = t.session_id JOIN classes k ON k.id = s.class_id
         WHERE t.status = 'booked' AND s.status = 'scheduled' AND s.starts_at > :now
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at,
               t.status = 'booked' AND s.status = 'scheduled' AND s.starts_at > :now AND s.starts_at = a.begun_at
                   AS is_open,
               CASE WHEN t.status = 'cancelled' OR s.status = 'cancelled' THEN 'the trial was cancelled'
                    WHEN s.starts_at <> a.begun_at THEN 'the trial was moved' ELSE 'the trial has begun' END AS ending,
               CASE WHEN t.status = 'attended' THEN s.starts_at END AS converted_at,
               CAST(NULL AS numeric) AS revenue, CAST(NULL AS text) AS currency
          FROM asked a JOIN trial_bookings t ON t.id = a.subject JOIN class_sessions s ON s.id = t.session_id
    """


class TrialMissed(Trigger):
    """A lead did not come to a trial class. Ends when they book another, join or decline."""

    kind: Literal["trial_missed"] = "trial_missed"

    found: ClassVar[str] = """
        SELECT t.id AS subject, t.lead_id AS contact, s.starts_at AS begun_at,
               jsonb_build_object('class', k.name, 'missed_at', s.starts_at) AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM trial_bookings t JOIN class_sessions s ON s.id = t.session_id JOIN classes k ON k.id = s.class_id
          JOIN lead_contacts l ON l.id = t.lead_id
         WHERE t.status = 'no_show' AND l.status NOT IN ('won', 'lost') AND s.starts_at <= :now
           AND NOT EXISTS (SELECT FROM trial_bookings o
                            WHERE o.lead_id = t.lead_id AND o.created_at > s.starts_at AND o.status <> 'cancelled')
           AND NOT EXISTS (SELECT FROM trial_bookings o JOIN class_sessions os ON os.id = o.session_id
                            WHERE o.lead_id = t.lead_id AND o.status = 'booked' AND os.starts_at > :now)
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at,
               t.status = 'no_show' AND l.status NOT IN ('won', 'lost') AND again.id IS NULL AS is_open,
               CASE WHEN again.id IS NOT NULL THEN 'they booked another trial' WHEN l.status = 'won' THEN 'they joined'
                    WHEN l.status = 'lost' THEN 'the lead is lost' ELSE 'the trial was not missed' END AS ending,
               coalesce(again.at, CASE WHEN l.status = 'won' THEN l.updated_at END) AS converted_at,
               CAST(NULL AS numeric) AS revenue, CAST(NULL AS text) AS currency
          FROM asked a JOIN trial_bookings t ON t.id = a.subject JOIN lead_contacts l ON l.id = t.lead_id
          LEFT JOIN LATERAL (
               SELECT o.id, CASE WHEN o.created_at > a.begun_at THEN o.created_at END AS at
                 FROM trial_bookings o JOIN class_sessions os ON os.id = o.session_id
                WHERE o.lead_id = l.id AND o.id <> t.id AND o.status <> 'cancelled'
                  AND (o.created_at > a.begun_at OR (o.status = 'booked' AND os.starts_at > :now))
                ORDER BY o.created_at LIMIT 1) AS again ON true
    """


class LeadSilent(Trigger):
    """A lead is new or contacted, and has not answered. Ends when they answer or reach another status."""

    kind: Literal["lead_silent"] = "lead_silent"

    found: ClassVar[str] = """
        SELECT id AS subject, id AS contact, created_at AS begun_at,
               jsonb_build_object('interest', interest, 'source', source) AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM lead_contacts WHERE status IN ('new', 'contacted') AND created_at <= :now
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at, l.status IN ('new', 'contacted') AS is_open,
               CASE WHEN l.status = 'lost' THEN 'the lead is lost' ELSE 'the lead got on: ' || l.status END AS ending,
               CASE WHEN l.status IN ('trial_booked', 'trial_done', 'won') THEN l.updated_at END AS converted_at,
               CAST(NULL AS numeric) AS revenue, CAST(NULL AS text) AS currency
          FROM asked a JOIN lead_contacts l ON l.id = a.subject
    """


class Bought(Trigger):
    """A contact bought something, and there are products of the same category that they never bought. Ends when they
    buy again.
    """

    kind: Literal["bought"] = "bought"

    found: ClassVar[str] = """
        SELECT c.id AS subject, c.contact, c.decided_at AS begun_at,
               jsonb_build_object('bought', c.items, 'products', offered.products) AS facts,
               CAST(NULL AS timestamptz) AS not_after
          FROM carts c
         CROSS JOIN LATERAL (
               SELECT jsonb_agg(jsonb_build_object('name', p.name, 'description', p.description, 'price', p.price,
                                                   'currency', p.currency)) AS products
                 FROM (SELECT p.* FROM products p
                        WHERE p.is_active
                          AND p.category IN (SELECT o.category FROM products o, jsonb_array_elements(c.items) AS item
                                              WHERE o.id = CAST(item ->> 'product' AS uuid))
                          AND NOT EXISTS (SELECT FROM carts e, jsonb_array_elements(e.items) AS item
                                           WHERE e.contact = c.contact AND e.status = 'bought'
                                             AND CAST(item ->> 'product' AS uuid) = p.id)
                        ORDER BY p.price LIMIT 5) AS p) AS offered
         WHERE c.status = 'bought' AND c.decided_at <= :now AND offered.products IS NOT NULL
           AND NOT EXISTS (SELECT FROM carts later WHERE later.contact = c.contact AND later.status = 'bought'
                                                     AND later.decided_at > c.decided_at)
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at, c.status = 'bought' AND again.decided_at IS NULL AS is_open,
               CASE WHEN again.decided_at IS NOT NULL THEN 'they bought again' ELSE 'the purchase was taken back' END
                   AS ending,
               again.decided_at AS converted_at, again.amount AS revenue, again.currency
          FROM asked a JOIN carts c ON c.id = a.subject
          LEFT JOIN LATERAL (SELECT decided_at, amount, currency FROM carts o
                              WHERE o.contact = a.contact AND o.status = 'bought' AND o.decided_at > a.begun_at
                              ORDER BY decided_at LIMIT 1) AS again ON true
    """


class Season(Trigger):
    """A seasonal campaign: every contact of an audience, once a year, between two days of the year."""

    kind: Literal["season"] = "season"
    first: DayOfYear = Field(examples=["12-01"])
    last: DayOfYear = Field(examples=["12-20"], description="may lie in the next year")
    audience: Literal["active", "lapsed", "leads", "everybody"] = "active"
    offer: Words = Field(description="what there is to tell")

    found: ClassVar[str] = """
        SELECT p.id AS subject, p.id AS contact, CAST(:begins AS timestamptz) AS begun_at,
               jsonb_build_object('offer', CAST(:offer AS text)) AS facts,
               CAST(:begins AS timestamptz) - interval '180 days' AS not_after
          FROM (SELECT id FROM client_contacts
                 WHERE (:audience IN ('active', 'everybody') AND status = 'active')
                    OR (:audience IN ('lapsed', 'everybody') AND status = 'lapsed')
                 UNION ALL
                SELECT id FROM lead_contacts
                 WHERE :audience IN ('leads', 'everybody') AND status NOT IN ('won', 'lost')) AS p
         WHERE CAST(:begins AS timestamptz) <= :now
    """
    standing: ClassVar[str] = """
        SELECT a.subject, a.begun_at,
               p.status NOT IN ('cancelled', 'won', 'lost') AND spent.at IS NULL
                   AND a.begun_at IS NOT DISTINCT FROM CAST(:begins AS timestamptz) AS is_open,
               CASE WHEN spent.at IS NOT NULL THEN 'they bought'
                    WHEN a.begun_at IS DISTINCT FROM CAST(:begins AS timestamptz) THEN 'the season is over'
                    ELSE 'they are ' || p.status END AS ending,
               spent.at AS converted_at, spent.amount AS revenue, spent.currency
          FROM asked a
          JOIN contacts AS p ON p.id = a.subject
          LEFT JOIN LATERAL (
               SELECT at, amount, currency FROM (
                   SELECT paid_at AS at, amount, currency FROM payments
                    WHERE client_id = a.contact AND paid_at > a.begun_at AND status = 'paid' AND kind <> 'membership'
                    UNION ALL
                   SELECT decided_at, amount, currency FROM carts
                    WHERE contact = a.contact AND status = 'bought' AND decided_at > a.begun_at) AS all_of_them
                ORDER BY at LIMIT 1) AS spent ON true
    """

    def values(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
        """Return the audience, the offer, and when the current season begins (None outside it)."""
        bounds = season_bounds(self, now, zone)
        return {"audience": self.audience, "offer": self.offer, "begins": bounds[0] if bounds else None}


TRIGGERS: tuple[type[Trigger], ...] = (
    QuoteSent, CartLeft, MemberAway, TrialBooked, TrialMissed, LeadSilent, Bought, Season,
)  # fmt: skip


def season(trigger: Season, day: date) -> tuple[date, date] | None:
    """Return the first and last day of the season that contains `day`; None outside it."""
    for year in (day.year, day.year - 1):
        first = _of_year(year, trigger.first)
        last = _of_year(year + (trigger.last < trigger.first), trigger.last)
        if first <= day <= last:
            return first, last
    return None


def season_bounds(trigger: Season, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """Return when the current season begins and ends, in the organisation's time zone; None outside it."""
    days = season(trigger, now.astimezone(zone).date())
    return days and (_midnight(days[0], zone), _midnight(days[1] + timedelta(days=1), zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(0), tzinfo=zone).astimezone(UTC)


def _of_year(year: int, day: str) -> date:
    month, number = map(int, day.split("-"))
    try:
        return date(year, month, number)
    except ValueError:  # 29 February, in a year that has none
        return date(year, 3, 1)
