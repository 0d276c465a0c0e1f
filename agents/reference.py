"""What a worker process has read of organisations, agents and prices, and need not read again for every task."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from core.prepared import SingleStatement
from domain.agents import service as agents
from domain.agents.schemas import Agent
from domain.billing import service as billing
from domain.billing.schemas import MoneyFacts, Price
from domain.claims.schemas import Claimed
from domain.providers.schemas import Endpoint
from domain.tenants import service as tenants
from domain.tenants.schemas import Organisation
from domain.wallet import service as wallet
from domain.wallet.schemas import PriceItem

K = TypeVar("K")
V = TypeVar("V")
_FRESH = 5.0  # seconds
_MOST_KEPT = 10_000  # organisations, agents, prices

LazyConnection = Callable[[], Connection]
"""returns a connection, which is opened at the first call"""


@dataclass(frozen=True)
class _Read:
    """Something that was read of an organisation's money: when, and the organisation's version known before."""

    at: float
    version: str | None
    found: Any


class ReferenceCache:
    """What a process has read and need not read again: the price list, for 5 s; agents and organisations, and with
    these their own prices and whether they have budgets, as long as their rows are the same.
    """

    def __init__(self) -> None:
        self._prices: tuple[float, dict[str, int]] = (0.0, {})
        self._versions: dict[UUID, tuple[float, str | None]] = {}
        self._budgets: dict[UUID, _Read] = {}
        self._models: dict[tuple[UUID, str], _Read] = {}
        self._agents: dict[UUID, tuple[str | None, Agent]] = {}
        self._organisations: dict[UUID, tuple[str | None, Organisation]] = {}

    def claimed(self, task: Claimed) -> None:
        """A task was claimed just now: what it says of its organisation's version is true as of now."""
        _keep(self._versions, task.org_id, (time.monotonic(), task.organisation_version))

    def agent(self, ask: LazyConnection, task: Claimed) -> Agent:
        """The task's agent, as it was when the task was claimed."""
        version, found = self._agents.get(task.agent_id, (None, None))
        if found is None or version != task.agent_version:
            found = agents.agent_of_task(ask(), task.agent_id)
            _keep(self._agents, task.agent_id, (task.agent_version, found))
        return found

    def organisation(self, ask: LazyConnection, task: Claimed) -> Organisation:
        """The task's organisation, as it was when the task was claimed."""
        version, found = self._organisations.get(task.org_id, (None, None))
        if found is None or version != task.organisation_version:
            found = tenants.get_organisation(ask(), task.org_id)
            _keep(self._organisations, task.org_id, (task.organisation_version, found))
        return found

    def own_price(self, org: UUID, model: str) -> Price | None:
        """The organisation's own price for a model, where it has one: as it stood when one of its tasks was claimed
        last, or 5 s ago.
        """
        return self._facts(org, model).price

    def endpoint(self, org: UUID, model: str) -> Endpoint | None:
        """The endpoint that serves a model, where the providers of the settings do not: likewise."""
        return self._facts(org, model).endpoint

    def _facts(self, org: UUID, model: str) -> MoneyFacts:
        read = self._models.get((org, model))
        if read is None or not self._is_fresh(org, read):
            version = self._version(org)
            facts = billing.money_facts(SingleStatement(org), model)
            read = _Read(time.monotonic(), version, facts)
            _keep(self._models, (org, model), read)
            _keep(self._budgets, org, _Read(time.monotonic(), version, facts.has_budgets))
        found: MoneyFacts = read.found
        return found

    def _version(self, org: UUID) -> str | None:
        """Seen last. It is taken before something is read: what is read may be newer than it says, never older."""
        return self._versions.get(org, (0.0, None))[1]

    def _is_fresh(self, org: UUID, read: _Read) -> bool:
        """Whether the organisation's row is the same as then, and that was seen, or this read, in the last 5 s."""
        seen_at, version = self._versions.get(org, (float("-inf"), None))
        return read.version == version and time.monotonic() - max(read.at, seen_at) <= _FRESH

    def price(self, ask: LazyConnection, item: PriceItem) -> int:
        """What an item costs, in tokens."""
        known = self.known_price(item)
        if known is not None:
            return known
        prices = wallet.prices(ask())
        self._prices = (time.monotonic(), prices)
        return prices[item]

    def known_price(self, item: PriceItem) -> int | None:
        """The same where it is known without asking."""
        read_at, prices = self._prices
        return prices[item] if prices and time.monotonic() - read_at <= _FRESH else None

    def first_hold(self) -> int:
        """How many tokens are held for a task with its first claim, so that its first call need not ask for them: none
        where what a call costs is not known just now.
        """
        return wallet.hold_for(self.known_price("internal_llm_call") or 0)

    def has_budgets(self, ask: LazyConnection, org: UUID) -> bool:
        """Whether anything limits what an organisation is billed: likewise as of a claim, or 5 s ago."""
        read = self._budgets.get(org)
        if read is None or not self._is_fresh(org, read):
            version = self._version(org)
            read = _Read(time.monotonic(), version, billing.has_budgets(ask(), org))
            _keep(self._budgets, org, read)
        return bool(read.found)


def _keep(shelf: dict[K, V], key: K, value: V) -> None:
    if len(shelf) >= _MOST_KEPT:
        shelf.clear()
    shelf[key] = value
