"""API keys: random secrets shown once and kept only as a keyed hash.

A key reads `rota_<id>_<secret>`: the id finds the row. The secret is 192 random bits, followed by 64 bits of an HMAC
over the id and the random bits, keyed with the installation's own secret. Such a secret cannot be guessed, so a keyed
hash (HMAC-SHA-256) compared in constant time is enough, and cheap on every request. The HMAC in the key tells an
invented key from one that was issued here, without a query. Keys issued before it was added lack it and remain valid.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from uuid import UUID

_PREFIX = "rota"
_RANDOM_BYTES, _MARK_DIGITS = 24, 16


@dataclass(frozen=True)
class ApiKey:
    """An API key in the clear. `str()` gives the text that a caller sends."""

    id: UUID
    secret: str

    def __str__(self) -> str:
        return f"{_PREFIX}_{self.id.hex}_{self.secret}"

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"  # without the secret: a repr ends up in logs


def new_secret() -> str:
    """Return 192 random bits as 48 hexadecimal digits."""
    return secrets.token_hex(_RANDOM_BYTES)


def new_api_key(key_id: UUID, pepper: str) -> ApiKey:
    """Return a new key with the id `key_id`, marked as issued by this installation."""
    random = new_secret()
    return ApiKey(key_id, random + _mark(key_id, random, pepper))


def was_issued_here(text: str, pepper: str) -> bool:
    """Whether the key in `text` carries this installation's mark. It may be revoked or expired by now."""
    key = parse_api_key(text)
    if key is None or len(key.secret) != 2 * _RANDOM_BYTES + _MARK_DIGITS:
        return False
    random, mark = key.secret[:-_MARK_DIGITS], key.secret[-_MARK_DIGITS:]
    return hmac.compare_digest(mark, _mark(key.id, random, pepper))


def _mark(key_id: UUID, random: str, pepper: str) -> str:
    message = f"issued:{key_id.hex}:{random}".encode()
    return hmac.new(pepper.encode(), message, hashlib.sha256).hexdigest()[:_MARK_DIGITS]


def parse_api_key(text: str) -> ApiKey | None:
    """Parse an API key; None if `text` does not have the form of one."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != _PREFIX or not secret.isascii():
        return None
    try:
        return ApiKey(UUID(hex=key_id), secret)
    except ValueError:
        return None


def secret_digest(secret: str, pepper: str) -> bytes:
    """Return the form in which a key's secret is stored: HMAC-SHA-256, keyed with the installation's own secret."""
    return hmac.new(pepper.encode(), secret.encode(), hashlib.sha256).digest()
