"""Keys: random secrets. Those of API keys and of visitors' tokens are shown once and kept only as a keyed hash.

A key reads `rota_<id>_<secret>`: the id finds the row. Publishable keys and visitors' tokens have other prefixes. The
secret is 192 random bits, followed by 64 bits of an HMAC over the id and the random bits, keyed with the
installation's own secret. Such a secret cannot be guessed, so a keyed hash (HMAC-SHA-256) compared in constant time is
enough, and cheap on every request. The HMAC in the key tells an invented key from one that was issued here, without a
query. API keys issued before it was added lack it and remain valid.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from uuid import UUID

API_KEY, PUBLISHABLE_KEY, VISITOR_TOKEN = "rota", "rotapub", "rotavis"
"""prefixes: what kind of key a text is"""
_RANDOM_BYTES, _MARK_DIGITS = 24, 16


@dataclass(frozen=True)
class ApiKey:
    """A key in the clear. `str()` gives the text that a caller sends."""

    id: UUID
    secret: str
    prefix: str = API_KEY

    def __str__(self) -> str:
        return f"{self.prefix}_{self.id.hex}_{self.secret}"

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"  # without the secret: a repr ends up in logs


def new_secret() -> str:
    """Return 192 random bits as 48 hexadecimal digits."""
    return secrets.token_hex(_RANDOM_BYTES)


def new_api_key(key_id: UUID, pepper: str, prefix: str = API_KEY) -> ApiKey:
    """Return a new key with the id `key_id`, marked as issued by this installation."""
    random = new_secret()
    return ApiKey(key_id, random + _mark(key_id, random, pepper, prefix), prefix)


def was_issued_here(text: str, pepper: str, prefix: str = API_KEY) -> bool:
    """Whether the key in `text` carries this installation's mark. It may be revoked or expired by now."""
    key = parse_api_key(text, prefix)
    if key is None or len(key.secret) != 2 * _RANDOM_BYTES + _MARK_DIGITS:
        return False
    random, mark = key.secret[:-_MARK_DIGITS], key.secret[-_MARK_DIGITS:]
    return hmac.compare_digest(mark, _mark(key.id, random, pepper, prefix))


def _mark(key_id: UUID, random: str, pepper: str, prefix: str) -> str:
    # The mark of a publishable key, which everyone can read, must vouch for no API key.
    kind = "" if prefix == API_KEY else f"{prefix}:"
    message = f"issued:{kind}{key_id.hex}:{random}".encode()
    return hmac.new(pepper.encode(), message, hashlib.sha256).hexdigest()[:_MARK_DIGITS]


def parse_api_key(text: str, prefix: str = API_KEY) -> ApiKey | None:
    """Parse a key of one kind; None if `text` does not have the form of one."""
    found, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if found != prefix or not secret.isascii():
        return None
    try:
        return ApiKey(UUID(hex=key_id), secret, prefix)
    except ValueError:
        return None


def secret_digest(secret: str, pepper: str) -> bytes:
    """Return the form in which a key's secret is stored: HMAC-SHA-256, keyed with the installation's own secret."""
    return hmac.new(pepper.encode(), secret.encode(), hashlib.sha256).digest()
