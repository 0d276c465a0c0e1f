"""Where a connection may lead: a name from a tenant must not open a door into the network that Rota runs in.

A name is resolved once, every address it has is looked at, and the connection is made to the very address that was
looked at; a name that resolves to something else a moment later (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import InvalidInput, Unavailable


@dataclass(frozen=True)
class Address:
    """A host that may be connected to, at the address that was looked at."""

    host: str
    ip: str
    port: int

    def connect(self, timeout: float) -> socket.socket:
        """A connection to that very address."""
        return socket.create_connection((self.ip, self.port), timeout)


def checked_address(host: str, port: int, private_networks: Sequence[str] = ()) -> Address:
    """The first address of `host`, if all it has are public or in one of `private_networks`.

    Raises:
        InvalidInput: one of them is not.
        Unavailable: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"The name {host} does not resolve.") from error
    ips = [str(entry[4][0]) for entry in found]
    allowed = [ipaddress.ip_network(network) for network in private_networks]
    if not ips or any(not _is_allowed(ip, allowed) for ip in ips):
        raise InvalidInput(f"{host} does not lead to a public address; it is refused. See private_networks.")
    return Address(host=host, ip=ips[0], port=port)


def _is_allowed(text: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    if any(ip.version == network.version and ip in network for network in networks):
        return True
    # An IPv4 address in IPv6's clothing leads where the IPv4 address leads.
    inner = _inner(ip) if isinstance(ip, ipaddress.IPv6Address) else None
    if inner is not None:
        return _is_allowed(str(inner), networks)
    return (
        ip.is_global
        and not ip.is_multicast
        and not any(ip in network for network in _REFUSED if ip.version == network.version)
    )


# What counts as global and is not: translated and site-local addresses, protocol assignments, a cloud's own services.
_REFUSED = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24", "168.63.129.16/32", "fec0::/10", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "2001::/23",
    )
]  # fmt: skip


def _inner(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip.ipv4_mapped or ip.sixtofour:
        return ip.ipv4_mapped or ip.sixtofour
    if ip.teredo:
        return ip.teredo[1]
    nat64 = ipaddress.ip_network("64:ff9b::/96")
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in nat64 else None
