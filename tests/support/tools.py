"""Tools used without an agent: each in a transaction of its own, as its step would be."""

from typing import Any
from uuid import UUID

from agents.tools import TOOLS
from agents.tools.registry import Acting, ToolContext
from business.tools.booking import BOOKING_TOOLS
from business.tools.clients import CLIENT_TOOLS
from business.tools.leads import LEAD_TOOLS
from business.tools.payments import PAYMENT_TOOLS
from business.tools.schedule import SCHEDULE_TOOLS
from core import db
from core.ids import new_id
from tests.support.factories import NOW, ZONE, owner_of

TODAY = NOW.date()
FRONT_DESK = [*CLIENT_TOOLS, *LEAD_TOOLS, *SCHEDULE_TOOLS, *PAYMENT_TOOLS, *BOOKING_TOOLS]
"""what the rehearsal model is good at"""


def use(org: UUID, name: str, /, **arguments: Any) -> dict[str, Any]:
    """What the tool called `name` returns."""
    tool = TOOLS.get(name)
    assert tool is not None
    acting = Acting(org_id=org, user_id=owner_of(org), agent="support-assistant", task_id=new_id(), seq=1)
    with db.transaction(org) as connection:
        context = ToolContext(connection=connection, zone=ZONE, today=TODAY, acting=acting)
        return tool.run(context, tool.validate(arguments))
