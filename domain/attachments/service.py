"""Operations on attachments: upload, find, send, delete."""

import codecs
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.blobs.addresses import Ticket, address_of
from core.blobs.base import Content
from core.blobs.store import blob_store, read_blob
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from core.settings import settings
from core.text import storable
from domain.attachments import queries
from domain.attachments.content import HEAD, TAKEN, TEXT_TYPES, media_type_of, pages_of
from domain.attachments.schemas import AttachedFile, Attachment, Examined, StoredAttachment, Upload

_BATCH = 100
_UNSENT_HOURS = 24
_PIECE = 64 * 1024
_LONGEST_NAME = 200


def announce(
    connection: Connection, org: UUID, user: UUID, location: UUID | None, upload: Upload, examined: Examined
) -> StoredAttachment:
    """Write the row of an attachment. Its bytes are stored after the transaction (`store`), and then it can be used
    (`finish`). If either does not happen, the clean-up deletes both.

    Raises:
        Conflict: the organisation has stored as much as it may.
    """
    most = settings().max_attachments_organisation_bytes
    if queries.bytes_stored(connection, org) + upload.size > most:
        raise Conflict(
            f"The attachments of this organisation have reached {most} bytes (max_attachments_organisation_bytes). "
            "Delete some, or conversations that have some."
        )
    attachment_id = new_id()
    row = {
        "id": attachment_id, "org": org, "user": user, "location": location, "name": _file_name(upload.name),
        "size": upload.size, "sha256": upload.sha256, "key": f"{org}/{attachment_id}", **examined,
    }  # fmt: skip
    return queries.insert_attachment(connection, row)


def examine(upload: Upload) -> Examined:
    """Return what a file is. Outside of a transaction: it takes its time.

    Raises:
        InvalidInput: the file is empty, too large, of a kind that is not taken, or not what it is said to be.
    """
    ensure_size(upload.size)
    if not upload.size:
        raise InvalidInput("The file is empty.")
    upload.content.seek(0)
    media_type = media_type_of(upload.media_type, upload.name, upload.content.read(HEAD))
    upload.content.seek(0)
    if media_type in TEXT_TYPES:
        _ensure_text(upload)
    pages = pages_of(upload.content.read()) if media_type == "application/pdf" else None
    return {"media_type": media_type, "pages": pages}


def ensure_size(size: int) -> None:
    """Raise InvalidInput if so many bytes are too many for an attachment."""
    most = settings().max_attachment_bytes
    if size > most:
        raise InvalidInput(f"The file is larger than the {most} bytes that this server takes (max_attachment_bytes).")


def _ensure_text(upload: Upload) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece := upload.content.read(_PIECE):
            if "\x00" in decoder.decode(piece):
                raise InvalidInput(f"{upload.name!r} is not text. {TAKEN} are taken.")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{upload.name!r} is not text in UTF-8. {TAKEN} are taken.") from error


def _file_name(given: str) -> str:
    """Return a file name without folders and control characters."""
    last = storable(given).replace("\\", "/").rpartition("/")[2]
    plain = "".join(letter for letter in last if letter.isprintable()).strip()
    return plain[:_LONGEST_NAME] or "file"


def store(made: StoredAttachment, upload: Upload) -> None:
    """Store the bytes of an attachment. Outside of a transaction: the storage may be slow.

    Raises:
        Unavailable: the storage does not answer.
    """
    blob_store().put(made.key, Content(upload.content, upload.size, upload.sha256))


def finish(connection: Connection, made: StoredAttachment) -> None:
    """Note that an attachment can be used.

    Raises:
        NotFound: it was deleted in the meantime.
    """
    if not queries.mark_stored(connection, made.id):
        raise _unknown(made.id)


def get(connection: Connection, attachment_id: UUID, user: UUID) -> StoredAttachment:
    """Return an attachment that a user may see: their own, or one of a conversation.

    Raises:
        NotFound: there is none, or it was deleted.
    """
    found = queries.attachment(connection, attachment_id)
    if found is None or (found.conversation_id is None and found.user_id != user):
        raise _unknown(attachment_id)
    return found


def _unknown(attachment_id: UUID) -> NotFound:
    return NotFound(f"There is no attachment {attachment_id}.")


