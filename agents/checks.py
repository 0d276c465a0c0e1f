"""What must hold for an agent before it is stored: its tools exist, its models can be billed."""

from sqlalchemy import Connection

from agents.tools import ALL
from core.errors import InvalidInput
from domain.agents.schemas import AgentFields
from domain.agents.service import Check
from domain.billing import pricing
from domain.billing import service as billing
from domain.billing.routing import provider_of


def agent_check(connection: Connection) -> Check:
    """A check of agents against the tools there are and the prices known to the organisation."""

    def check(fields: AgentFields) -> None:
        if unknown := ALL.unknown(fields.tools):
            raise InvalidInput(
                f"There are no tools called {', '.join(unknown)}. The tools here: {', '.join(ALL.names())}."
            )
        for model in filter(None, (fields.model, fields.fallback_model)):
            own = billing.own_price(connection, model)
            pricing.ensure_priced(provider=provider_of(model, own), model=model, own=own)

    return check
