"""What is in a file: its media type by its first bytes, and the pages of a PDF. Pure."""

import itertools
import re
import zlib
from collections.abc import Iterator

from core.errors import InvalidInput

HEAD = 16
"""bytes that tell what a file is"""
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_BINARY = {*(media_type for _, media_type in _MAGIC), "image/webp"}
_TEXTS = {
    ".md": "text/markdown", ".markdown": "text/markdown", ".csv": "text/csv", ".json": "application/json",
}  # fmt: skip
TEXT_TYPES = {"text/plain", *_TEXTS.values()}
_UNSAID = {"", "application/octet-stream"}
TAKEN = "text (plain, Markdown, CSV, JSON), images (PNG, JPEG, GIF, WebP) and PDF"

# A name may be written with any letter as its number (ISO 32000-2, section 7.3.5).
_PAGE = re.compile(rb"/Type\s*/(?:P|#50)(?:a|#61)(?:g|#67)(?:e|#65)(?![A-Za-z#])")
_COMPRESSED = re.compile(rb"/Type\s*/ObjStm.{0,400}?stream\r?\n", re.DOTALL)
_MOST_UNPACKED = 4_000_000
_MOST_STREAMS = 500
_BYTES_A_PAGE = 50_000
"""of a PDF whose pages cannot be counted"""


def media_type_of(declared: str, name: str, head: bytes) -> str:
    """Return the media type of a file by its first bytes. Bytes that tell nothing are text, of the kind that is
    declared or that the file's name says.

    Raises:
        InvalidInput: it is not what is declared, or of a kind that is not taken.
    """
    told = declared.partition(";")[0].strip().lower()
    found = _by_magic(head)
    if found is not None and told in {found, *_UNSAID}:
        return found
    if found is not None:
        raise InvalidInput(f"The content of {name!r} is {found}, not {told}. Send it as {found}.")
    if told in _BINARY:
        raise InvalidInput(f"The content of {name!r} is not {told}.")
    if told in _UNSAID or told == "text/plain":
        suffix = name[name.rfind(".") :].lower() if "." in name else ""
        return _TEXTS.get(suffix, "text/plain")
    if told in TEXT_TYPES:
        return told
    raise InvalidInput(f"Files of the type {told[:100]} are not taken; {TAKEN} are.")


def _by_magic(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if head.startswith(magic)), None)


def pages_of(pdf: bytes) -> int:
    """Return the number of pages of a PDF, without reading it as a PDF: the page objects that are there in the clear or
    in compressed object streams. If there are none to be seen, as in an encrypted one, an estimate by its size.
    """
    found = sum(len(_PAGE.findall(part)) for part in (pdf, *_unpacked(pdf)))
    return found or 1 + len(pdf) // _BYTES_A_PAGE


def _unpacked(pdf: bytes) -> Iterator[bytes]:
    """Yield the content of the compressed object streams, up to limits over all of them: a crafted file can contain
    any number of what looks like one.
    """
    left, whole = _MOST_UNPACKED, memoryview(pdf)
    for stream in itertools.islice(_COMPRESSED.finditer(pdf), _MOST_STREAMS):
        packed = whole[stream.end() : stream.end() + _MOST_UNPACKED]
        try:
            content = zlib.decompressobj().decompress(packed, left)
        except zlib.error:
            continue
        yield content
        left -= len(content)
        if left <= 0:
            return
