"""All settings: from the environment, else from `rota.toml`, else the default. Validated when first read."""

import functools
import ipaddress
import os
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from core.errors import Misconfigured
from core.model_providers import PROVIDERS
from core.model_providers import ProviderName as ModelProviderName

ROOT = Path(__file__).resolve().parent.parent

_PREFIX = "ROTA_"
_LEVELS = {name: name for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")} | {"WARN": "WARNING"}

Seconds = Annotated[float, Field(gt=0, le=10_000_000)]
Keeping = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=36_500))]


class _Environment(EnvSettingsSource):
    """The environment as a source of settings. A list may be written as `one,two` instead of JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON or a comma-separated list. Return any other value unchanged, so that validation reports it."""
        try:
            found = super().decode_complex_value(field_name, field, value)
        except ValueError:
            found = value
        if (
            get_origin(field.annotation) is list
            and isinstance(found, str)
            and not found.lstrip().startswith(("[", "{"))
        ):
            return [part.strip() for part in found.split(",") if part.strip()]
        return found


def _is_base_url(url: str) -> str:
    parts = urlsplit(url)
    _ = parts.port  # raises unless it is a number
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must read https://host/v1, without a query")
    return url.rstrip("/")


def _once_each(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names a model twice")
    return names


def _is_free(name: str) -> str:
    if name in {*PROVIDERS, "rehearsal"}:
        raise ValueError("is the name of a provider of ours; choose another")
    return name


ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"), AfterValidator(_is_free)]
ProviderUrl = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=2_000), AfterValidator(_is_base_url)
]
ServedModels = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f]{1,200}$")]],
    Field(min_length=1, max_length=500),
    AfterValidator(_once_each),
]


class ProviderSetting(BaseModel):
    """An endpoint that serves models over OpenAI's wire format, for every organisation."""

    model_config = ConfigDict(extra="forbid")

    name: ProviderName
    url: ProviderUrl
    key: SecretStr | None = None
    models: ServedModels


