"""Settings: what is accepted, and how a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import Misconfigured
from core.model_providers import PROVIDERS
from core.packs import load
from core.settings import Settings, load_settings

HOUSE = {"name": "house", "url": "http://10.1.0.5:8000/v1", "models": ["qwen3:8b"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "postgresql://rota@db/rota"),
        ("database_url", "postgres://u:p%40ss@[::1]:5433/rota"),
        ("redis_url", "rediss://:password@cache:6380/1"),
        ("redis_url", "unix:///run/valkey.sock"),
        ("broker_url", "amqps://u:p@mq:5671//"),
        ("rehearsal_url", "http://127.0.0.1:9"),
        ("openai_base_url", "https://llm.example.com:8443/v1"),
        ("openai_base_url", ""),  # a variable that is set and empty counts as none
        ("private_networks", ["10.0.0.0/8", "fd00::/8", "10.1.2.3"]),
        ("trusted_proxies", ["10.0.0.7", "fd00::/8"]),
        ("packs", []),
        ("packs", ["my_gym.pack"]),
    ],
)
def test_what_leads_to_a_server_or_a_network_is_accepted(name: str, value: Any) -> None:
    assert getattr(Settings(**{name: value}), name) is not None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("database_url", "mysql://rota@db/rota", "must read postgresql://"),
        ("system_database_url", "db.example.com", "must read postgresql://"),
        ("owner_database_url", "postgresql://rota@db:port/rota", "Port could not be cast"),
        ("redis_url", "redis://cache:many/0", "Port could not be cast"),
        ("redis_url", "cache:6379", "must read redis://"),
        ("broker_url", "kafka://mq", "must read amqp://"),
        ("broker_url", "amqp://mq:99999//", "Port out of range"),
        ("rehearsal_url", "127.0.0.1:9", "must read https://host/path"),
        ("anthropic_base_url", "ftp://llm.example.com", "must read https://host/path"),
        ("openai_base_url", "https://", "must read https://host/path"),
        ("private_networks", ["10.1.2.3/8"], "10.1.2.3/8 has host bits set"),
        ("private_networks", ["office"], "'office' does not appear to be"),
        ("trusted_proxies", ["proxy.example.com"], "not a valid IPv"),
        ("packs", ["../evil"], "should match pattern"),
        ("log_level", "loud", "must be one of DEBUG"),
        ("worker_lease", 0, "greater than 0"),
        ("queue_bound", 0, "greater than or equal to 1"),
        ("api_port", 65_536, "less than or equal to 65535"),
        ("keep_failed", "-PT1S", "greater than or equal to 0"),
        ("fallback_on", ["rate_limit"], "'quota' or 'authentication'"),
        ("unheard_of", 1, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"name": "openai"}], "is the name of a provider of ours"),
        ([{"name": "rehearsal"}], "is the name of a provider of ours"),
        ([{"name": "House"}], "should match pattern"),
        ([{"name": "-house"}], "should match pattern"),
        ([{}, {}], "two of them have the same name"),
        ([{"models": []}], "at least 1 item"),
        ([{"models": ["a", "b", "a"]}], "names a model twice"),
        ([{"models": ["a b"]}], "should match pattern"),
        ([{"url": "http://u:p@10.1.0.5/v1"}], "should match pattern"),  # a password would end up in logs
        ([{"url": "http://h/v1?key=1"}], "without a query"),
        ([{"url": "http://h/v1#top"}], "without a query"),
        ([{"url": "http://h:port/v1"}], "Port could not be cast"),
        ([{"url": "ftp://h/v1"}], "should match pattern"),
        ([{"keys": "k"}], "Extra inputs are not permitted"),
    ],
)
def test_an_endpoint_that_cannot_be_called_or_told_apart_is_refused(changes: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.model_validate({"providers": [HOUSE | change for change in changes]})


def test_endpoints_are_read_from_the_environment_and_their_keys_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "ROTA_PROVIDERS", '[{"name": "house", "url": "http://h:1/v1//", "key": "hunter2", "models": ["a", "b"]}]'
    )
    found = load_settings()
    (one,) = found.providers
    assert (one.url, one.key, one.models) == ("http://h:1/v1", SecretStr("hunter2"), ["a", "b"])
    assert "hunter2" not in repr(found)
    assert (found.has_live_model, found.usable_providers) == (True, set())


# ── what follows from the settings ───────────────────────────────────────────────────────────────────────────────────


def test_without_a_secret_key_there_is_no_pepper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROTA_SECRET_KEY", raising=False)  # other tests of the process may need one
    with pytest.raises(Misconfigured, match="ROTA_SECRET_KEY is not set"):
        _ = Settings().pepper
    assert Settings(secret_key=SecretStr("k")).pepper == "k"


def test_the_broker_is_redis_unless_another_is_named() -> None:
    assert Settings(redis_url="redis://r/3").broker == "redis://r/3"
    assert Settings(redis_url="redis://r/3", broker_url="amqp://mq//").broker == "amqp://mq//"


@pytest.mark.parametrize(
    ("given", "is_rehearsal", "usable"),
    [
        ({}, False, set()),
        ({"rehearsal_url": "http://r"}, True, set(PROVIDERS)),
        ({"rehearsal_url": "http://r", "openai_api_key": "k"}, False, {"openai"}),
        ({"rehearsal_url": "http://r", "anthropic_base_url": "http://a"}, False, {"anthropic"}),
        ({"rehearsal_url": "http://r", "providers": [HOUSE]}, False, set()),
        ({"anthropic_api_key": "k", "openai_base_url": "http://o"}, False, {"anthropic", "openai"}),
    ],
)
def test_one_live_provider_ends_the_rehearsal(given: dict[str, Any], is_rehearsal: bool, usable: set[str]) -> None:
    found = Settings(**given)
    assert (found.is_rehearsal, found.usable_providers) == (is_rehearsal, usable)
    assert found.serves_itself("openai") == ("openai_base_url" in given)


# ── the file, and what is told ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "which does not exist"),
        (lambda path: path.mkdir(), "which is a folder: name the file in it"),
        (lambda path: path.write_text("queue_bound = "), "is not valid TOML"),
        (lambda path: path.write_text("queue_bound = 'x'"), r"queue_bound \(ROTA_QUEUE_BOUND\): Input should be"),
        (lambda path: path.write_text("packs = [1]"), r"packs \(ROTA_PACKS\)\[0\]: Input should be a valid string"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Any, said: str
) -> None:
    file = tmp_path / "rota.toml"
    make(file)
    monkeypatch.setenv("ROTA_CONFIG", str(file))
    with pytest.raises(Misconfigured, match=said):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ROTA_PRIVATE_NETWORKS", '{"a": 1}', 'write one,two or ["one", "two"]'),
        ("ROTA_PROVIDER_HEADERS", "x-team", 'write {"name": "value"}'),
        ("DATABASE_URL", "mysql://db", "database_url (DATABASE_URL): must read postgresql://"),
        ("ROTA_PROVIDERS", '[{"name": "house"}]', "providers (ROTA_PROVIDERS)[0][url]: Field required"),
    ],
)
def test_a_wrong_variable_is_named_with_the_form_to_write(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert said in caught.value.message


def test_every_wrong_setting_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_API_PORT", "-1")
    monkeypatch.setenv("ROTA_LOG_LEVEL", "loud")
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert [line.split()[0] for line in caught.value.message.splitlines()[1:]] == ["api_port", "log_level"]


# ── packs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (None, "ROTA_PACKS names pack_for_test, which cannot be imported: No module named"),
        ("raise OSError('no disk')", "which cannot be imported: no disk. Install it, or leave it out."),
        ("import nothing_of_that_name", "cannot be imported: No module named 'nothing_of_that_name'"),
        ("pack = 1", "which has no PACK: it is no pack"),
    ],
)
def test_a_pack_that_cannot_be_loaded_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str | None, said: str
) -> None:
    if module is not None:
        (tmp_path / "pack_for_test.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "pack_for_test", raising=False)
    with pytest.raises(Misconfigured, match=said):
        load(("pack_for_test",))


def test_packs_come_in_the_order_of_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("first_pack_for_test", "second_pack_for_test"):
        (tmp_path / f"{name}.py").write_text(f"PACK = {name!r}")
    monkeypatch.syspath_prepend(tmp_path)
    assert load(("second_pack_for_test", "first_pack_for_test")) == ("second_pack_for_test", "first_pack_for_test")
    assert load(()) == ()
