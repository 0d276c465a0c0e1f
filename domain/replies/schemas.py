"""What is kept."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel


class KeptReply(BaseModel):
    """A reply, under the digest of the request it answers, for `ttl`."""

    digest: bytes
    reply: dict[str, Any]
    ttl: timedelta
