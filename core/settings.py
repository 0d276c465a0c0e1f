"""Every setting, from the environment, then `rota.toml`, then the default. Validated when first read."""

import functools
import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from core.errors import Misconfigured

ROOT = Path(__file__).resolve().parent.parent

Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Settings of one process. An environment variable is the name in capitals with `ROTA_` before it; the few that
    other tools share (`DATABASE_URL`, `REDIS_URL`, the providers' keys and addresses) go without the prefix.
    """

    model_config = SettingsConfigDict(env_prefix="ROTA_", extra="forbid", validate_by_name=True)

    # Servers
    database_url: str = Field(
        default="postgresql://rota_app@127.0.0.1/rota",
        validation_alias="DATABASE_URL",
        description="PostgreSQL 15 or newer, as a login that is, or may become, the role rota_app",
    )
    system_database_url: str | None = Field(default=None, description="as rota_system; default: database_url")
    owner_database_url: str | None = Field(default=None, description="as rota_owner; default: database_url")
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    broker_url: str | None = Field(
        default=None, description="a broker other than Redis, amqp://user:password@host:5672//; default: redis_url"
    )
    database_pool_size: int = Field(default=16, ge=1, le=500)
    statement_timeout: Seconds = 30

    # HTTP
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65535)
    max_body_bytes: int = Field(default=1_000_000, ge=1_000)
    secret_key: SecretStr = Field(
        default=SecretStr(""), description="keys the hashes of API keys; keep it, or every key is void"
    )

    encryption_keys: list[SecretStr] = Field(
        default=[],
        description="for secrets kept in the database, as JSON: the first encrypts, all decrypt; default: one derived "
        "from secret_key",
    )
    requests_per_minute_key: int = Field(default=1_200, ge=1, description="that one API key may send")
    requests_per_minute_organisation: int = Field(default=6_000, ge=1)
    requests_per_minute_stranger: int = Field(default=300, ge=1, description="without a valid key, by address")
    private_networks: list[str] = Field(
        default=[],
        description="that webhooks and mail servers of organisations may be in, though they are not public, as JSON: "
        '["10.1.0.0/16"]',
    )

    # Models
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    anthropic_base_url: str | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    provider_headers: dict[str, str] = Field(default={}, description="sent along with every model call")
    rehearsal_url: str | None = Field(default=None, description="where the rehearsal model listens")

    # Work
    tools: list[str] = Field(
        default=[], description='tools of your own, as JSON: ["my_company.tools:TOOLS"] names a list in a module'
    )
    worker_lease: Seconds = Field(default=10, description="a worker silent for longer loses its tasks")
    heartbeat_interval: Seconds = Field(default=1, description="a cancelled task notices within this time")
    drain_grace: Seconds = Field(
        default=20, description="a stopping worker waits this long for steps to end, then ends their calls"
    )
    queue_bound: int = Field(default=256, ge=1, description="messages a Celery queue may hold at most")
    ageing: Seconds = Field(
        default=120, description="a task that has been due for so long is treated as one of the next higher priority"
    )
    dispatch_interval: Seconds = Field(default=0.5, description="the dispatcher looks this often without a hint")
    leader_lease: Seconds = Field(default=4, description="a leading dispatcher silent for longer is displaced")
    republish_after: Seconds = Field(
        default=3, description="a published task neither claimed nor on its Celery queue is published again"
    )
    worker_max_age: Seconds | None = Field(default=None, description="an older worker process drains and ends itself")
    worker_max_memory: int | None = Field(
        default=None, ge=1_000_000, description="bytes; a larger worker process drains and ends itself"
    )
    stuck_after: Seconds = Field(
        default=60, description="a thread this much longer in one step than the step may take counts as stuck"
    )
    keep_succeeded: timedelta = timedelta(hours=24)
    keep_failed: timedelta = timedelta(days=7)

    # Logs
    log_level: Annotated[str, StringConstraints(to_upper=True)] = "INFO"
    log_json: bool = False

    @field_validator("database_url", "system_database_url", "owner_database_url")
    @classmethod
    def _is_postgres(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in {"postgresql", "postgres"}:
            raise ValueError("must read postgresql://user:password@host:port/database")
        if url is not None:
            _ = urlsplit(url).port  # raises where it is no number
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_broker(cls, url: str) -> str:
        if urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("must read redis://:password@host:port/0")
        return url

    @field_validator("broker_url")
    @classmethod
    def _is_known_broker(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in {"amqp", "amqps", "redis", "rediss", "unix"}:
            raise ValueError("must read amqp://user:password@host:5672// or redis://:password@host:port/0")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the library passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get("ROTA_CONFIG", "rota.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    @property
    def pepper(self) -> str:
        """What keys the hashes of API keys.

        Raises:
            Misconfigured: it is not set.
        """
        if not self.secret_key.get_secret_value():
            raise Misconfigured(
                "ROTA_SECRET_KEY is not set. Choose a long random one, and keep it: API keys hang on it."
            )
        return self.secret_key.get_secret_value()

    @property
    def broker(self) -> str:
        """The broker's URL."""
        return self.broker_url or self.redis_url

    @property
    def is_rehearsal(self) -> bool:
        """Whether model calls go to the rehearsal model: it was named, and no provider was configured."""
        return self.rehearsal_url is not None and not self.has_live_model

    @property
    def has_live_model(self) -> bool:
        """Whether a key or an address for a provider was given."""
        return any((self.anthropic_api_key, self.openai_api_key, self.anthropic_base_url, self.openai_base_url))


def load_settings() -> Settings:
    """Read and validate the settings.

    Raises:
        Misconfigured: naming every setting that is wrong, and how.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise Misconfigured("These settings are not usable:\n" + "\n".join(lines)) from error


@functools.cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
