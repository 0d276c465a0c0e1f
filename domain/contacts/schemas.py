"""Contacts, and what they allow."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.zones import known_zone


class Contact(BaseModel):
    """A person that an organisation deals with, and what a message to them must heed."""

    id: UUID
    kind: str
    """in the words of the business, such as `client` or `lead`; so is `status`"""
    name: str
    email: str
    phone: str | None
    status: str
    language: str
    location_id: UUID | None
    time_zone: str | None
    has_consented: bool
    opted_out_at: datetime | None


class KnownContact(BaseModel):
    """A contact found by an id or an address."""

    id: UUID
    name: str
    email: str
    phone: str | None
    namesakes: int
    """how many other people have this name, or one that begins with it"""


class PreferenceChange(BaseModel):
    """What a contact allows, and where they are: what is not sent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    time_zone: Annotated[str, AfterValidator(known_zone)] | None = Field(
        default=None, description="IANA name; null for the organisation's"
    )
    has_consented: bool | None = Field(default=None, description="to advertising")
    has_opted_out: bool | None = Field(default=None, description="wants no follow-up at all")


class Preferences(BaseModel):
    """What a contact allows. Without a word of theirs they have not consented."""

    contact: UUID
    time_zone: str | None = None
    has_consented: bool = False
    has_opted_out: bool = False
    opted_out_at: datetime | None = None
    changed_at: datetime | None = Field(default=None, description="null: nothing was ever set")
