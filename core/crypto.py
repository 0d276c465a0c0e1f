"""API keys: random secrets shown once and kept only as a keyed hash.

A key reads `rota_<id>_<secret>`: the id finds the row, the secret is 256 random bits. Such a secret cannot be guessed,
so a keyed hash (HMAC-SHA-256) compared in constant time is enough, and cheap on every request.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from uuid import UUID

_PREFIX = "rota"


@dataclass(frozen=True)
class ApiKey:
    """An API key in the clear. `str()` gives the text that a caller sends."""

    id: UUID
    secret: str

    def __str__(self) -> str:
        return f"{_PREFIX}_{self.id.hex}_{self.secret}"

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"  # never the secret: this is what ends in logs


def new_secret() -> str:
    """256 random bits as 64 hexadecimal digits."""
    return secrets.token_hex(32)


def parse_api_key(text: str) -> ApiKey | None:
    """The key that `text` spells, or None where it is not of our form."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != _PREFIX or not secret.isascii():
        return None
    try:
        return ApiKey(UUID(hex=key_id), secret)
    except ValueError:
        return None


def secret_digest(secret: str, pepper: str) -> bytes:
    """The form in which a key's secret is stored: HMAC-SHA-256 under the installation's own secret."""
    return hmac.new(pepper.encode(), secret.encode(), hashlib.sha256).digest()
