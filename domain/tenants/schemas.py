"""Schemas of organisations, users, roles, locations and API keys, as other slices see them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from core.mailboxes import routable
from core.text import Storable

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Pattern = Annotated[str, StringConstraints(pattern=r"^(\*|(\*|[a-z][a-z0-9_-]*):(\*|[a-z][a-z0-9_-]*))$")]
Patterns = Annotated[list[Pattern], Field(max_length=200, examples=[["tasks:*", "clients:read"]])]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), Storable]
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, pattern=r"^[^@\s,;<>\"]+@[^@\s,;<>\"]+$", max_length=254),
    Storable,
    AfterValidator(routable),
]
"""an e-mail address that mail servers accept: a domain such as bücher.example is stored as xn--bcher-kva.example"""


class Organisation(BaseModel):
    """A tenant: everything else belongs to one."""

    id: UUID
    slug: str
    name: str
    time_zone: str
    markup: Decimal
    is_prepaid: bool = Field(description="whether it buys tokens, which its tasks spend; without it no wallet is asked")
    is_demonstration: bool
    """whether its contacts are invented; only then may messages that the rehearsal model wrote be sent"""


class Location(BaseModel):
    """A location of an organisation."""

    id: UUID
    slug: str
    name: str


class NewLocation(BaseModel):
    """A location to add."""

    model_config = ConfigDict(extra="forbid")

    slug: Slug
    name: Name


class Role(BaseModel):
    """A named set of permissions that can be granted to users."""

    name: str
    permissions: list[str]
    is_built_in: bool


class RolePermissions(BaseModel):
    """What a role permits: permissions by name, or patterns such as `clients:*` and `*:read`."""

    model_config = ConfigDict(extra="forbid")

    permissions: Patterns


class RoleGrant(BaseModel):
    """A role, everywhere or at one location."""

    model_config = ConfigDict(extra="forbid")

    role: Slug
    location: Slug | None = Field(default=None, description="the location's slug; everywhere without it")


class User(BaseModel):
    """A person for whom agents and API keys may act."""

    id: UUID
    email: str
    name: str
    is_operator: bool = Field(description="may govern the installation: workers, limits, the price list")
    disabled_at: datetime | None
    created_at: datetime
    grants: list[RoleGrant]


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """An enabled user who has a certain role."""

    id: UUID
    email: str
    name: str


class NewUser(BaseModel):
    """A user to add."""

    model_config = ConfigDict(extra="forbid")

    email: Email
    name: Name
    grants: list[RoleGrant] = Field(default=[], max_length=50)


class UserChange(BaseModel):
    """A change to a user. Only fields that are sent are changed; `grants` replaces all grants."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    grants: list[RoleGrant] | None = Field(default=None, max_length=50)
    is_disabled: bool | None = None


class KeyFields(BaseModel):
    """An API key to create. It may do what both its scopes and its user's permissions allow."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    user: Email | None = Field(default=None, description="whom it speaks for; yourself without it")
    scopes: Patterns = Field(default=["*"], min_length=1)
    expires_at: AwareDatetime | None = None


class KeyView(BaseModel):
    """An API key, without its secret."""

    id: UUID
    name: str
    user: str = Field(description="e-mail of the user it speaks for")
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="to within a minute")
    replaced_by: UUID | None


class IssuedKey(KeyView):
    """A newly created API key. Its secret is shown only once."""

    key: str


class KeyOwner(BaseModel):
    """The user, organisation and scopes of an API key."""

    key_id: UUID
    org_id: UUID
    user_id: UUID
    scopes: list[str]
