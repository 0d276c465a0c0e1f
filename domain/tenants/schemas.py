"""What the other slices see of a tenant."""

from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel


class Organisation(BaseModel):
    """A tenant: everything else belongs to one."""

    id: UUID
    slug: str
    name: str
    time_zone: str
    markup: Decimal
