"""Secrets at rest: encrypted with the first key, decrypted with any of the keys, so that keys can be rotated."""

import base64
import functools

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.errors import Misconfigured
from core.settings import Settings, settings


class Vault:
    """Encrypts and decrypts (Fernet: AES-128-CBC with HMAC-SHA-256)."""

    def __init__(self, keys: list[str]) -> None:
        self._fernet = MultiFernet([Fernet(_stretched(key)) for key in keys])

    def lock(self, secret: str) -> bytes:
        """Encrypt `secret` with the first key."""
        return self._fernet.encrypt(secret.encode())

    def open(self, locked: bytes) -> str:
        """Decrypt a secret.

        Raises:
            Misconfigured: none of the keys decrypts it.
        """
        try:
            return self._fernet.decrypt(bytes(locked)).decode()
        except InvalidToken as error:
            raise Misconfigured(
                "A secret in the database does not open with these keys. Put the key it was encrypted with back into "
                "ROTA_ENCRYPTION_KEYS, after the new one, and run `rota secrets rotate`."
            ) from error

    def relock(self, locked: bytes) -> bytes:
        """Encrypt a secret anew, with the first key."""
        return self.lock(self.open(locked))


def _stretched(key: str) -> bytes:
    """Derive 32 bytes, as URL-safe base64, from a key of any length (HKDF, RFC 5869)."""
    derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"rota secrets at rest")
    return base64.urlsafe_b64encode(derive.derive(key.encode()))


def make_vault(config: Settings) -> Vault:
    """Create the vault of these settings: with their encryption keys, or with one derived from the secret key."""
    keys = [key.get_secret_value() for key in config.encryption_keys]
    return Vault(keys or [config.pepper])


@functools.cache
def vault() -> Vault:
    """Return the vault of this process."""
    return make_vault(settings())