class Settings(BaseSettings):
    """Settings of one process. A setting's environment variable is its name in capitals after `ROTA_`; the few that
    other tools share (`DATABASE_URL`, `REDIS_URL`, the providers' keys and addresses) have no prefix.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", validate_by_name=True)

    # Servers
    database_url: str = Field(
        default="postgresql://rota_app@127.0.0.1/rota",
        validation_alias="DATABASE_URL",
        description="PostgreSQL 15 or newer, with a login that is the role rota_app or may become it",
    )
    system_database_url: str | None = Field(
        default=None, description="login for the role rota_system; default: database_url"
    )
    owner_database_url: str | None = Field(
        default=None, description="login for the role rota_owner; default: database_url"
    )
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    broker_url: str | None = Field(
        default=None, description="a broker other than Redis, amqp://user:password@host:5672//; default: redis_url"
    )
    database_pool_size: int = Field(default=16, ge=1, le=500)
    statement_timeout: Annotated[float, Field(gt=0, le=2_000_000)] = 30

    # HTTP
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65535)
    max_body_bytes: int = Field(default=1_000_000, ge=1_000)
    max_header_bytes: int = Field(default=32_768, ge=1_024, description="maximum size of a request's URL and headers")
    head_timeout: Seconds = Field(default=10, description="time-out for receiving a request's URL and headers")
    body_timeout: Seconds = Field(default=60, description="time-out for receiving a request's whole body")
    idle_timeout: Seconds = Field(default=5, description="time-out of an idle connection between two requests")
    send_timeout: Seconds = Field(default=30, description="time-out for a client that reads nothing of a response")
    # Below the usual limit of 1,024 open files per process, which leaves room for connections to other servers.
    max_connections: int = Field(default=768, ge=1, description="maximum open connections of one API process")
    max_connections_address: int = Field(
        default=256, ge=1, description="maximum open connections of one address; trusted proxies are exempt"
    )
    max_streams_organisation: int = Field(
        default=500, ge=1, description="maximum open streams of events of one organisation on one API process"
    )
    trusted_proxies: list[IPv4Network | IPv6Network] = Field(
        default=[],
        description="proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted, addresses or networks, as JSON: "
        '["10.0.0.7", "10.1.0.0/16"]',
    )
    allowed_hosts: list[str] = Field(
        default=[],
        description='accepted host names, as JSON: ["rota.example.com", "*.example.com"]; empty for any',
    )
    allowed_origins: list[str] = Field(
        default=[],
        description='origins whose web pages may use the API, as JSON: ["https://app.example.com"], ["*"] for any',
    )
    secret_key: SecretStr = Field(
        default=SecretStr(""), description="key of the hashes of API keys; if it is lost, all API keys are invalid"
    )

    encryption_keys: list[SecretStr] = Field(
        default=[],
        description="keys for secrets in the database: the first encrypts, all decrypt; default: one derived from "
        "secret_key",
    )
    requests_per_minute_key: int = Field(default=1_200, ge=1, description="rate limit of an API key")
    requests_per_minute_organisation: int = Field(default=6_000, ge=1)
    requests_per_minute_stranger: int = Field(
        default=300, ge=1, description="rate limit of an address without a valid key"
    )
    requests_per_minute_visitor: int = Field(
        default=240, ge=1, description="rate limit of a visitor; messages have the limits of its publishable key"
    )
    private_networks: list[str] = Field(
        default=[],
        description="private networks that may contain webhooks and mail servers of organisations: "
        "10.1.0.0/16,10.2.0.0/16",
    )

    # Files
    blobs_url: str | None = Field(
        default=None,
        description="where attachments are stored: file:///var/lib/rota/blobs, a folder that all processes share, or "
        "s3://bucket/prefix?endpoint=https://host&region=eu-1; default: .rota/blobs in the current folder",
    )
    blobs_access_key: SecretStr | None = Field(default=None, description="id of the key for S3-compatible storage")
    blobs_secret_key: SecretStr | None = Field(default=None, description="secret of the key for S3-compatible storage")
    blob_address_life: Seconds = Field(default=600, description="time for which the address of a file can be used")
    max_attachment_bytes: int = Field(default=10_000_000, ge=1, description="maximum size of an attachment")
    max_attachments: int = Field(default=10, ge=0, le=100, description="maximum number of attachments of a message")
    max_attachments_bytes: int = Field(
        default=20_000_000,
        ge=1,
        description="maximum size of the attachments of a message together, and of the images and PDF of earlier "
        "messages that a model reads again",
    )
    max_attachments_organisation_bytes: int = Field(
        default=10_000_000_000, ge=1, description="maximum size of all attachments of an organisation together"
    )

    # Models
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: str | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    providers: list[ProviderSetting] = Field(
        default=[],
        description="further endpoints that serve OpenAI's wire format, as JSON: "
        '[{"name": "house", "url": "http://10.1.0.5:8000/v1", "models": ["qwen3:8b"]}]; `key` is optional',
    )
    provider_headers: dict[str, str] = Field(
        default={}, description="headers of every model call, except to endpoints of organisations"
    )
    provider_patience: Seconds = Field(
        default=600,
        description="time for which a provider's outage counts no attempt; an agent's retry policy overrides it",
    )
    fallback_on: list[Literal["quota", "authentication"]] = Field(
        default=[],
        description="errors, besides outages, after which the fallback model is called, as JSON; an agent's retry "
        "policy overrides it",
    )
    rehearsal_url: str | None = Field(default=None, description="URL of the rehearsal model")

    # Work
    packs: list[Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*$")]] = Field(
        default=["business"], description="packages of the installed packs; [] for none"
    )
    tools: list[str] = Field(default=[], description="your own tools, as lists in modules: my_company.tools:TOOLS")
    worker_lease: Seconds = Field(
        default=10, description="the tasks of a worker without a heartbeat for this long are reaped"
    )
    heartbeat_interval: Seconds = Field(
        default=1, description="interval of worker heartbeats and of checks for cancellation"
    )
    drain_grace: Seconds = Field(
        default=20, description="time that a stopping worker waits for steps to end before it aborts their calls"
    )
    queue_bound: int = Field(default=256, ge=1, description="maximum messages on a Celery queue")
    ageing: Seconds = Field(
        default=120, description="a task that has been due for this long is treated as one of the next higher priority"
    )
    dispatch_interval: Seconds = Field(
        default=0.5, description="polling interval of the dispatcher when it gets no notification"
    )
    leader_lease: Seconds = Field(
        default=4, description="a leading dispatcher without a heartbeat for this long is replaced"
    )
    republish_after: Seconds = Field(
        default=3,
        description="age at which a published task that is neither claimed nor on its Celery queue is published again",
    )
    worker_max_age: Seconds | None = Field(default=None, description="age at which a worker process drains and exits")
    worker_max_memory: int | None = Field(
        default=None, ge=1_000_000, description="memory in bytes at which a worker process drains and exits"
    )
    stuck_after: Seconds = Field(
        default=60, description="a thread that exceeds a step's time limit by this much counts as stuck"
    )
    client_tools_patience: Keeping = Field(
        default=timedelta(hours=24),
        description="how long a task waits for the results of its client's tools before it expires",
    )
    keep_succeeded: Keeping = timedelta(hours=24)
    keep_failed: Keeping = timedelta(days=7)
    keep_events: Keeping = Field(
        default=timedelta(hours=24),
        description="how long events can be read; their details go with their tasks, after keep_succeeded",
    )
    keep_visitors: Keeping = Field(
        default=timedelta(days=30),
        description="how long visitors whose tokens expired are kept, with their conversations",
    )
    keep_reads: Keeping = Field(
        default=timedelta(days=90),
        description="how long the audit log keeps what agents read, unless an organisation chose another time",
    )
    keep_changes: Keeping | None = Field(
        default=None,
        description="how long the audit log keeps everything else, unless an organisation chose another time; default: "
        "for ever",
    )
    keep_conversations: Keeping | None = Field(
        default=None,
        description="time after its last message at which a conversation is deleted, unless an organisation chose "
        "another time; default: never",
    )
    keep_changes_least: Keeping = Field(
        default=timedelta(days=30),
        ge=timedelta(days=30),
        description="the least time for which organisations keep what the audit log has beside reads",
    )
    keep_most: Keeping | None = Field(
        default=None,
        ge=timedelta(days=1),
        description="the most time for which organisations keep audit log and conversations; default: no bound",
    )

    # Logs
    log_level: str = "INFO"
    log_json: bool = False

    @field_validator("database_url", "system_database_url", "owner_database_url")
    @classmethod
    def _is_postgres(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in {"postgresql", "postgres"}:
            raise ValueError("must read postgresql://user:password@host:port/database")
        if url is not None:
            _ = urlsplit(url).port  # raises unless it is a number
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_broker(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("must read redis://:password@host:port/0")
        _ = urlsplit(url).port
        return url

    @field_validator(*(f"{name}_base_url" for name in PROVIDERS), "rehearsal_url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise ValueError("must read https://host/path")
        if url:
            _ = urlsplit(url).port
        return url

    @field_validator("blobs_url")
    @classmethod
    def _is_storage(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
            return url
        (endpoint,) = parse_qs(parts.query).get("endpoint", [""])[:1]
        if parts.scheme == "s3" and parts.netloc and urlsplit(endpoint).scheme in {"http", "https"}:
            return url
        raise ValueError("must read file:///folder or s3://bucket/prefix?endpoint=https://host&region=eu-1")

    @field_validator("private_networks")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ipaddress.ip_network(network)  # its error names the network and what is wrong
        return networks

    @field_validator("log_level")
    @classmethod
    def _is_level(cls, level: str) -> str:
        if level.upper() not in _LEVELS:
            raise ValueError("must be one of DEBUG, INFO, WARNING, ERROR and CRITICAL")
        return _LEVELS[level.upper()]

    @field_validator("broker_url")
    @classmethod
    def _is_known_broker(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in {"amqp", "amqps", "redis", "rediss", "unix"}:
            raise ValueError("must read amqp://user:password@host:5672// or redis://:password@host:port/0")
        if url is not None:
            _ = urlsplit(url).port
        return url

    @field_validator("providers")
    @classmethod
    def _are_told_apart(cls, providers: list[ProviderSetting]) -> list[ProviderSetting]:
        names = [one.name for one in providers]
        if len(set(names)) < len(names):
            raise ValueError("two of them have the same name")
        return providers

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  `_Environment` reads the same variables
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the library passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls), TomlConfigSettingsSource(settings_cls, toml_file=_file())

    @property
    def pepper(self) -> str:
        """The secret that keys the hashes of API keys.

        Raises:
            Misconfigured: `secret_key` is not set.
        """
        if not self.secret_key.get_secret_value():
            raise Misconfigured(
                "ROTA_SECRET_KEY is not set. Choose a long random one, and keep it: API keys hang on it."
            )
        return self.secret_key.get_secret_value()

    @property
    def secrets(self) -> list[str]:
        """Every secret among the settings, for logs to mask."""
        return list(_secrets_in(self))

    @property
    def blobs_location(self) -> str:
        """The URL of the storage of files."""
        return self.blobs_url or (Path.cwd() / ".rota" / "blobs").as_uri()

    @property
    def broker(self) -> str:
        """The broker's URL."""
        return self.broker_url or self.redis_url

    @property
    def is_rehearsal(self) -> bool:
        """Whether model calls go to the rehearsal model: its URL is set, and no provider is configured."""
        return self.rehearsal_url is not None and not self.has_live_model

    @property
    def has_live_model(self) -> bool:
        """Whether a key or an address of a provider is configured."""
        return bool(self.providers) or any(self.key_of(name) or self.address_of(name) for name in PROVIDERS)

    def key_of(self, provider: ModelProviderName) -> SecretStr | None:
        """Return the key for a provider, if one is set."""
        key: SecretStr | None = getattr(self, f"{provider}_api_key")
        return key

    def address_of(self, provider: ModelProviderName) -> str | None:
        """Return the base URL at which a provider is called instead of its own, if one is set."""
        url: str | None = getattr(self, f"{provider}_base_url")
        return url

    def serves_itself(self, provider: ModelProviderName) -> bool:
        """Whether `provider` has a configured base URL. A server there may serve models that no price list knows."""
        return bool(self.address_of(provider))

    @property
    def usable_providers(self) -> set[str]:
        """The providers that can be called: those with a key or an address; all of them with the rehearsal model."""
        return {name for name in PROVIDERS if self.is_rehearsal or self.key_of(name) or self.address_of(name)}


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for _, field in value:
            yield from _secrets_in(field)
    elif isinstance(value, list):
        for one in value:
            yield from _secrets_in(one)


