"""Signed addresses: each allows reading one blob until it expires, without a key. Pure, but for the signing key.

An address carries all that is needed to serve the blob, so that no row is looked up, and a MAC over it.
"""

import base64
import binascii
import functools
import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ValidationError

from core.errors import NotFound
from core.settings import settings

PREFIX = "/blobs/"
_MAC = 32


class Ticket(BaseModel):
    """What an address gives: a blob, and how it is called."""

    key: str
    name: str
    media_type: str
    size: int
    expires: int
    """seconds since the epoch"""


def address_of(ticket: Ticket) -> str:
    """Return the path at which the API serves a blob."""
    return PREFIX + sign(ticket, _own_key())


def read_address(token: str, now: datetime) -> Ticket:
    """Return what a token of an address gives.

    Raises:
        NotFound: it was not signed here, or it has expired.
    """
    ticket = verify(token, _own_key())
    if ticket is None or ticket.expires <= now.timestamp():
        raise NotFound("This address is not valid, or has expired. Ask for a new one.")
    return ticket


def sign(ticket: Ticket, key: bytes) -> str:
    """Return a ticket as a token."""
    told = ticket.model_dump_json().encode()
    return base64.urlsafe_b64encode(_mac(told, key) + told).decode().rstrip("=")


def verify(token: str, key: bytes) -> Ticket | None:
    """Return the ticket in a token; None if it was not signed with this key."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    mac, told = content[:_MAC], content[_MAC:]
    if not hmac.compare_digest(mac, _mac(told, key)):
        return None
    try:
        return Ticket.model_validate_json(told)
    except ValidationError:  # of another version
        return None


def _mac(told: bytes, key: bytes) -> bytes:
    return hmac.new(key, told, hashlib.sha256).digest()


@functools.cache
def derived_key(secret: str) -> bytes:
    """Return the key of addresses, derived from a secret of the installation (HKDF, RFC 5869)."""
    derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"rota addresses of blobs")
    return derive.derive(secret.encode())


def _own_key() -> bytes:
    return derived_key(settings().pepper)


def serving_headers(ticket: Ticket) -> dict[str, str]:
    """Return the headers with which a blob is served: a browser saves it, and runs nothing of it in our origin."""
    return {
        "content-length": str(ticket.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(ticket.name, safe='')}",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, no-store",
        "referrer-policy": "no-referrer",
    }
