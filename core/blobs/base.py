"""What a blob store is."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class Content:
    """The bytes to store. `source` can be read more than once: it is a file, positioned at its beginning."""

    source: BinaryIO
    size: int
    sha256: str
    """hexadecimal"""


class BlobStore(Protocol):
    """Where blobs are kept. A key is written once, by one writer; what is under it never changes."""

    def put(self, key: str, content: Content) -> None:
        """Store a blob: whole, or not at all.

        Raises:
            Unavailable: the storage does not answer, or refuses.
        """
        ...

    def open(self, key: str) -> AbstractContextManager[Iterator[bytes]]:
        """Open a blob, and yield its bytes in pieces.

        Raises:
            NotFound: there is none under this key.
            Unavailable: the storage does not answer, or refuses.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete a blob, and what an interrupted `put` left of it. No-op if there is none.

        Raises:
            Unavailable: the storage does not answer, or refuses.
        """
        ...


def sha256_of(content: bytes) -> str:
    """Return the digest of a blob, hexadecimal."""
    return hashlib.sha256(content).hexdigest()
