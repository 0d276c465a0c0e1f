"""The blob store that the settings choose."""

import functools
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from core.blobs.base import BlobStore, Content
from core.blobs.folder import FolderStore
from core.blobs.s3 import Bucket, S3Store
from core.errors import InvalidInput
from core.settings import Settings, settings

# No part begins with a dot, so a key cannot leave its folder.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}")


class _Checked:
    """A store that refuses keys which could name something else."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def put(self, key: str, content: Content) -> None:
        self._store.put(checked(key), content)

    def open(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._store.open(checked(key))

    def delete(self, key: str) -> None:
        self._store.delete(checked(key))


def checked(key: str) -> str:
    """Return a key that can be used.

    Raises:
        InvalidInput: it cannot: it has other characters, a part that begins with a dot, or too many parts.
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput(f"{key[:200]!r} is no key of a blob.")
    return key


def make_store(config: Settings) -> BlobStore:
    """Create the store of these settings."""
    url = urlsplit(config.blobs_location)
    if url.scheme == "file":
        return _Checked(FolderStore(Path(unquote(url.path))))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    return _Checked(S3Store(Bucket(
        endpoint=query["endpoint"].rstrip("/"),
        name=url.netloc,
        prefix=unquote(url.path).strip("/"),
        region=query.get("region", "us-east-1"),
        access_key=config.blobs_access_key.get_secret_value() if config.blobs_access_key else "",
        secret_key=config.blobs_secret_key.get_secret_value() if config.blobs_secret_key else "",
    )))  # fmt: skip


def blob_store() -> BlobStore:
    """Return the store of this process."""
    return _kept_store(settings().blobs_location)


@functools.cache
def _kept_store(_: str) -> BlobStore:
    return make_store(settings())


def read_blob(key: str, most: int | None = None) -> bytes:
    """Return all bytes of a blob, or the first `most` of them. For blobs whose size is limited.

    Raises:
        NotFound: there is none under this key.
        Unavailable: the storage does not answer, or refuses.
    """
    found = bytearray()
    with blob_store().open(key) as pieces:
        for piece in pieces:
            found += piece
            if most is not None and len(found) >= most:
                break
    return bytes(found[:most])
