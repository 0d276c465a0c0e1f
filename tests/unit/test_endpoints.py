"""Endpoints that serve models: which one serves a model under which name, and that no key of theirs is ever shown."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from core.settings import ProviderSetting
from domain.providers.routing import name_at, of_installation
from domain.providers.schemas import Endpoint, ProviderFields, StoredEndpoint, StoredSecret


@pytest.mark.parametrize(
    ("model", "models", "found"),
    [
        ("qwen3:8b", ["qwen3:8b"], "qwen3:8b"),
        ("ours/qwen3:8b", ["qwen3:8b"], "qwen3:8b"),
        ("ours/meta/llama", ["meta/llama"], "meta/llama"),
        ("meta/llama", ["meta/llama"], "meta/llama"),
        ("ours/x", ["x", "ours/x"], "ours/x"),  # the whole name goes before the name after the endpoint's
        ("theirs/qwen3:8b", ["qwen3:8b"], None),
        ("our/qwen3:8b", ["qwen3:8b"], None),
        ("oursqwen3:8b", ["qwen3:8b"], None),
        ("qwen3", ["qwen3:8b"], None),
        ("ours/", ["qwen3:8b"], None),
        ("ours", ["qwen3:8b"], None),
        ("", ["qwen3:8b"], None),
        ("Qwen3:8b", ["qwen3:8b"], None),
    ],
)
def test_a_model_is_named_alone_or_after_its_endpoint(model: str, models: list[str], found: str | None) -> None:
    assert name_at(model, "ours", models) == found


def setting(name: str, *models: str, key: str | None = None) -> ProviderSetting:
    secret = SecretStr(key) if key else None
    return ProviderSetting(name=name, url=f"https://{name}.example.com/v1", models=list(models), key=secret)


def test_the_first_endpoint_of_the_settings_that_serves_a_model_is_taken() -> None:
    endpoints = [setting("one", "a"), setting("two", "b", "c", key="sk-2"), setting("three", "c", key="sk-3")]
    assert of_installation("c", endpoints) == Endpoint("two", "https://two.example.com/v1", "sk-2", "c")
    assert of_installation("three/c", endpoints) == Endpoint("three", "https://three.example.com/v1", "sk-3", "c")
    assert of_installation("a", endpoints) == Endpoint("one", "https://one.example.com/v1", None, "a")
    assert of_installation("one/c", endpoints) is None
    assert of_installation("a", []) is None


def test_an_endpoint_of_the_installation_is_not_an_organisations_own() -> None:
    found = of_installation("a", [setting("one", "a")])
    assert found is not None
    assert not found.is_own


_letters = st.text(string.ascii_letters + string.digits + "-_/:.", min_size=1, max_size=9)


@given(st.lists(_letters, min_size=1, max_size=4, unique=True), st.data())
def test_every_model_that_an_endpoint_lists_is_found_under_both_names(models: list[str], data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(models))
    assert name_at(model, "ours", models) == model
    assert name_at(f"ours/{model}", "ours", models) in {model, f"ours/{model}"}
    assert name_at(f"ours/{model}", "ours", models) in models


def test_no_key_is_shown_where_an_endpoint_is_logged() -> None:
    shown = [
        repr(Endpoint("ours", "https://x.example.com/v1", "sk-secret-1", "m")),
        f"{Endpoint('ours', 'https://x.example.com/v1', 'sk-secret-1', 'm')}",
        repr(StoredEndpoint("ours", "https://x.example.com/v1", b"sk-secret-1", ["m"])),
        repr(StoredSecret(org_id=None, name="ours", secret=b"sk-secret-1")),  # type: ignore[arg-type]
        repr(ProviderFields(url="https://x.example.com/v1", models=["m"], key=SecretStr("sk-secret-1"))),
    ]
    assert not [text for text in shown if "secret-1" in text]
    assert all("ours" in text for text in shown[:4])


@pytest.mark.parametrize(
    ("key", "is_sent"),
    [
        ("sk-1", True),
        ("two words", True),
        ("!~", True),
        ("sk-1\n", False),  # read from a file: the line break would end the header
        ("sk-1\r\nx-admin: 1", False),
        (" sk-1", False),
        ("sk-1 ", False),
        ("sk-\u00e9", False),
        ("sk-\x00", False),
        ("sk-\x7f", False),
        ("k" * 2_000, True),
        ("k" * 2_001, False),
    ],
)
def test_a_key_that_no_header_can_carry_is_refused(key: str, is_sent: bool) -> None:
    def fields() -> ProviderFields:
        return ProviderFields(url="https://x.example.com/v1", models=["m"], key=SecretStr(key))

    if is_sent:
        found = fields().key
        assert found is not None
        assert found.get_secret_value() == key
    else:
        with pytest.raises(ValidationError) as refused:
            fields()
        assert key.strip() not in str(refused.value)
