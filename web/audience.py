"""Which events a caller hears: those it asked for, as far as its permissions reach. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from uuid import UUID

from core.errors import InvalidInput
from domain.events.kinds import event_kinds
from domain.events.schemas import Event
from domain.tenants.permissions import Reach
from web.auth import Principal

# What tells which tasks are heard, and what their words were in the end.
_FOR_WORDS = frozenset({"task.accepted", "task.queued", "task.started", "task.ended", "decision.made"})


@dataclass(frozen=True)
class Audience:
    """The events of an organisation that one reader hears."""

    kinds: Mapping[str, Reach]
    """the kinds that it wants and may hear, with where"""
    agent: str | None = None
    task: UUID | None = None
    conversation: UUID | None = None
    session: str | None = None
    """hears the conversations of a session"""
    quiet: frozenset[str] = frozenset()
    """kinds that are followed, and not told: without decisions, no stream could tell what models say"""

    visitor: UUID | None = None
    """the visitor whose stream it is; None for a key's"""

    @property
    def wants_words(self) -> bool:
        """Whether the reader wants to hear what models say while they say it."""
        is_narrow = self.task is not None or self.conversation is not None or self.session is not None
        return is_narrow and "message.delta" in self.kinds

    @property
    def wants_typing(self) -> bool:
        """Whether the reader wants to hear who is typing."""
        return (self.conversation is not None or self.session is not None) and "user.typing" in self.kinds

    def hears_typing_after(self, event: Event) -> bool:
        """Whether the reader may hear who is typing in the conversation of an event."""
        reach = self.reach("user.typing")
        may_hear = reach.everywhere or event.location_id in reach.locations
        return self.wants_typing and event.conversation_id is not None and may_hear

    def reach(self, kind: str) -> Reach:
        """Return where the reader hears of a kind."""
        return self.kinds.get(kind, Reach())

    def hears(self, event: Event) -> bool:
        """Whether the reader wants an event and may hear of it."""
        if self.task is not None and event.task_id != self.task:
            return False
        if self.agent is not None and event.agent != self.agent:
            return False
        if self.conversation is not None and event.conversation_id != self.conversation:
            return False
        if self.session is not None and event.session != self.session:
            return False
        reach = self.kinds.get(event.kind)
        return reach is not None and (reach.everywhere or event.location_id in reach.locations)


def audience(
    caller: Principal,
    wanted: Collection[str] = (),
    *,
    agent: str | None = None,
    task: UUID | None = None,
    conversation: UUID | None = None,
    session: str | None = None,
) -> Audience:
    """Return the audience that a caller is: `wanted` are names of kinds, or patterns such as `task.*`; without any, all
    that the caller may hear.

    Raises:
        InvalidInput: a name or pattern fits no kind.
    """
    known = event_kinds()
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise InvalidInput(f"There is no kind of event called {pattern!r}. docs/events.md lists them all.")
    chosen = {
        name: caller.reach_of(kind.permission)
        for name, kind in known.items()
        if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)
    }
    quiet: frozenset[str] = frozenset()
    if "message.delta" in chosen and (task or conversation or session):
        quiet = _FOR_WORDS - chosen.keys()
        chosen |= dict.fromkeys(quiet, chosen["message.delta"])
    if "user.typing" in chosen and session and "message.sent" not in chosen:
        quiet |= {"message.sent"}  # it tells which conversations begin in the session
        chosen["message.sent"] = chosen["user.typing"]
    heard = {name: reach for name, reach in chosen.items() if not reach.is_nowhere}
    return Audience(heard, agent, task, conversation, session, quiet)


def visitor_audience(visitor: UUID, kinds: Collection[str], conversation: UUID | None) -> Audience:
    """Return the audience of a visitor that follows one of its own conversations, or nothing."""
    everywhere = Reach(everywhere=True)  # the caller has checked that the conversation is the visitor's
    heard = dict.fromkeys({*kinds, *_FOR_WORDS} if conversation else (), everywhere)
    return Audience(heard, conversation=conversation, quiet=_FOR_WORDS - {*kinds}, visitor=visitor)
