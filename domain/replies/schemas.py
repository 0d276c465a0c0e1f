"""Types of the reply cache."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel


class KeptReply(BaseModel):
    """A reply to cache for `ttl`, under the digest of its request."""

    digest: bytes
    reply: dict[str, Any]
    ttl: timedelta
