"""Endpoints that serve models over OpenAI's wire format."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from core.settings import ProviderUrl, ServedModels
from core.text import Storable, unstorable


def _sendable(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if unstorable(text) or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("a key is one line of ASCII letters, without spaces around it")
    return key


class ProviderFields(BaseModel):
    """An organisation's own endpoint, as it is set up."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[ProviderUrl, Storable] = Field(
        description="what `/chat/completions` is appended to", examples=["https://llm.example.com/v1"]
    )
    models: ServedModels = Field(description="that it serves: agents name them", examples=[["qwen3:8b"]])
    key: Annotated[SecretStr, AfterValidator(_sendable), Field(max_length=2_000)] | None = Field(
        default=None,
        description="its API key, kept encrypted and never shown. Left out, the old one stays if the URL does",
    )
    forget_key: bool = Field(default=False, description="send no key from now on")


class Provider(BaseModel):
    """An endpoint, without its key."""

    name: str
    source: Literal["organisation", "installation"]
    url: str | None = Field(description="null for an endpoint of the installation, whose network is not shown")
    models: list[str]
    has_key: bool
    unpriced: list[str] = Field(
        description="of the models, those for which no price is known: their calls are billed at 0"
    )
    changed_at: datetime | None = Field(description="null for an endpoint of the installation")


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """An organisation's own endpoint, with its key as stored."""

    name: str
    url: str
    secret: bytes | None = field(repr=False)
    """the encrypted key; None if the endpoint needs none"""
    models: list[str]


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """The encrypted key of an organisation's endpoint."""

    org_id: UUID
    name: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint to which calls of a model are sent."""

    name: str
    url: str
    key: str | None
    model: str
    """the model's name at this endpoint"""
    is_own: bool = False
    """set up by an organisation: it may only have public addresses, and is sent nothing of the installation's"""

    def __repr__(self) -> str:
        return f"Endpoint({self.name}, {self.url}, {self.model})"  # never the key: this text ends up in logs
