"""Check addresses before connecting to them: a host name from a tenant must not reach the network that Rota runs in.

A name is resolved once, all its addresses are checked, and the connection is made to an address that was checked. A
name that resolves to another address a moment later (DNS rebinding) therefore gains nothing.
"""

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import InvalidInput, Unavailable

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Every block of IANA's special-purpose address registries (RFC 6890), including the globally reachable ones: no
# customer's server has an address in them. `ipaddress.is_global` knows some of them; which depends on Python's version.
_SPECIAL_IPV4 = """
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24 240.0.0.0/4 255.255.255.255/32
"""
_SPECIAL_IPV6 = """
    ::/128 ::1/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:db8::/32 2002::/16
    2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10
"""
# Multicast, and the address at which Azure serves its own virtual machines, which is otherwise public.
_FURTHER = "224.0.0.0/4 168.63.129.16/32 ff00::/8"
_REFUSED: list[Network] = [
    ipaddress.ip_network(block) for block in f"{_SPECIAL_IPV4} {_SPECIAL_IPV6} {_FURTHER}".split()
]
# IANA assigns public addresses from this block only; the rest of IPv6, including ::a.b.c.d and site-local addresses,
# is not public.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")

# Blocks that embed an IPv4 address in their last 32 bits: mapped, compatible, translated (RFC 2765), NAT64.
_CARRIERS = [
    ipaddress.IPv6Network(block)
    for block in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]


@dataclass(frozen=True)
class Address:
    """A host that may be connected to, with the address that was checked."""

    host: str
    ip: str
    port: int

    def connect(self, timeout: float | None) -> socket.socket:
        """Connect to the checked address, without resolving the name again."""
        return socket.create_connection((self.ip, self.port), timeout)


class NameUnknown(Unavailable):
    """The name does not resolve: the servers that were asked say that there is none."""


def checked_address(
    host: str, port: int, private_networks: Sequence[str] = (), *, within: float | None = None
) -> Address:
    """Return the first address of `host`, if all its addresses are public or in one of `private_networks`. Its name
    servers have `within` seconds to answer; None means as long as the system's resolver waits.

    Raises:
        InvalidInput: an address is neither public nor in one of `private_networks`.
        Unavailable: the name does not resolve.
    """
    ips = _addresses(host, port) if within is None else look_up_in_time(lambda: _addresses(host, port), host, within)
    allowed = [ipaddress.ip_network(network) for network in private_networks]
    if not ips or any(not is_allowed(ip, allowed) for ip in ips):
        raise InvalidInput(f"{host} does not lead to a public address; it is refused. See private_networks.")
    return Address(host=host, ip=ips[0], port=port)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except socket.gaierror as error:
        kind = NameUnknown if error.errno == socket.EAI_NONAME else Unavailable
        raise kind(f"The name {host} does not resolve.") from error
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"The name {host} does not resolve.") from error
    return [str(entry[4][0]) for entry in found]


def look_up_in_time(look_up: Callable[[], list[str]], host: str, seconds: float) -> list[str]:
    """Return what `look_up` finds within `seconds`. The system's resolver cannot be interrupted, so `look_up` runs in a
    thread, which is abandoned after the time-out.
    """
    found: list[str] = []
    errors: list[Unavailable] = []

    def run() -> None:
        try:
            found.extend(look_up())
        except Unavailable as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Unavailable(f"The name servers of {host} did not answer within {seconds:.0f} s.")
    if errors:
        raise errors[0]
    return found


def is_allowed(text: str, private_networks: Sequence[Network] = ()) -> bool:
    """Whether an address is public or in one of `private_networks`.

    An IPv6 address that embeds an IPv4 address leads to the IPv4 address, so both must be allowed. A network behind
    NAT64 therefore lists `64:ff9b::/96` as private, and the embedded IPv4 addresses are still checked.
    """
    ip = ipaddress.ip_address(text.partition("%")[0])
    if any(ip.version == network.version and ip in network for network in private_networks):
        inner = _carried(ip)
        return inner is None or is_allowed(str(inner), private_networks)
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip.version == network.version and ip in network for network in _REFUSED)


def _carried(ip: Ip) -> ipaddress.IPv4Address | None:
    if isinstance(ip, ipaddress.IPv4Address) or ip == ipaddress.IPv6Address("::1"):
        return None
    if ip.teredo or ip.sixtofour:
        return ip.sixtofour or (ip.teredo and ip.teredo[1])
    is_carrier = any(ip in network for network in _CARRIERS)
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if is_carrier else None


def is_within(host: str, networks: Sequence[Network]) -> bool:
    """Whether `host` is an address in one of `networks`. An IPv4-mapped IPv6 address is compared as IPv4."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    ip = (isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped) or ip
    return any(ip.version == network.version and ip in network for network in networks)


def subscriber(host: str) -> str:
    """Return the key under which a caller's address is counted: the IPv4 address, or the /64 network of an IPv6
    address, since each IPv6 subscriber has a network of 2^64 addresses (RFC 6177).
    """
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a socket without addresses
        return host
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
