"""Check that a URL or host can be delivered to, before it is accepted."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from core.addresses import NameUnknown, checked_address
from core.errors import InvalidInput, Unavailable
from domain.channels.webhook import port_of

Check = Callable[[str, int], object]
"""resolves and checks a host and port, as `checked_address` does"""

_PATIENCE = 2.0  # seconds per name
# Domains that public name servers never resolve (RFC 2606, 6761, 6762, 7686, 8375; `internal` by ICANN's decision).
_NEVER_PUBLIC = {"invalid", "test", "example", "localhost", "local", "onion", "internal", "arpa"}
# A name that every host with public name servers resolves. If it does not resolve, a failed look-up proves nothing.
_ALWAYS_THERE = "a.root-servers.net"


def ensure_url_is_deliverable(url: str, private_networks: Sequence[str]) -> None:
    """Refuse a URL that nothing could be posted to.

    Raises:
        InvalidInput: the message gives the reason.
    """
    ensure_host_is_deliverable(urlsplit(url).hostname or "", port_of(url), private_networks)


def ensure_host_is_deliverable(host: str, port: int, private_networks: Sequence[str]) -> None:
    """Refuse a host that connections are not allowed or not possible to.

    Raises:
        InvalidInput: the message gives the reason.
    """
    judge(host, port, lambda name, at: checked_address(name, at, private_networks, within=_PATIENCE))


def judge(host: str, port: int, check: Check) -> None:
    """Refuse `host` according to the result of `check`. A name that cannot be looked up at present is accepted.

    Raises:
        InvalidInput: the port is 0, the address is not public, or the name can never resolve or does not resolve while
            other names do.
    """
    if port == 0:
        raise InvalidInput("Nothing listens on port 0. Give the port of the server.")
    try:
        check(host, port)
    except Unavailable as error:
        if _is_never_public(host) or (isinstance(error, NameUnknown) and _resolves(_ALWAYS_THERE, check)):
            raise InvalidInput(
                f"The name {host} does not resolve, so nothing would arrive there. Check its spelling."
            ) from error


def _is_never_public(host: str) -> bool:
    labels = host.rstrip(".").lower().split(".")
    return len(labels) == 1 or labels[-1] in _NEVER_PUBLIC


def _resolves(name: str, check: Check) -> bool:
    try:
        check(name, 53)
    except (InvalidInput, Unavailable):
        return False
    return True
