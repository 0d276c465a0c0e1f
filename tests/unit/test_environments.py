"""Each process gets the secrets that it needs and no others."""

import json

import pytest

from embedded.environments import NEEDS, SECRETS, WITHHELD, environment_for

WHOLE = (
    dict.fromkeys(SECRETS, "secret")
    | {"ROTA_PROVIDERS": '[{"name": "a", "key": "secret"}]'}
    | {"ROTA_LOG_LEVEL": "INFO", "PATH": "/bin"}
)


@pytest.mark.parametrize("process", NEEDS)
def test_a_process_gets_what_it_needs_and_all_that_is_no_secret(process: str) -> None:
    got = environment_for(process, WHOLE)
    assert {name for name in got.keys() & SECRETS if WITHHELD not in got[name]} == NEEDS[process]
    assert (got["ROTA_LOG_LEVEL"], got["PATH"]) == ("INFO", "/bin")


def test_the_owners_url_is_for_migrations_alone_and_the_secret_key_for_the_api_alone() -> None:
    held = {
        process: {name for name, value in environment_for(process, WHOLE).items() if WITHHELD not in value}
        for process in NEEDS
    }
    assert {process for process, names in held.items() if "ROTA_OWNER_DATABASE_URL" in names} == {"migrate"}
    assert {process for process, names in held.items() if "ROTA_SECRET_KEY" in names} == {"api"}
    assert {process for process, names in held.items() if "ANTHROPIC_API_KEY" in names} == {"worker"}
    assert not any("DATABASE_URL" in name for process in ("flower", "beat", "rehearsal") for name in held[process])


def test_with_one_login_and_no_keys_for_the_vault_what_stands_in_for_them_is_given() -> None:
    single = {"DATABASE_URL": "d", "REDIS_URL": "r", "ROTA_SECRET_KEY": "k"}
    assert environment_for("dispatcher", single).keys() == {"DATABASE_URL", "REDIS_URL"}
    assert environment_for("worker", single) == single
    assert environment_for("flower", single).keys() == {"REDIS_URL"}


def test_keys_of_providers_are_known_to_be_there_where_they_are_withheld() -> None:
    house = {"name": "house", "url": "http://h/v1", "models": ["m"]}
    endpoints = json.dumps([house | {"key": "k"}, house])
    whole = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "", "ROTA_PROVIDERS": endpoints}
    for process in ("api", "dispatcher"):
        made = environment_for(process, whole)
        assert made["OPENAI_API_KEY"] == WITHHELD
        assert "ANTHROPIC_API_KEY" not in made
        assert [one.get("key") for one in json.loads(made["ROTA_PROVIDERS"])] == [WITHHELD, None]
    assert environment_for("worker", whole) == whole
    assert environment_for("api", {"ROTA_PROVIDERS": "no JSON"})["ROTA_PROVIDERS"] == "no JSON"
