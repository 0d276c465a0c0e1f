"""The tools of agents: the platform's (one file per family), those of packs, and those named by `ROTA_TOOLS`."""

from agents.tools.coordination import COORDINATION_TOOLS
from agents.tools.followups import FOLLOW_UP_TOOLS
from agents.tools.messaging import MESSAGING_TOOLS
from agents.tools.registry import Registry, Tool, load_tools
from agents.tools.resources import RESOURCE_TOOLS
from core.packs import installed
from core.settings import settings

PLATFORM_TOOLS: list[Tool] = [*RESOURCE_TOOLS, *MESSAGING_TOOLS, *FOLLOW_UP_TOOLS, *COORDINATION_TOOLS]


def _added() -> list[Tool]:
    """Return the tools of packs and of `ROTA_TOOLS`."""
    return [tool for pack in installed() for tool in pack.tools()] + load_tools(settings().tools)


TOOLS = Registry(PLATFORM_TOOLS, more=_added)
