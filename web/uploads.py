"""Files that callers upload: received piece by piece into a temporary file, examined, and stored."""

import contextlib
import hashlib
import io
import tempfile
from collections.abc import AsyncIterator
from typing import BinaryIO, cast
from uuid import UUID

from fastapi.concurrency import run_in_threadpool

from core.blobs.base import sha256_of
from domain.attachments import service as attachments
from domain.attachments.schemas import AttachedFile, StoredAttachment, Upload
from web.auth import Principal

_IN_MEMORY = 256 * 1024
"""bytes of a file; a larger one is in the folder of temporary files"""


@contextlib.asynccontextmanager
async def received(pieces: AsyncIterator[bytes], name: str, media_type: str) -> AsyncIterator[Upload]:
    """Receive a file, and hold it within.

    Raises:
        InvalidInput: it is too large.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as content:
        async for piece in pieces:
            size += len(piece)
            attachments.ensure_size(size)
            digest.update(piece)
            await run_in_threadpool(content.write, piece)
        yield Upload(name, media_type, cast("BinaryIO", content), size, digest.hexdigest())


def keep_in_hand(caller: Principal, content: bytes, name: str, media_type: str, location: UUID | None) -> AttachedFile:
    """Store a file that came within a request, as `keep` does."""
    return attachments.as_file(keep(caller, _in_hand(content, name, media_type), location))


def _in_hand(content: bytes, name: str, media_type: str) -> Upload:
    """Return bytes that came within a request as a file to store."""
    return Upload(name, media_type, io.BytesIO(content), len(content), sha256_of(content))


def keep(caller: Principal, upload: Upload, location: UUID | None) -> StoredAttachment:
    """Store a file that a caller uploaded. No transaction is open while it is sent to the storage.

    Raises:
        InvalidInput: the file is not taken.
        Conflict: the organisation has stored as much as it may.
        Unavailable: the storage does not answer. What there is of the file is deleted within a day.
    """
    examined = attachments.examine(upload)
    with caller.reading() as connection:
        made = attachments.announce(connection, caller.org_id, caller.user_id, location, upload, examined)
        caller.note(connection, attachment=str(made.id), media_type=made.media_type, size=made.size)
    attachments.store(made, upload)
    with caller.reading() as connection:
        attachments.finish(connection, made)
    return made