def shown(found: StoredAttachment) -> Attachment:
    """Return an attachment with an address that can be used from now on, for as long as set."""
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=settings().blob_address_life)
    ticket = Ticket(
        key=found.key, name=found.name, media_type=found.media_type, size=found.size, expires=int(expires.timestamp())
    )
    given = {name: getattr(found, name) for name in Attachment.model_fields if hasattr(found, name)}
    return Attachment(**given, address=address_of(ticket), address_expires_at=expires)


def delete(connection: Connection, found: StoredAttachment) -> None:
    """Delete an attachment for everybody at once, and its bytes within seconds. Messages keep its name."""
    queries.mark_deleted(connection, found.id)


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def files(connection: Connection, ids: Sequence[UUID]) -> list[AttachedFile]:
    """Return attachments as tasks name them, in the order of their ids."""
    found = {one.id: one for one in queries.attachments(connection, list(ids))} if ids else {}
    return [as_file(found[one]) for one in ids if one in found]


def as_file(found: StoredAttachment) -> AttachedFile:
    """Return an attachment as tasks name it."""
    return AttachedFile(
        id=found.id, name=found.name, media_type=found.media_type, size=found.size, pages=found.pages,
        sha256=found.sha256,
    )  # fmt: skip


def send(
    connection: Connection, ids: Sequence[UUID], user: UUID | None, conversation: UUID, location: UUID | None
) -> list[AttachedFile]:
    """Make attachments that a user uploaded part of a conversation, as those of one message. Return them in order.

    Raises:
        NotFound: one is not there, not the user's, or part of another conversation.
        InvalidInput: they are too many or too large for one message.
    """
    if not ids:
        return []
    found = {one.id: one for one in queries.send(connection, list(ids), user, conversation, location)}
    if missing := [one for one in ids if one not in found]:
        raise NotFound(f"There is no attachment {missing[0]} that you could send here.")
    sent = [as_file(found[one]) for one in ids]
    ensure_fits([one.size for one in sent])
    return sent


def send_with_task(connection: Connection, ids: Sequence[UUID], task: UUID) -> None:
    """Make attachments part of a task: they are deleted with it."""
    if ids:
        queries.send_with_task(connection, list(ids), task)


def ensure_fits(sizes: Sequence[int]) -> None:
    """Raise InvalidInput if files of these sizes are too many or too large for one message."""
    config = settings()
    if len(sizes) > config.max_attachments:
        raise InvalidInput(f"A message may have {config.max_attachments} attachments (max_attachments).")
    if sum(sizes) > config.max_attachments_bytes:
        raise InvalidInput(
            f"The attachments of a message may have {config.max_attachments_bytes} bytes together "
            "(max_attachments_bytes)."
        )


def move(connection: Connection, ids: Sequence[UUID], conversation: UUID) -> None:
    """Make attachments part of another conversation."""
    if ids:
        queries.move(connection, list(ids), conversation)


def keys(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return where the bytes of attachments are, without those that were deleted."""
    return {one.id: one.key for one in queries.attachments(connection, list(ids)) if one.deleted_at is None}


def read(key: str, most: int | None = None) -> bytes:
    """Return the bytes of an attachment, or the first `most` of them. Outside of a transaction.

    Raises:
        NotFound: they were deleted.
        Unavailable: the storage does not answer.
    """
    return read_blob(key, most)


# ── clean-up ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def delete_unsent(connection: Connection) -> int:
    """Delete attachments that were not sent within a day; at most 100 per call. Return how many."""
    return queries.delete_unsent(connection, _UNSENT_HOURS, _BATCH)


def removals(connection: Connection) -> list[str]:
    """Return blobs that no attachment refers to any more: at most 100, the oldest first."""
    return [one.key for one in queries.removals(connection, _BATCH)]


def note_removed(connection: Connection, removed: Sequence[str]) -> None:
    """Note that blobs were deleted from the storage."""
    queries.delete_removals(connection, list(removed))


def postpone_removal(connection: Connection, keys: Sequence[str]) -> None:
    """Have blobs that could not be deleted come after the others."""
    if keys:
        queries.postpone_removals(connection, list(keys))
