"""Attachments, and what agents are told of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, TypedDict
from uuid import UUID

from pydantic import BaseModel, Field

from core.model_providers import Medium

MediaType = Literal[
    "text/plain", "text/markdown", "text/csv", "application/json",
    "image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf",
]  # fmt: skip
MOST_OF_TEXTS = 16_000
"""characters that an agent reads of the texts attached to one message; the longest window of a conversation has more"""
_MEDIA: dict[str, Medium] = {"image": "image", "application/pdf": "pdf"}


def medium_of(media_type: str) -> Medium | None:
    """Return what a model must be able to read for a file; None for text, which every model reads."""
    return _MEDIA.get(media_type) or _MEDIA.get(media_type.partition("/")[0])


class AttachedFile(BaseModel):
    """An attachment as tasks and journals name it."""

    id: UUID
    name: str
    media_type: str
    size: int
    pages: int | None = None
    sha256: str

    @property
    def medium(self) -> Medium | None:
        """What a model must be able to read for it; None for text."""
        return medium_of(self.media_type)


class Attachment(BaseModel):
    """An attachment, with an address at which it can be read for a while."""

    id: UUID
    name: str = Field(description="file name", examples=["prices.csv"])
    media_type: MediaType = Field(description="as its content shows it")
    size: int = Field(description="bytes", examples=[52_114])
    pages: int | None = Field(description="of a PDF", examples=[3])
    sha256: str = Field(description="of the content, hexadecimal", examples=["9f86d081884c7d65"])
    user_id: UUID = Field(description="who uploaded it")
    location_id: UUID | None
    conversation_id: UUID | None = Field(description="in which it was sent; null until then")
    created_at: datetime
    address: str = Field(
        description="path on this server from which anybody can download it, until `address_expires_at`",
        examples=["/blobs/WlhsS..."],
    )
    address_expires_at: datetime = Field(description="time from which the address is not valid")


class Examined(TypedDict):
    """What a file is."""

    media_type: str
    pages: int | None
    """of a PDF"""


@dataclass(frozen=True, slots=True)
class StoredAttachment:
    """An attachment as stored."""

    id: UUID
    user_id: UUID
    location_id: UUID | None
    conversation_id: UUID | None
    task_id: UUID | None
    name: str
    media_type: str
    size: int
    pages: int | None
    sha256: str
    key: str
    created_at: datetime
    deleted_at: datetime | None


@dataclass(frozen=True)
class Upload:
    """A file to attach: whole, in a file of our own."""

    name: str
    media_type: str
    """as the caller says"""
    content: BinaryIO
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Removal:
    """A blob that no row refers to any more."""

    key: str
