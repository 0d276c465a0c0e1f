"""Blobs in a folder, which all processes share: on one machine, or on a network file system."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from core.blobs.base import Content
from core.errors import NotFound, Unavailable
from core.logging import get_logger

log = get_logger(__name__)
_PIECE = 64 * 1024
_OWNER_ONLY = 0o600, 0o700  # files, folders


class FolderStore:
    """A blob is a file, named by its key, that only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, content: Content) -> None:
        """Write a temporary file beside the blob, and rename it once it is on the disk."""
        path = self._folder / key
        with _as_unavailable():
            path.parent.mkdir(mode=_OWNER_ONLY[1], parents=True, exist_ok=True)
            with _create(_unfinished(path)) as file:
                content.source.seek(0)
                shutil.copyfileobj(content.source, file, _PIECE)
                file.flush()
                os.fsync(file.fileno())
            _unfinished(path).replace(path)
            _sync_folder(path.parent)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes]]:
        """Yield the pieces of a file."""
        with _as_unavailable():
            try:
                file = (self._folder / key).open("rb")
            except FileNotFoundError as error:
                raise NotFound("This file is no longer there.") from error
        with file:
            yield iter(lambda: file.read(_PIECE), b"")

    def delete(self, key: str) -> None:
        """Delete the file, and what an interrupted `put` left."""
        path = self._folder / key
        with _as_unavailable():
            path.unlink(missing_ok=True)
            _unfinished(path).unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")  # no key has a part that begins with a dot


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _OWNER_ONLY[0]), "wb")


def _sync_folder(folder: Path) -> None:
    """Have the file's name on the disk too."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.exception("the folder of blobs cannot be used")
        raise Unavailable("The storage of files cannot be used at the moment.") from error
