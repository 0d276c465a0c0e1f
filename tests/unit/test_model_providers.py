"""What each provider of models needs: an entry, its settings, an adapter, a wire to rehearse, a model for the suite."""

import importlib
import inspect
from typing import get_args

import pytest
from pydantic import SecretStr

from core.model_providers import ADDRESS_VARIABLES, KEY_VARIABLES, PROVIDERS, ProviderName, provider_of
from core.settings import ROOT, Settings
from embedded.environments import NEEDS, SECRETS
from embedded.rehearsal.wires import WIRES
from embedded.state import is_shared
from tests.contract.conftest import MODELS
from tests.support.dialects import dialect_of


def test_the_type_the_table_the_wires_and_the_suite_name_the_same_providers() -> None:
    named = {"ProviderName": get_args(ProviderName), "WIRES": WIRES, "MODELS of the contract suite": MODELS}
    for what, names in named.items():
        assert set(names) == set(PROVIDERS), f"{what} and PROVIDERS do not name the same providers"
    assert len({wire.path for wire in WIRES.values()}) == len(WIRES)
    for name, provider in PROVIDERS.items():
        assert WIRES[name].path.startswith(f"{provider.path}/"), f"{name}: the SDK appends to what the entry calls path"
        assert dialect_of(name)
    assert len({provider.models for provider in PROVIDERS.values()}) == len(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_has_its_settings_under_its_variables(name: ProviderName, monkeypatch: pytest.MonkeyPatch) -> None:
    key, address = PROVIDERS[name].variables
    monkeypatch.setenv(key, "k")
    monkeypatch.setenv(address, "http://127.0.0.1:1/v1")
    config = Settings()
    assert config.key_of(name) == SecretStr("k")
    assert config.address_of(name) == "http://127.0.0.1:1/v1"
    assert config.usable_providers == {name}
    assert config.has_live_model
    monkeypatch.setenv(address, "no address")
    with pytest.raises(ValueError, match="must read https"):
        Settings()


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_has_an_adapter_and_models_that_lead_to_it(name: ProviderName) -> None:
    module, _, adapter = PROVIDERS[name].adapter.partition(":")
    made = getattr(importlib.import_module(module), adapter)
    assert {"complete", "stream"} <= set(dir(made))
    inspect.signature(made).bind(name="n", api_key="k", base_url=None, http_client=None, remedies=None)
    assert provider_of(MODELS[name]) == name
    assert PROVIDERS[name].variables[0] in PROVIDERS[name].cure


def test_keys_are_secrets_of_workers_and_go_with_an_installation() -> None:
    assert set(KEY_VARIABLES) <= SECRETS & NEEDS["worker"]
    assert not set(KEY_VARIABLES) & (NEEDS["beat"] | NEEDS["flower"] | NEEDS["migrate"])
    assert all(map(is_shared, (*KEY_VARIABLES, *ADDRESS_VARIABLES)))


@pytest.mark.parametrize("name", PROVIDERS)
def test_keys_are_named_where_operators_look_for_them(name: ProviderName) -> None:
    key, address = PROVIDERS[name].variables
    for file, variables in (("docs/operations.md", (key, address)), ("deploy/compose.yaml", (key,))):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert all(variable in text for variable in variables), f"{file} does not name {variables}"


def test_the_longest_beginning_of_a_models_name_decides() -> None:
    assert provider_of("claude-haiku-4-5") == "anthropic"
    assert provider_of("gpt-4o-mini") == provider_of("my-claude") == "openai"
