"""Making an organisation that can work at once: its row, a key, the ready-made agents, perhaps a demonstration gym."""

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from agents.catalog import load_catalogue
from agents.checks import agent_check
from core.db import system_transaction, transaction
from core.settings import settings
from domain.agents import service as agents
from domain.crm import service as crm
from domain.tenants import service as tenants


def set_up_organisation(
    *,
    slug: str,
    name: str,
    time_zone: str,
    with_demonstration: bool,
    kept_key: str = "",
    progress: Callable[[str], None] = lambda _: None,
) -> str:
    """Make what is missing, and return an API key: `kept_key` where it is still good, otherwise a new one."""
    zone = ZoneInfo(time_zone)
    pepper = settings().secret_key.get_secret_value()
    with system_transaction() as connection:
        organisation = tenants.ensure_organisation(connection, slug=slug, name=name, time_zone=time_zone)
        key = kept_key
        if not tenants.is_known_api_key(connection, kept_key, pepper=pepper):
            key = str(tenants.create_api_key(connection, organisation.id, name="set-up", pepper=pepper))
    with transaction(organisation.id) as connection:
        agents.seed_agents(connection, organisation.id, load_catalogue(), agent_check(connection))
        if with_demonstration:
            today = datetime.now(zone).date()
            crm.seed_demonstration(connection, organisation.id, zone=zone, today=today, progress=progress)
    return key
