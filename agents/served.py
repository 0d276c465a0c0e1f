"""Who serves a model to a task's organisation, and what that costs."""

from dataclasses import dataclass
from decimal import Decimal

from agents.llm.models import Place
from agents.work import Work
from core.model_providers import COMPATIBLE, Media, ProviderName, media_of
from domain.billing import pricing
from domain.billing.routing import provider_of
from domain.billing.schemas import Cost, Price, Tokens


@dataclass(frozen=True)
class Served:
    """A model as it is served to an organisation."""

    model: str
    """what agents and prices call it"""
    name_there: str
    """what the endpoint calls it"""
    place: Place
    name: str
    """of the provider or endpoint, for the journal, usage and errors"""
    label: str
    """the same for limits and holds, which span organisations: `organisation/name` for an endpoint of their own"""
    wire: ProviderName
    own: Price | None
    """the organisation's own price"""
    may_be_unpriced: bool
    markup: Decimal

    def ensure_priced(self) -> None:
        """Raises InvalidInput: no price of the model is known, and it is not on a server of the organisation."""
        pricing.ensure_priced(
            provider=self.wire, model=self.name_there, own=self.own, may_be_unpriced=self.may_be_unpriced
        )

    def window(self) -> int | None:
        """Tokens that it can take in, where that is known."""
        known = self.own.context_window if self.own else None
        return known or pricing.context_window(self.wire, self.name_there)

    def media(self) -> Media:
        """What it reads beside text."""
        return media_of(self.model)

    def cost(self, tokens: Tokens) -> Cost:
        """What a call that used `tokens` costs."""
        return pricing.cost_of(
            tokens,
            provider=self.wire,
            model=self.name_there,
            own=self.own,
            markup=self.markup,
            may_be_unpriced=self.may_be_unpriced,
        )


def serving(work: Work, model: str) -> Served:
    """Who serves `model` to the task's organisation: its own endpoint, the installation's, or a provider."""
    org, reference = work.task.org_id, work.workplace.reference
    own, endpoint = reference.own_price(org, model), reference.endpoint(org, model)
    wire: ProviderName = COMPATIBLE if endpoint else provider_of(model, own)
    name = endpoint.name if endpoint else wire
    return Served(
        model=model,
        name_there=endpoint.model if endpoint else model,
        place=endpoint or wire,
        name=name,
        label=f"{work.organisation.slug}/{name}" if endpoint and endpoint.is_own else name,
        wire=wire,
        own=own,
        may_be_unpriced=endpoint is not None or work.workplace.models.serves_itself(wire),
        markup=work.organisation.markup,
    )
