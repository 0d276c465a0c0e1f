"""Structured logs: one event a line, JSON for machines or columns for people, on standard error."""

import logging
import re
import sys
from typing import Any

import structlog

from core.model_providers import PROVIDERS

_SECRET = re.compile(r"rota_[0-9a-f]{32}_[0-9a-f]{16,}|whsec_[A-Za-z0-9+/=]{16,}|sk-[A-Za-z0-9_-]{16,}")
_HUSHED = {"password", "secret", "api_key", "authorization", "token"}


def mask_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Mask keys and passwords in a log event, wherever it comes from."""
    return {name: "***" if name in _HUSHED else _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    return _SECRET.sub("***", value) if isinstance(value, str) else value


_NOISY = ("httpx2", "httpcore2", "alembic", *PROVIDERS)


def configure_logging(*, level: str = "INFO", as_json: bool = False) -> None:
    """Send the records of both structlog and the standard library through one formatter."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        mask_secrets,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the pretty one prints local variables: secrets
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        last.append(structlog.processors.format_exc_info)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*last, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger called `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
