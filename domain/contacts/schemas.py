"""Contacts and their preferences."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.zones import known_zone


class Contact(BaseModel):
    """A person that an organisation deals with, and what a message to them must respect."""

    id: UUID
    kind: str
    """a kind that the pack defines, such as `client` or `lead`; the values of `status` are the pack's as well"""
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
    """number of other people whose name is this one or begins with it"""


class PreferenceChange(BaseModel):
    """A change to what a contact allows and to their time zone. Fields that are not sent keep their values."""

    model_config = ConfigDict(extra="forbid")

    time_zone: Annotated[str, AfterValidator(known_zone)] | None = Field(
        default=None, description="IANA name; null for the organisation's"
    )
    has_consented: bool | None = Field(default=None, description="to advertising")
    has_opted_out: bool | None = Field(default=None, description="wants no follow-up at all")


class Preferences(BaseModel):
    """What a contact allows. By default a contact has not consented."""

    contact: UUID
    time_zone: str | None = None
    has_consented: bool = False
    has_opted_out: bool = False
    opted_out_at: datetime | None = None
    changed_at: datetime | None = Field(default=None, description="null: nothing was ever set")
