"""Structured logs: one event a line, JSON for machines or columns for people, on standard error."""

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any

import structlog

from core.model_providers import PROVIDERS

_FORMS = r"rota(?:pub|vis)?_[0-9a-f]{32}_[0-9a-f]{16,}|whsec_[A-Za-z0-9+/=]{16,}|sk-[A-Za-z0-9_-]{16,}"
_HUSHED = re.compile(r"(^|_)(password|secret|api_key|authorization|token)$")
_SHORTEST = 8  # a shorter one is a placeholder, and masked it would take words out of every line


class _Mask:
    """Replaces secrets in text: what has the form of one, and those that are configured, whatever their form."""

    def __init__(self) -> None:
        self._secret = re.compile(_FORMS)

    def know(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, and none that were known before."""
        known = {secret for secret in secrets if len(secret) >= _SHORTEST}
        spelt = known | {json.dumps(secret)[1:-1] for secret in known}  # as it stands in a line of JSON
        self._secret = re.compile("|".join([*map(re.escape, sorted(spelt, key=len, reverse=True)), _FORMS]))

    def __call__(self, text: str) -> str:
        return self._secret.sub("***", text)


_mask = _Mask()


def mask_secrets(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Mask keys and passwords in a log event, wherever it comes from."""
    return {name: "***" if _HUSHED.search(name) else _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    return _mask(value) if isinstance(value, str) else value


def _mask_rendered(_logger: Any, _method: str, line: Any) -> str:
    """Mask keys in a finished line: tracebacks and nested values have become text only now."""
    return _mask(line)


_NOISY = ("httpx2", "httpcore2", "alembic", *PROVIDERS)


def configure_logging(*, level: str = "INFO", as_json: bool = False, secrets: Iterable[str]) -> None:
    """Send the records of both structlog and the standard library through one formatter, which masks `secrets`."""
    _mask.know(secrets)
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[*last, renderer, _mask_rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger called `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
