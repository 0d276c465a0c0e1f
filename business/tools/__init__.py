"""The tools of a gym, one file per family."""

from agents.tools.registry import Tool
from business.tools.analytics import ANALYTICS_TOOLS
from business.tools.booking import BOOKING_TOOLS
from business.tools.clients import CLIENT_TOOLS
from business.tools.leads import LEAD_TOOLS
from business.tools.messaging import CLIENT_MESSAGE_TOOLS
from business.tools.office import OFFICE_TOOLS
from business.tools.payments import PAYMENT_TOOLS
from business.tools.schedule import SCHEDULE_TOOLS

TOOLS: list[Tool] = [
    *CLIENT_TOOLS,
    *LEAD_TOOLS,
    *SCHEDULE_TOOLS,
    *PAYMENT_TOOLS,
    *BOOKING_TOOLS,
    *ANALYTICS_TOOLS,
    *OFFICE_TOOLS,
    *CLIENT_MESSAGE_TOOLS,
]
