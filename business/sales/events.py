"""The kinds of events about payments."""

from domain.events.kinds import EventKind, Notice

KINDS = (
    EventKind("payment.wanted", "payments:read", Notice, "A charge is to be collected by a person."),
    EventKind("payment.refunded", "payments:read", Notice, "An agent asked for the refund of a payment."),
    EventKind("payment.lapsed", "payments:read", Notice, "A charge was not collected in time."),
)
