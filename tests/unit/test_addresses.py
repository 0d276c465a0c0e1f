"""Which addresses a customer's name may lead to: none of IANA's special-purpose blocks, however it is written."""

import ipaddress

import pytest

from core.addresses import checked_address, is_allowed, subscriber
from core.errors import InvalidInput

# IANA IPv4 and IPv6 Special-Purpose Address Registries, every row (November 2026), and multicast.
SPECIAL = """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    240.0.0.0/4 255.255.255.255/32 224.0.0.0/4
    ::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128
    2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28
    2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 ff00::/8
""".split()  # noqa: SIM905  a table, as IANA prints it
# The inner address is public: the block is refused all the same.
DRESSED = [
    "::ffff:8.8.8.8", "::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::808:808", "2002:808:808::1",
    "2001:0:808:808::1",
]  # fmt: skip
CLOUDS = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"]
UNALLOCATED = ["fec0::1", "4000::1", "200::1", "::2"]


@pytest.mark.parametrize("block", SPECIAL)
def test_no_address_of_a_special_block_is_allowed(block: str) -> None:
    network = ipaddress.ip_network(block)
    for ip in (network[0], network[network.num_addresses // 2], network[-1]):
        assert not is_allowed(str(ip)), ip
        with pytest.raises(InvalidInput):
            checked_address(str(ip), 80)


@pytest.mark.parametrize("ip", [*DRESSED, *CLOUDS, *UNALLOCATED, "fe80::1%1"])
def test_no_address_leads_inside_in_another_dress(ip: str) -> None:
    assert not is_allowed(ip)


@pytest.mark.parametrize(
    "ip",
    ["1.1.1.1", "9.255.255.255", "11.0.0.0", "192.88.98.255", "192.88.100.0", "198.17.255.255", "223.255.255.255",
     "2606:4700::1111", "2001:200::1", "2a00:1450:4003::1", "3ffe:ffff::1", "2003::1"],
)  # fmt: skip
def test_the_neighbours_of_special_blocks_are_public(ip: str) -> None:
    assert is_allowed(ip)


@pytest.mark.parametrize(
    ("ip", "networks", "expected"),
    [
        ("10.1.2.3", ["10.1.0.0/16"], True),
        ("10.2.2.3", ["10.1.0.0/16"], False),
        ("fd00::7", ["fd00::/8"], True),
        ("::1", ["::1/128"], True),
        # Behind NAT64 the operator allows the block; what lies behind it is still looked at.
        ("64:ff9b::8.8.8.8", ["64:ff9b::/96"], True),
        ("64:ff9b::10.1.2.3", ["64:ff9b::/96"], False),
        ("64:ff9b::10.1.2.3", ["64:ff9b::/96", "10.1.0.0/16"], True),
        ("2002:a01:203::1", ["2002::/16"], False),
        ("2002:808:808::1", ["2002::/16"], True),
        ("2001:0:808:808::f5ff:fefe", ["2001::/32"], False),  # Teredo's client, 10.1.1.1
        ("::ffff:10.1.2.3", ["10.1.0.0/16"], False),
    ],
)
def test_an_operator_may_allow_networks(ip: str, networks: list[str], expected: bool) -> None:
    assert is_allowed(ip, [ipaddress.ip_network(network) for network in networks]) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2a00:1:2:3::1", "2a00:1:2:3::/64"),
        ("2a00:1:2:3:4:5:6:7", "2a00:1:2:3::/64"),
        ("2a00::1", "2a00::/64"),
        ("2a00::1:0:0:2", "2a00::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_a_callers_network_is_counted_as_one(host: str, expected: str) -> None:
    assert subscriber(host) == expected
