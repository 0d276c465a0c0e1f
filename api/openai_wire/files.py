"""Images and files within messages: their content in base64, as data addresses. Nothing is fetched from elsewhere."""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.blobs.base import sha256_of
from core.errors import BadRequest, InvalidInput

FILES = {"image_url", "file", "input_image", "input_file"}
"""types of parts that hold a file"""
SEE_FILES = "See the attached files."
"""the text of a message that has files and no text"""
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+=-]+)*?;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class InlineFile:
    """A file that came within a message."""

    name: str
    media_type: str
    """as the caller says; empty if they do not"""
    content: bytes

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return sha256_of(self.content)


def files_of(content: str | Sequence[dict[str, Any]] | None, field: str) -> tuple[InlineFile, ...]:
    """Return the files in the parts of a message.

    Raises:
        BadRequest: one is an address elsewhere.
        InvalidInput: one is an id, or not in base64.
    """
    if content is None or isinstance(content, str):
        return ()
    return tuple(_file(part, f"{field}: {part['type']}") for part in content if part.get("type") in FILES)


def _file(part: dict[str, Any], field: str) -> InlineFile:
    held = part.get("file") if part["type"] == "file" else part
    held = held if isinstance(held, dict) else {}
    given = held.get("file_data") or held.get("image_url") or held.get("file_url")
    address = given.get("url") if isinstance(given, dict) else given
    if not isinstance(address, str) or not address:
        raise InvalidInput(f"{field}: send the content in base64; ids of files are not taken.")
    if re.match(r"(?:https?|ftp|file):", address, re.IGNORECASE):
        raise BadRequest(f"{field}: addresses are not fetched. Send the content itself: data:image/png;base64,…")
    data = _DATA.match(address)
    if data is None and "image" in part["type"]:
        raise InvalidInput(f"{field}: send a data address: data:image/png;base64,…")
    media_type = (data[1] or "").lower() if data else ""
    return InlineFile(_name(held, media_type), media_type, _decoded(address[data.end() if data else 0 :], field))


def _name(held: dict[str, Any], media_type: str) -> str:
    given = held.get("filename")
    return str(given) if given else f"{media_type.partition('/')[0] or 'file'}.{media_type.rpartition('/')[2] or 'bin'}"


def _decoded(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{field}: the content is not valid base64.") from error
