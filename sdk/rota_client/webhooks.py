"""Verifies what is posted to a webhook (Standard Webhooks 1.0: HMAC-SHA256 over id, time and body)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from rota_client.errors import InvalidSignature
from rota_client.models import Model

TOLERANCE = timedelta(minutes=5)
_PREFIX, _VERSION = "whsec_", "v1"


class Delivery(Model):
    """What was posted: an event of the feed, or a notice."""

    delivery_id: str
    """the same in every attempt: keep it, to drop what comes twice"""
    type: str
    id: str | None = None
    """the event's cursor; None for notices"""
    data: dict[str, Any]


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    *secrets: str,
    now: datetime | None = None,
    tolerance: timedelta = TOLERANCE,
) -> Delivery:
    """Return what was posted to a webhook, if it is signed with one of the secrets. Pass the body as it arrived, byte
    for byte. While you renew a secret, pass the new one and the old one.

    Raises:
        InvalidSignature: it is not from Rota, was changed on the way, or is older (or newer) than `tolerance`.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        name, at, signatures = (given[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
        sent = datetime.fromtimestamp(int(at), UTC)
    except KeyError as error:
        raise InvalidSignature(f"The header {error} is missing.") from error
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidSignature("The header webhook-timestamp is not a time.") from error
    content = body.encode() if isinstance(body, str) else body
    expected = [sign(secret, name, sent, content).encode() for secret in secrets]
    if not any(hmac.compare_digest(one, found.encode()) for one in expected for found in signatures.split()):
        raise InvalidSignature("The body is not signed with this secret.")
    if abs((now or datetime.now(UTC)) - sent) > tolerance:
        raise InvalidSignature(f"It was signed at {sent.isoformat()}, too far from now. Check the clock.")
    return Delivery(delivery_id=name, **json.loads(content))


def sign(secret: str, delivery_id: str, at: datetime, body: bytes) -> str:
    """Return the signature of a body, as the header `webhook-signature` has it.

    Raises:
        ValueError: the secret is not one.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX) + "==")
    except ValueError as error:
        raise ValueError("This is not a webhook's signing secret: whsec_…") from error
    if not key:
        raise ValueError("The webhook's signing secret is empty.")
    signed = f"{delivery_id}.{int(at.timestamp())}.".encode() + body
    return f"{_VERSION},{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