def load_settings() -> Settings:
    """Read and validate the settings.

    Raises:
        Misconfigured: a setting is wrong; the message names each of them and the problem.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"  {_problem(problem['loc'], problem['msg'])}" for problem in error.errors()]
        raise Misconfigured("These settings are not usable:\n" + "\n".join(lines)) from error
    except OSError as error:
        raise Misconfigured(f"The file of settings {_file()} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise Misconfigured(f"The file of settings {_file()} is not valid TOML: {error}") from error


def _file() -> Path:
    """Return the path of the settings file.

    Raises:
        Misconfigured: `ROTA_CONFIG` names a file that does not exist, or a folder.
    """
    named = os.environ.get("ROTA_CONFIG")
    if named and not Path(named).exists():
        raise Misconfigured(f"ROTA_CONFIG names the file {named}, which does not exist.")
    if named and Path(named).is_dir():
        raise Misconfigured(f"ROTA_CONFIG names {named}, which is a folder: name the file in it.")
    return Path(named or "rota.toml")


def _problem(place: tuple[int | str, ...], message: str) -> str:
    """Return what is wrong with a setting, with its name in the settings file and its environment variable."""
    name = str(place[0]) if place else ""
    field = Settings.model_fields.get(name.lower())
    variable = (field.validation_alias or f"{_PREFIX}{name.upper()}") if field else None
    called = name.lower() if field else name
    kind = get_origin(field.annotation) if field else None
    hint = {list: '; write one,two or ["one", "two"]', dict: '; write {"name": "value"}'}.get(kind) if kind else None
    inner = "".join(f"[{part}]" for part in place[1:])
    return f"{called}{f' ({variable})' if variable else ''}{inner}: {message.removeprefix('Value error, ')}{hint or ''}"


@functools.cache
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()
