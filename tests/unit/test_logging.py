"""Logs keep secrets to themselves, and are one event a line."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from core.ids import new_id
from core.logging import configure_logging, get_logger, mask_secrets
from core.model_providers import PROVIDERS
from core.settings import Settings

KEY = f"rota_{'a' * 32}_{'b' * 64}"
SECRETS = [KEY, f"whsec_{'A' * 40}", f"sk-proj-{'c' * 40}"]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging as it was before."""
    root, configuration = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    configure_logging(secrets=())  # which forgets the secrets
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configuration)


def test_keys_and_passwords_do_not_reach_the_logs() -> None:
    event = {"event": f"sent {KEY} and whsec_{'A' * 40}", "password": "hunter2", "status": 3, "path": "/v1/tasks"}
    masked = mask_secrets(None, "info", event)
    assert masked == {"event": "sent *** and ***", "password": "***", "status": 3, "path": "/v1/tasks"}


class Further(Settings):
    """The settings with the key of a provider that is to come."""

    acme_api_key: SecretStr | None = None


@pytest.mark.parametrize(
    "given",
    [
        *({f"{name}_api_key": "{}"} for name in PROVIDERS),
        {"acme_api_key": "{}"},
        {"providers": [{"name": "house", "url": "http://h:1/v1", "key": "{}", "models": ["a"]}]},
        {"secret_key": "{}"},
        {"encryption_keys": ["first-key", "{}"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("secret", ["gsk.4711-of-no-known-form", 'of "quoted" parts', "12345678"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_configured_key_is_masked_whatever_its_form_and_its_provider(
    capsys: pytest.CaptureFixture[str], given: dict[str, Any], secret: str, as_json: bool
) -> None:
    config = Further.model_validate(json.loads(json.dumps(given).replace("{}", json.dumps(secret)[1:-1])))
    configure_logging(as_json=as_json, secrets=config.secrets)
    log = get_logger(f"test-{new_id()}")
    log.warning("sent", text=f"with {secret}!", url=f"http://h/?key={secret}", nested={"headers": [secret]})
    names: dict[str, str] = {}
    try:
        _ = names[secret]
    except KeyError:
        log.exception("in a traceback")
    told = capsys.readouterr().err
    assert told.count("***") >= 4
    for spelt in (secret, json.dumps(secret)[1:-1]):
        assert spelt not in told


def test_a_configured_placeholder_takes_no_words_out_of_the_logs() -> None:
    configure_logging(secrets=Settings(openai_api_key=SecretStr("none"), secret_key=SecretStr("")).secrets)
    assert mask_secrets(None, "info", {"event": "none of them"}) == {"event": "none of them"}


def test_a_key_that_begins_with_another_is_masked_to_its_end() -> None:
    configure_logging(secrets=["opensesame", "opensesame-again"])
    assert mask_secrets(None, "info", {"event": "opensesame-again"}) == {"event": "***"}


@pytest.mark.parametrize(
    "name", ["password", "secret", "api_key", "authorization", "token", "acme_api_key", "smtp_password"]
)
def test_what_is_named_a_secret_is_masked_whatever_its_form(name: str) -> None:
    assert mask_secrets(None, "info", {name: "short"}) == {name: "***"}
    assert mask_secrets(None, "info", {name: ["short"]}) == {name: "***"}


@pytest.mark.parametrize("text", ["rota_1_2", "task-4711", "sk-short", "the disk-full alarm", "rota_due"])
def test_ordinary_words_are_left(text: str) -> None:
    assert mask_secrets(None, "info", {"event": text}) == {"event": text}


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_line_holds_a_key_wherever_it_came_from(
    capsys: pytest.CaptureFixture[str], as_json: bool, secret: str
) -> None:
    configure_logging(as_json=as_json, secrets=())
    log, foreign = get_logger(f"test-{new_id()}"), logging.getLogger(f"foreign-{new_id()}")
    log.warning("in a value", header=f"Bearer {secret}", nested={"headers": [("authorization", secret)]})
    foreign.warning("in a record of a library: %s", secret)
    names: dict[str, str] = {}
    for tell in (log.exception, foreign.exception):
        try:
            _ = names[secret]
        except KeyError:
            tell("in a traceback")
    told = capsys.readouterr().err
    assert told.count("KeyError: '***'") == 2
    assert secret not in told
    assert "Traceback" in told


def test_for_machines_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="INFO", as_json=True, secrets=())
    log = get_logger("here")
    log.debug("too fine")
    log.info("done\nwith a break", count=3)
    logging.getLogger("there").error("foreign %s", "record")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (first["event"], first["count"], first["level"], first["logger"]) == (
        "done\nwith a break",
        3,
        "info",
        "here",
    )
    assert (second["event"], second["level"], second["logger"]) == ("foreign record", "error", "there")
    assert first["timestamp"].endswith("Z")


@pytest.mark.parametrize("name", ["httpx2", "alembic", *PROVIDERS])
def test_libraries_that_tell_every_request_are_heard_from_warnings_on(name: str) -> None:
    configure_logging(level="DEBUG", secrets=())
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    assert logging.getLogger(name).isEnabledFor(logging.WARNING)
