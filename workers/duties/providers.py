"""Model providers that need a person."""

from core.db import system_transaction
from core.logging import get_logger
from domain.channels import service as channels
from domain.channels.schemas import Notice
from domain.pacing import service as pacing
from domain.tenants import service as tenants

log = get_logger(__name__)


def watch_providers() -> None:
    """Tell operators of providers whose quota is exhausted or that reject the key: once, until they work again."""
    with system_transaction() as connection:
        found = pacing.take_untold(connection)
        people = tenants.operators(connection) if found else {}
        for alert in found:
            log.error("provider needs a person", provider=alert.provider, kind=alert.kind, said=alert.message)
            notice = Notice(
                kind=f"provider.{alert.kind}",
                title=alert.what,
                body=f"{alert.message}\n{alert.cure}",
                data={"provider": alert.provider, "since": alert.since.isoformat()},
            )
            for org, operators in people.items():
                channels.tell(connection, org, operators, notice)
