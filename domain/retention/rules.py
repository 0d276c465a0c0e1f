"""How long something is kept, of what the installation sets and what an organisation chose. Pure."""

from datetime import timedelta

from domain.retention.schemas import Kept, Term

_DAY = timedelta(days=1)


def kept_for(term: Term, chosen: timedelta | None) -> timedelta | None:
    """Return how long something is kept; None: for ever. Bounds that were narrowed later apply to what was chosen
    before. If they exclude each other, the least wins: what is deleted too early cannot be brought back.
    """
    wanted = term.default if chosen is None else chosen
    if term.most is not None:
        wanted = term.most if wanted is None else min(wanted, term.most)
    return None if wanted is None else max(wanted, term.least)


def refusal(what: str, term: Term, days: int) -> str | None:
    """Return why an organisation may not choose so many days, or None if it may."""
    wanted = timedelta(days=days)
    if wanted < term.least:
        return f"{what} must be kept for at least {_days(term.least)} days in this installation, and you gave {days}."
    if term.most is not None and wanted > max(term.most, term.least):
        return f"{what} can be kept for at most {_days(term.most)} days in this installation, and you gave {days}."
    return None


def shown(term: Term, chosen: timedelta | None) -> Kept:
    """Return how long something is kept, in days, and what may be chosen."""
    kept = kept_for(term, chosen)
    return Kept(
        days=None if kept is None else _days(kept),
        chosen=None if chosen is None else _days(chosen),
        least=_days(term.least),
        most=None if term.most is None else _days(term.most),
    )


def _days(kept: timedelta) -> int:
    """Return whole days, rounded up."""
    return -(-kept // _DAY)
