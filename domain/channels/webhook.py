"""Signed webhooks (Standard Webhooks 1.0), and text messages through a gateway that takes such webhooks.

Safe towards our own network: the name is resolved once, every address must be public, the connection goes to the
address that was looked at, redirects are not followed, and both size and time of the answer are capped.
"""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from core.addresses import Address, checked_address
from core.errors import InvalidInput, Unavailable
from core.vault import Vault
from domain.channels.schemas import Outgoing
from domain.channels.senders import NotSent, Undeliverable, capped

_TIMEOUT = 5.0
_WHOLE_TIME = 15.0
_MOST_BYTES = 64_000
_PASSING = {408, 409, 425, 429}
_FIRST_REDIRECT, _FIRST_REFUSAL, _FIRST_FAULT = 300, 400, 500


class WebhookSender:
    """Posts a signed event. Its `webhook-id` is the same at every attempt: the other side knows a repetition."""

    repeat_is_harmless = True

    def __init__(self, vault: Vault, private_networks: Sequence[str]) -> None:
        self._vault = vault
        self._private_networks = private_networks

    def send(self, message: Outgoing) -> None:
        """Carry `message` (see `Sender`)."""
        url = message.url or (message.settings or {}).get("url")
        if not url or message.secret is None:
            raise Undeliverable(f"This organisation has no {message.channel} channel, or the webhook is gone.")
        body = message.body if message.channel == "webhook" else _as_event(message)
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "rota-webhooks",
            "webhook-id": str(message.id),
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self._vault.open(message.secret)).sign(str(message.id), now, body),
        }
        status = self._post(url, body.encode(), headers)
        if status >= _FIRST_FAULT or status in _PASSING:
            raise NotSent(f"It answered {status}.")
        if status >= _FIRST_REDIRECT:
            said = "It answered with a redirect, which is not followed." if status < _FIRST_REFUSAL else ""
            raise Undeliverable(said or f"It answered {status}.")

    def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        parts = urlsplit(url)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            address = checked_address(parts.hostname or "", port, self._private_networks)
        except (InvalidInput, ValueError) as error:
            raise Undeliverable(str(error)) from error
        except Unavailable as error:
            raise NotSent(error.message) from error
        connection = _CheckedConnection(address, is_tls=parts.scheme == "https")
        target = parts.path or "/"
        target += f"?{parts.query}" if parts.query else ""
        try:
            with capped(connection, _WHOLE_TIME), contextlib.closing(connection):
                connection.request("POST", target, body, headers | {"host": parts.netloc})
                answer = connection.getresponse()
                answer.read(_MOST_BYTES)
                return answer.status
        except (OSError, http.client.HTTPException) as error:
            raise NotSent(f"It cannot be reached: {type(error).__name__}") from error


def _as_event(message: Outgoing) -> str:
    data = {"id": str(message.id), "to": message.recipient, "text": message.body}
    return json.dumps({"type": f"message.{message.channel}", "data": data}, ensure_ascii=False)


class _CheckedConnection(http.client.HTTPConnection):
    """HTTP to the address that was checked, under the name that certificates are issued for."""

    def __init__(self, address: Address, *, is_tls: bool) -> None:
        super().__init__(address.host, address.port, timeout=_TIMEOUT)
        self._address = address
        self._is_tls = is_tls

    def connect(self) -> None:
        plain = self._address.connect(_TIMEOUT)
        self.sock: socket.socket = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=self._address.host)
            if self._is_tls
            else plain
        )
