"""Who is calling behind a proxy, and under which names this server answers."""

import ipaddress

import pytest

from api.edge import caller_address, is_known_host

PROXIES = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8", "198.51.100.7")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.5", ["1.1.1.1"], "203.0.113.5"),  # not a proxy of ours: anybody can write a header
        ("127.0.0.1", ["1.1.1.1"], "127.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.5"], "203.0.113.5"),  # the caller wrote the first one
        ("10.0.0.1", ["1.1.1.1", "203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.7, 10.9.9.9"], "203.0.113.5"),
        ("10.0.0.1", ["10.2.2.2"], "10.2.2.2"),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("fd00::1", ["[2a00:1::1]:443"], "2a00:1::1"),
        ("10.0.0.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("10.0.0.1", ["2A00:1:0::1"], "2a00:1::1"),
        ("10.0.0.1", ["203.0.113.5, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5, "], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        ("testclient", ["203.0.113.5"], "testclient"),
    ],
)
def test_only_named_proxies_say_who_is_calling(peer: str, forwarded: list[str], expected: str) -> None:
    assert caller_address(peer, forwarded, PROXIES) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("rota.example.com", True), ("ROTA.example.com", True), ("rota.example.com:8080", True),
        ("rota.example.com.", True), ("a.fit.example", True), ("a.b.fit.example:1", True), ("[::1]:8080", True),
        ("fit.example", False), ("xfit.example", False), ("evil.example", False), ("", False), ("[::2]", False),
        ("rota.example.com.evil.example", False), ("evil.example#rota.example.com", False),
        ("rota.example.com@evil.example", False),
    ],
)  # fmt: skip
def test_a_server_answers_to_its_names(header: str, expected: bool) -> None:
    assert is_known_host(header, ["Rota.example.com", "*.fit.example", "[::1]"]) is expected
