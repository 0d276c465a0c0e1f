"""What must hold for an agent before it is stored: its tools exist, its models can be billed."""

from sqlalchemy import Connection

from agents.tools import TOOLS
from core.errors import InvalidInput
from core.model_providers import COMPATIBLE, ProviderName
from core.settings import settings
from domain.agents import service as agents
from domain.agents.schemas import AgentFields
from domain.agents.service import Check
from domain.billing import pricing
from domain.billing import service as billing
from domain.billing.routing import provider_of
from domain.providers import service as providers


def ensure_billable(connection: Connection, model: str) -> None:
    """Refuse a model whose calls could not be billed. On a server of one's own, any model is accepted.

    Raises:
        InvalidInput: no price of the model is known.
    """
    own = billing.own_price(connection, model)
    provider = provider_of(model, own)
    if providers.endpoint(connection, model) is None:
        may_be_unpriced = settings().serves_itself(provider)
        pricing.ensure_priced(provider=provider, model=model, own=own, may_be_unpriced=may_be_unpriced)


def unserved_models(connection: Connection) -> set[str]:
    """Return the agents' models for which this organisation has no provider with a known price."""

    def is_unserved(model: str) -> bool:
        try:
            ensure_billable(connection, model)
        except InvalidInput:
            return True
        return False

    return set(filter(is_unserved, _models(connection)))


def models_at(connection: Connection, provider: ProviderName) -> list[str]:
    """The models of agents whose calls go to a provider of the settings."""
    served = [model for model in _models(connection) if providers.endpoint(connection, model) is None]
    return [model for model in served if provider_of(model, billing.own_price(connection, model)) == provider]


def _models(connection: Connection) -> list[str]:
    """The models that agents name."""
    found = agents.list_agents(connection)
    return sorted({model for agent in found for model in (agent.model, agent.fallback_model) if model})


def has_price(connection: Connection, model: str) -> bool:
    """Whether anybody knows a price for a model."""
    own, served = billing.own_price(connection, model), providers.endpoint(connection, model)
    provider = COMPATIBLE if served else provider_of(model, own)
    return pricing.is_priced(provider=provider, model=served.model if served else model, own=own)


def agent_check(connection: Connection) -> Check:
    """A check of agents against the tools there are and the prices known to the organisation."""

    def check(fields: AgentFields) -> None:
        if unknown := TOOLS.unknown(fields.tools):
            raise InvalidInput(
                f"There are no tools called {', '.join(unknown)}. The tools here: {', '.join(TOOLS.names())}."
            )
        for model in filter(None, (fields.model, fields.fallback_model)):
            ensure_billable(connection, model)

    return check
