"""Signed webhooks (Standard Webhooks 1.0), and text messages through a gateway that accepts such webhooks.

Protects our own network from server-side request forgery: the name is resolved once, every address must be public, the
connection goes to the address that was checked, redirects are not followed, and one deadline covers the whole exchange.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from core.addresses import Address, checked_address
from core.deadlines import Deadline
from core.errors import InvalidInput, Unavailable
from core.vault import Vault
from domain.channels.schemas import Outgoing
from domain.channels.senders import Gone, NotSent, ReceiverInTrouble, Undeliverable

_TIMEOUT = 5.0
_FIRST_REDIRECT, _FIRST_REFUSAL, _GONE, _FIRST_FAULT = 300, 400, 410, 500
_BUSY = {408, 425, 429}
# With one of these a gateway says that it will never accept this message.
_REFUSES_THE_MESSAGE = {400, 410, 413, 422}
_LONGEST_PAUSE = timedelta(days=1)


class WebhookSender:
    """Posts a signed event. Its `webhook-id` is the same in every attempt, so that the receiver can drop duplicates."""

    repeat_is_harmless = True

    def __init__(self, vault: Vault, private_networks: Sequence[str], *, cap: float = 15) -> None:
        """`cap` limits a whole exchange, in seconds."""
        self._vault = vault
        self._private_networks = private_networks
        self._cap = cap

    def send(self, message: Outgoing) -> None:
        """Send `message` (see `Sender`)."""
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
        status, retry_after = self._post(url, body.encode(), headers)
        if status >= _FIRST_REDIRECT:
            raise failure_of(status, is_gateway=message.channel != "webhook", retry_after=retry_after)

    def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, timedelta]:
        """Post `body`. Return the HTTP status and the pause that the receiver asks for. The response body is not read:
        nothing in it is needed.
        """
        parts = urlsplit(url)
        target = parts.path or "/"
        target += f"?{parts.query}" if parts.query else ""
        try:
            with Deadline(self._cap) as deadline:
                address = checked_address(
                    parts.hostname or "", port_of(url), self._private_networks, within=deadline.left()
                )
                connection = _CheckedConnection(address, deadline, is_tls=parts.scheme == "https")
                try:
                    connection.request("POST", target, body, headers | {"host": parts.netloc})
                    answer = connection.getresponse()
                    if deadline.has_passed:  # the headers may be truncated
                        raise TimeoutError
                    return answer.status, pause_asked_for(answer.getheader("retry-after"), datetime.now(UTC))
                finally:
                    connection.close()
        except (InvalidInput, ValueError) as error:
            raise Undeliverable(str(error)) from error
        except Unavailable as error:
            raise ReceiverInTrouble(error.message) from error
        except (OSError, http.client.HTTPException) as error:
            raise ReceiverInTrouble(self._trouble(error, is_over=deadline.has_passed)) from error

    def _trouble(self, error: Exception, *, is_over: bool) -> str:
        if is_over:
            return f"It did not answer within {self._cap:g} s."
        return f"It cannot be reached: {type(error).__name__}"


def port_of(url: str) -> int:
    """Return the port of a URL: the explicit one, or the default of its scheme."""
    parts = urlsplit(url)
    return parts.port if parts.port is not None else 443 if parts.scheme == "https" else 80


def failure_of(status: int, *, is_gateway: bool, retry_after: timedelta = timedelta(0)) -> NotSent | Undeliverable:
    """Return the error for an HTTP status other than success. An event is dropped only if the receiver wants no more
    events (410); a wrong path or signature is usually repaired within days. A gateway can also refuse a single message
    permanently.
    """
    words = f"It answered {status}."
    if status >= _FIRST_FAULT or status in _BUSY:
        return ReceiverInTrouble(words, retry_after=retry_after)
    if is_gateway:
        return Undeliverable(words) if status in _REFUSES_THE_MESSAGE else NotSent(words)
    if status == _GONE:
        return Gone("It answered 410: the address is gone.")
    if status < _FIRST_REFUSAL:
        return NotSent(f"It answered {status}, a redirect, which is not followed.")
    return NotSent(words)


def pause_asked_for(header: str | None, now: datetime) -> timedelta:
    """Return the pause that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or a date), at most a day."""
    if header is None:
        return timedelta(0)
    if header.strip().isdecimal():
        return min(timedelta(seconds=int(header.strip()[:9])), _LONGEST_PAUSE)
    try:
        until = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # not a date, or a date with numbers that none can have
        return timedelta(0)
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max(until - now, timedelta(0)), _LONGEST_PAUSE)


def _as_event(message: Outgoing) -> str:
    data = {"id": str(message.id), "to": message.recipient, "text": message.body}
    return json.dumps({"type": f"message.{message.channel}", "data": data}, ensure_ascii=False)


class _CheckedConnection(http.client.HTTPConnection):
    """HTTP connection to the checked address. TLS verifies the certificate against the host name."""

    def __init__(self, address: Address, deadline: Deadline, *, is_tls: bool) -> None:
        super().__init__(address.host, address.port, timeout=_TIMEOUT)
        self._address = address
        self._deadline = deadline
        self._is_tls = is_tls

    def connect(self) -> None:
        plain = self._deadline.connect(self._address, _TIMEOUT)
        self.sock: socket.socket = (
            ssl.create_default_context().wrap_socket(plain, server_hostname=self._address.host)
            if self._is_tls
            else plain
        )
