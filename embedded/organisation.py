"""Set-up of an organisation: its row, an API key, the ready-made agents, and optionally demonstration records."""

import re
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from agents.catalogue import load_catalogue
from agents.checks import agent_check
from core.db import system_transaction, transaction
from core.errors import InvalidInput
from core.packs import installed
from core.settings import settings
from domain.agents import service as agents
from domain.dispatch import service as dispatch
from domain.tenants import keys
from domain.tenants import service as tenants
from domain.tenants.permissions import GOVERN
from domain.wallet import service as wallet
from domain.wallet.schemas import TopUp


def set_up_organisation(
    *,
    slug: str,
    name: str,
    time_zone: str,
    with_demonstration: bool,
    kept_key: str = "",
    starts_per_minute: int | None = None,
    owner_email: str | None = None,
    is_operator: bool = False,
    is_prepaid: bool | None = None,
    welcome_tokens: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> str:
    """Create what is missing, and return an API key: `kept_key` if it is still valid, otherwise a new one.

    The key belongs to the user `owner_email`, who becomes an owner of the organisation unless a user with that address
    exists; an operator may govern the installation. `starts_per_minute` replaces a rate that is still the default.
    `is_prepaid` sets whether the organisation buys tokens; None leaves it unchanged, which for a new one means no.
    """
    pepper = settings().pepper
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", slug):
        raise InvalidInput(f"{slug!r} is no slug: use small letters, digits and hyphens, such as atlas-fitness.")
    with system_transaction() as connection:
        organisation = tenants.ensure_organisation(connection, slug=slug, name=name, time_zone=time_zone)
        if starts_per_minute is not None and dispatch.has_default_rate(connection, organisation.id):
            dispatch.set_organisation_limits(connection, organisation.id, {"starts_per_minute": starts_per_minute})
        if is_prepaid is not None:
            tenants.set_prepaid(connection, organisation.id, is_prepaid=is_prepaid)
        if welcome_tokens:
            gift = TopUp(tokens=welcome_tokens, note="to begin with")
            wallet.top_up(connection, organisation.id, gift, reference="welcome")
        owner = tenants.ensure_owner(
            connection, organisation.id, owner_email or f"owner@{slug}", is_operator=is_operator
        )
        key = kept_key
        if not keys.is_known_api_key(connection, kept_key, pepper=pepper):
            scopes = ["*", GOVERN] if owner.is_operator else ["*"]
            made = keys.create_api_key(
                connection, organisation.id, user_id=owner.id, name="set-up", pepper=pepper, scopes=scopes
            )
            key = str(made)
    with transaction(organisation.id) as connection:
        agents.seed_agents(connection, organisation.id, load_catalogue(), agent_check(connection))
        is_empty = not any(pack.has_records(connection) for pack in installed())
    if with_demonstration and is_empty:
        with system_transaction() as connection:  # before the records: it must be marked even if only half is written
            tenants.mark_demonstration(connection, organisation.id)
    if with_demonstration:
        with transaction(organisation.id) as connection:
            zone = ZoneInfo(time_zone)
            today = datetime.now(zone).date()
            for pack in installed():
                pack.seed_demonstration(connection, organisation.id, zone=zone, today=today, progress=progress)
    return key
