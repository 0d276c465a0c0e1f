"""Whether messages to an address could ever arrive, looked up before the address is accepted."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from core.addresses import NameUnknown, checked_address
from core.errors import InvalidInput, Unavailable
from domain.channels.webhook import port_of

Check = Callable[[str, int], object]
"""resolves and checks a host, as `checked_address` does"""

_PATIENCE = 2.0  # seconds for each name
# Names that public name servers never resolve (RFC 2606, 6761, 6762, 7686, 8375; `internal` by ICANN's decision).
_NEVER_PUBLIC = {"invalid", "test", "example", "localhost", "local", "onion", "internal", "arpa"}
# A name that every machine with public name servers resolves. Without these, a name that is not found says nothing.
_ALWAYS_THERE = "a.root-servers.net"


def ensure_url_is_deliverable(url: str, private_networks: Sequence[str]) -> None:
    """Refuse a URL to which nothing could be posted.

    Raises:
        InvalidInput: saying why.
    """
    ensure_host_is_deliverable(urlsplit(url).hostname or "", port_of(url), private_networks)


def ensure_host_is_deliverable(host: str, port: int, private_networks: Sequence[str]) -> None:
    """Refuse a host that no connection may or can be made to.

    Raises:
        InvalidInput: saying why.
    """
    judge(host, port, lambda name, at: checked_address(name, at, private_networks, within=_PATIENCE))


def judge(host: str, port: int, check: Check) -> None:
    """Refuse `host` for what `check` finds. A name that cannot be looked up just now is accepted.

    Raises:
        InvalidInput: it leads into a network that is not public, or does not resolve while other names do.
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
