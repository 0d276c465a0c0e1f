"""What a rule of follow-ups begins with. Packs bring the kinds of triggers; this is what they have in common."""

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
    """A kind of trigger: derive from it, and set `kind` to a literal of its own."""

    model_config = ConfigDict(extra="forbid")

    kind: str

    found: ClassVar[str]
    """SQL that selects subject, contact, begun_at, facts (jsonb), and not_after: where a sequence that began after some
    moment is the same one again, that moment, else null. It may use `:now`, `:since` (what began earlier is left alone)
    and the names of `values`.
    """
    standing: ClassVar[str]
    """SQL that selects, for each row of `asked` (subject, contact, begun_at): subject, begun_at, is_open, ending (in
    words), converted_at, revenue, currency. A subject that is gone has no row. It may use `:now` and the names of
    `values`.
    """
    lies_ahead: ClassVar[bool] = False
    """whether `begun_at` is still to come when the trigger is found, so that a message may leave before it"""

    def values(self, now: datetime, zone: ZoneInfo) -> dict[str, Any]:  # noqa: ARG002
        """What the SQL needs to know of this trigger, by name. `zone` is the organisation's."""
        return {}


class NoTrigger(Trigger):
    """Stands for the kinds of triggers in an installation without any: no rule fits it."""

    kind: Annotated[str, StringConstraints(pattern=r"^\b$")]


def kinds() -> tuple[type[Trigger], ...]:
    """The kinds of triggers that the packs bring."""
    return tuple(trigger for pack in installed() for trigger in pack.triggers())


if TYPE_CHECKING:
    AnyTrigger = Trigger
else:
    _KINDS = kinds() or (NoTrigger,)
    AnyTrigger = functools.reduce(operator.or_, _KINDS)
    if len(_KINDS) > 1:
        AnyTrigger = Annotated[AnyTrigger, Field(discriminator="kind")]
"""a trigger of any kind"""
