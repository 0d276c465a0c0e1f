"""Which addresses a customer's name may lead to: none of IANA's special-purpose blocks, however it is written."""

import ipaddress
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import NameUnknown, checked_address, is_allowed, is_within, look_up_in_time, subscriber
from core.errors import InvalidInput, Unavailable

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


special_ipv4 = st.sampled_from([block for block in SPECIAL if "." in block]).flatmap(
    lambda block: st.ip_addresses(v=4, network=block)
)
wrappings = st.sampled_from(["::ffff:0:0", "::", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::"])


@given(special_ipv4, wrappings)
def test_allowing_a_block_that_carries_others_allows_no_special_address_in_it(
    inner: ipaddress.IPv4Address, wrapping: str
) -> None:
    carried = ipaddress.IPv6Address(int(ipaddress.IPv6Address(wrapping)) | int(inner))
    everything = [ipaddress.ip_network("::/0")]
    if int(carried) != 1:  # ::1 is the loopback address, and carries nothing
        assert not is_allowed(str(carried), everything)
    assert not is_allowed(str(ipaddress.IPv6Address(0x2002 << 112 | int(inner) << 80 | 1)), everything)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fd00::1", True), ("11.1.2.3", False), ("::10.1.2.3", False),
        ("fe80::1", False), ("10.1.2.3:80", False), ("proxy.example.com", False), ("", False), ("unix:", False),
    ],
)  # fmt: skip
def test_only_an_address_lies_within_a_network(host: str, expected: bool) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    assert is_within(host, networks) is expected
    assert not is_within(host, [])


# ── looking names up ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("within", [None, 20])
def test_an_address_is_checked_and_kept_with_its_name_and_port(within: float | None) -> None:
    found = checked_address("127.0.0.1", 25, ["127.0.0.0/8"], within=within)
    assert (found.host, found.ip, found.port) == ("127.0.0.1", "127.0.0.1", 25)
    for networks in ([], ["10.0.0.0/8"], ["::/0"]):
        with pytest.raises(InvalidInput, match=r"127\.0\.0\.1 does not lead to a public address"):
            checked_address("127.0.0.1", 25, networks, within=within)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "::ffff:127.0.0.1", "0"])
def test_the_machine_itself_is_not_reached_in_any_notation(host: str) -> None:
    with pytest.raises((InvalidInput, Unavailable)):
        checked_address(host, 80)


@pytest.mark.parametrize("within", [None, 20])
@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a..example", "\udcff.example"])
def test_what_is_no_name_does_not_resolve(host: str, within: float | None) -> None:
    with pytest.raises(Unavailable, match="does not resolve"):
        checked_address(host, 80, within=within)


def test_the_connection_is_made_to_the_address_that_was_checked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = checked_address("127.0.0.1", server.getsockname()[1], ["127.0.0.0/8"])
        with found.connect(10) as made:
            assert made.getpeername() == server.getsockname()


def test_name_servers_that_do_not_answer_are_waited_for_no_longer_than_said() -> None:
    answered = threading.Event()

    def look_up() -> list[str]:
        answered.wait(60)
        return ["203.0.113.1"]

    try:
        with pytest.raises(Unavailable, match=r"The name servers of slow\.example did not answer within 0 s"):
            look_up_in_time(look_up, "slow.example", 0.01)
    finally:
        answered.set()


def test_what_a_look_up_finds_or_raises_is_the_callers() -> None:
    def unknown() -> list[str]:
        raise NameUnknown("The name x.example does not resolve.")

    assert look_up_in_time(lambda: ["203.0.113.1", "203.0.113.2"], "x.example", 20) == ["203.0.113.1", "203.0.113.2"]
    with pytest.raises(NameUnknown):
        look_up_in_time(unknown, "x.example", 20)


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
