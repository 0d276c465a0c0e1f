"""Who is calling behind a proxy, and under which names this server answers."""

import asyncio
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.edge import AnswerHead, JsonBodies, KnownHosts, TrustProxies, caller_address, is_known_host
from core.addresses import is_within

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


addresses = st.sampled_from(["10.0.0.1", "10.2.2.2", "fd00::1", "198.51.100.7", "203.0.113.5", "2a00:1::1"])
entries = st.lists(addresses | st.text(max_size=8), max_size=6)


@given(addresses, entries, entries)
def test_what_a_caller_writes_before_its_own_address_changes_nothing(
    peer: str, forged: list[str], vouched: list[str]
) -> None:
    told = [*vouched, "203.0.113.5", "10.1.1.1"]
    found = caller_address(peer, [", ".join([*forged, *told])], PROXIES)
    assert found == caller_address(peer, [", ".join(told)], PROXIES)
    assert found in {peer, "203.0.113.5"}
    if found != peer:
        assert is_within(peer, PROXIES)


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


@pytest.mark.parametrize("header", [".fit.example", "*.fit.example.evil", "fit.example.", "a.fit.example.evil:80"])
def test_a_pattern_covers_names_below_it_only(header: str) -> None:
    assert not is_known_host(header, ["*.fit.example"])


# ── middleware ───────────────────────────────────────────────────────────────────────────────────────────────────────


class App:
    """Remembers the request, and answers in two pieces."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = dict(scope)
        scope["route"] = "the route"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"do", "more_body": True})
        await send({"type": "http.response.body", "body": b"ne"})


def ask(made: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that the middleware sends."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(made(scope, receive, send))
    return sent


def request(method: str = "GET", path: str = "/v1/tasks", **headers: str | list[str]) -> dict[str, Any]:
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    return {
        "type": "http", "method": method, "path": path, "headers": pairs, "client": ("10.0.0.1", 5), "scheme": "http",
        "query_string": b"",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("peer", "told", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", " HTTPS ", "https"),
        ("10.0.0.1", "http, https", "https"),  # the proxy that is nearest to us appended the last one
        ("10.0.0.1", "https,http", "http"),
        ("10.0.0.1", ["https", "http"], "http"),
        ("10.0.0.1", "javascript", "http"),
        ("10.0.0.1", "", "http"),
        ("203.0.113.9", "https", "http"),
    ],
)
def test_the_scheme_is_what_a_trusted_proxy_says(peer: str, told: str | list[str], scheme: str) -> None:
    app = App()
    ask(TrustProxies(app, PROXIES), request(x_forwarded_proto=told) | {"client": (peer, 5)})
    assert app.scope is not None
    assert (app.scope["scheme"], app.scope["client"]) == (scheme, (peer, 5))


def test_the_caller_behind_a_proxy_replaces_the_proxy() -> None:
    app = App()
    ask(TrustProxies(app, PROXIES), request(x_forwarded_for=["1.1.1.1", "203.0.113.5"]))
    assert (app.scope or {})["client"] == ("203.0.113.5", 0)
    ask(TrustProxies(app, []), request(x_forwarded_for="203.0.113.5"))
    assert (app.scope or {})["client"] == ("10.0.0.1", 5)
    ask(TrustProxies(app, PROXIES), request(x_forwarded_for="203.0.113.5") | {"client": None})  # a local socket
    assert (app.scope or {})["client"] is None


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        (["rota.example.com"], "/v1/tasks", 200),
        (["evil.example"], "/v1/tasks", 421),
        ([], "/v1/tasks", 421),
        (["rota.example.com", "evil.example"], "/v1/tasks", 421),  # servers differ in which one counts
        (["rota.example.com", "rota.example.com"], "/", 421),
        (["10.0.0.9"], "/health", 200),
        (["10.0.0.9"], "/health/ready", 200),
        (["10.0.0.9"], "/metrics", 421),
    ],
)
def test_a_request_names_one_host_that_is_allowed(host: list[str], path: str, status: int) -> None:
    app = App()
    sent = ask(KnownHosts(app, ["rota.example.com"]), request(path=path, host=host))
    assert sent[0]["status"] == status
    assert (app.scope is None) is (status == 421)


@pytest.mark.parametrize(
    ("method", "path", "headers", "refused"),
    [
        ("POST", "/v1/tasks", {"content_length": "3"}, "Content-Type: application/json"),
        ("DELETE", "/v1/tasks", {"content_length": "3", "content_type": "text/csv"}, "Content-Type"),
        ("PATCH", "/v1/x", {"transfer_encoding": "chunked"}, "Content-Type"),
        ("PUT", "/v1/x", {"content_length": "3", "content_type": "application/+json"}, None),
        ("POST", "/v1/x", {"content_length": "3", "content_type": "text/x+json"}, "Content-Type"),
        ("POST", "/v1/x", {"content_length": "3", "content_type": "application/json",
                           "content_encoding": "br"}, "without Content-Encoding"),
        ("POST", "/v1/x", {"content_length": "3", "content_type": "application/json",
                           "content_encoding": " Identity "}, None),
        ("POST", "/v1/x", {"content_length": "0", "content_type": "text/csv"}, None),
        ("POST", "/v1/x", {}, None),
        ("GET", "/v1/x", {"content_length": "3"}, None),
        ("POST", "/docs", {"content_length": "3"}, None),
    ],
)  # fmt: skip
def test_a_body_of_another_kind_reaches_no_route(
    method: str, path: str, headers: dict[str, str], refused: str | None
) -> None:
    app = App()
    sent = ask(JsonBodies(app), request(method, path, **headers))
    if refused is None:
        assert (sent[0]["status"], app.scope is None) == (200, False)
    else:
        assert (sent[0]["status"], app.scope) == (415, None)
        assert refused in json.loads(sent[1]["body"])["detail"]


def test_head_gets_the_headers_of_get_and_an_empty_body_at_once() -> None:
    app, scope = App(), request("HEAD")
    start, body = ask(AnswerHead(app), scope)
    assert (app.scope or {})["method"] == "GET"
    assert (start["status"], start["headers"]) == (200, [(b"content-length", b"4")])
    assert (body["body"], body.get("more_body", False)) == (b"", False)
    assert (scope["method"], scope["route"]) == ("HEAD", "the route")  # the metrics read them afterwards


def test_other_methods_are_answered_whole() -> None:
    sent = ask(AnswerHead(App()), request("GET"))
    assert b"".join(message.get("body", b"") for message in sent) == b"done"
