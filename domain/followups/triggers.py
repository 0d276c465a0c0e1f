"""Triggers of follow-up rules. Packs define the kinds of triggers; this module holds what they share."""

import functools
import operator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from core.packs import installed
from core.text import Storable

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000), Storable]


class Trigger(BaseModel):
    """Base class of the kinds of triggers. A subclass sets `kind` to a literal of its own."""

    model_config = ConfigDict(extra="forbid")

    kind: str

    found: ClassVar[str]
    """SQL that selects subject, contact, begun_at, facts (jsonb) and not_after. If the rule has a sequence for the
    subject that began later than not_after, the row belongs to that sequence and starts no new one; null disables this.
    The SQL may use `:now`, `:since` (earlier beginnings are ignored) and the names of `values`.
    """
    standing: ClassVar[str]
    """SQL that selects, for each row of `asked` (subject, contact, begun_at): subject, begun_at, is_open, ending (in
    words), converted_at, revenue, currency. A subject that is gone has no row. It may use `:now` and the names of
    `values`.
    """
    lies_ahead: ClassVar[bool] = False
    """whether the trigger is found before `begun_at`, so that a message may be sent before that time"""

    def values(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:  # noqa: ARG002
        """Return this trigger's SQL parameters by name. `zone` is the organisation's time zone."""
        return {}


class NoTrigger(Trigger):
    """Placeholder in an installation without any kind of trigger. It matches no rule."""

    kind: Annotated[str, StringConstraints(pattern=r"^\b$")]


def kinds() -> tuple[type[Trigger], ...]:
    """Return the kinds of triggers of the installed packs."""
    return tuple(trigger for pack in installed() for trigger in pack.triggers())


if TYPE_CHECKING:
    AnyTrigger = Trigger
else:
    _KINDS = kinds() or (NoTrigger,)
    AnyTrigger = functools.reduce(operator.or_, _KINDS)
    if len(_KINDS) > 1:
        AnyTrigger = Annotated[AnyTrigger, Field(discriminator="kind")]
"""a trigger of any kind"""
