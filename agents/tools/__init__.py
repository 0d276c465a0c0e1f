"""What agents can do, one file a family. `ALL` is the registry: an explicit list, and what `ROTA_TOOLS` names."""

from agents.tools.analytics import ANALYTICS_TOOLS
from agents.tools.booking import BOOKING_TOOLS
from agents.tools.clients import CLIENT_TOOLS
from agents.tools.coordination import COORDINATION_TOOLS
from agents.tools.followups import FOLLOW_UP_TOOLS
from agents.tools.leads import LEAD_TOOLS
from agents.tools.messaging import MESSAGING_TOOLS
from agents.tools.office import OFFICE_TOOLS
from agents.tools.payments import PAYMENT_TOOLS
from agents.tools.registry import Registry, load_tools
from agents.tools.resources import RESOURCE_TOOLS
from agents.tools.schedule import SCHEDULE_TOOLS
from core.settings import settings

ALL = Registry(
    [
        *CLIENT_TOOLS,
        *LEAD_TOOLS,
        *SCHEDULE_TOOLS,
        *PAYMENT_TOOLS,
        *BOOKING_TOOLS,
        *ANALYTICS_TOOLS,
        *OFFICE_TOOLS,
        *RESOURCE_TOOLS,
        *MESSAGING_TOOLS,
        *FOLLOW_UP_TOOLS,
        *COORDINATION_TOOLS,
    ],
    more=lambda: load_tools(settings().tools),
)
