"""Where a process calls models: which places it can use, and how their accounts are told apart."""

from dataclasses import replace

import httpx2
import openai
import pytest
from pydantic import SecretStr

from agents.llm.base import Request, UserMessage
from agents.llm.errors import ModelError
from agents.llm.models import Models
from agents.llm.transport import whole_address
from core.errors import Misconfigured
from core.model_providers import ADDRESS_VARIABLES, PROVIDERS, ProviderName
from core.settings import Settings
from domain.providers.schemas import Endpoint

ASKED = Request(model="m", system="", messages=[UserMessage(text="Hello")])
ENDPOINT = Endpoint("ours", "http://127.0.0.1:9/v1", "sk-1", "m")


def models(**config: str) -> Models:
    return Models(Settings.model_validate(config))


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_without_a_key_and_an_address_cannot_be_called_and_the_error_says_what_to_set(
    name: ProviderName,
) -> None:
    bare = models()
    assert not bare.is_usable(name)
    with pytest.raises(Misconfigured, match=PROVIDERS[name].variables[0]):
        bare.complete(name, ASKED)
    with pytest.raises(Misconfigured, match=PROVIDERS[name].variables[0]):
        list(bare.stream(name, ASKED))
    bare.warm_up()  # makes what clients it can
    bare.close()


@pytest.mark.parametrize("manner", ["complete", "stream"])
def test_each_provider_without_a_configured_address_is_called_at_a_host_of_its_own(
    monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    for variable in ADDRESS_VARIABLES:  # which the SDKs read, too
        monkeypatch.delenv(variable, raising=False)
    called: list[httpx2.Request] = []

    def note(request: httpx2.Request) -> httpx2.Response:
        called.append(request)
        return httpx2.Response(500)

    monkeypatch.setattr("agents.llm.models.make_client", lambda _: httpx2.Client(transport=httpx2.MockTransport(note)))
    hosts: dict[str, str] = {}
    for name in PROVIDERS:
        ours = models(**{f"{one}_api_key": f"key-of-{one}" for one in PROVIDERS})
        with pytest.raises(ModelError):
            list(ours.stream(name, ASKED)) if manner == "stream" else ours.complete(name, ASKED)
        [request] = called
        called.clear()
        assert f"key-of-{name}" in f"{request.url} {dict(request.headers)}"
        host = request.url.host
        assert host not in hosts, (
            f"{name} is called at {host}, as {hosts[host]} is: keys go to the wrong server. "
            "Give base_url in its entry in core/model_providers.py."
        )
        hosts[host] = name


def test_a_configured_address_precedes_that_of_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    there = replace(PROVIDERS["openai"], base_url="https://api.acme.example/v1")
    monkeypatch.setitem(PROVIDERS, "openai", there)
    configured = models(openai_api_key="k", openai_base_url="http://127.0.0.1:9/v1")
    assert configured._access("openai") == ("k", "http://127.0.0.1:9/v1")
    assert models(openai_api_key="k")._access("openai") == ("k", "https://api.acme.example/v1")
    assert not models().is_usable("openai")  # an address of the provider's own is no reason to call it


def test_a_provider_with_a_key_or_an_address_can_be_called_and_an_endpoint_always() -> None:
    assert models(openai_api_key="sk-1").is_usable("openai")
    assert not models(openai_api_key="sk-1").is_usable("anthropic")
    assert models(openai_base_url="http://127.0.0.1:9/v1").is_usable("openai")
    assert models(rehearsal_url="http://127.0.0.1:9").is_usable("anthropic")
    assert models().is_usable(ENDPOINT)


def test_models_of_one_endpoint_share_an_account_and_another_key_or_address_is_another() -> None:
    ours = models()
    accounts = [
        ours.account_key(place)
        for place in (
            ENDPOINT,
            replace(ENDPOINT, model="n"),
            replace(ENDPOINT, key="sk-2"),
            replace(ENDPOINT, key=None),
            replace(ENDPOINT, url="http://127.0.0.1:8/v1"),
        )
    ]
    assert accounts[0] == accounts[1]
    assert len(set(accounts)) == 4
    assert models().account_key(ENDPOINT) == accounts[0]  # the same in every process


def test_an_account_of_a_provider_goes_by_its_key_and_its_address() -> None:
    accounts = {
        models(**config).account_key("openai")
        for config in (
            {},
            {"openai_api_key": "sk-1"},
            {"openai_api_key": "sk-2"},
            {"openai_api_key": "sk-1", "openai_base_url": "http://127.0.0.1:9/v1"},
            {"rehearsal_url": "http://127.0.0.1:9"},
        )
    }
    assert len(accounts) == 5


def test_accounts_are_told_apart_however_many_there_are() -> None:
    ours = models()
    keys = [ours.account_key(replace(ENDPOINT, key=f"sk-{number}")) for number in range(600)]
    assert len(set(keys)) == 600
    assert ours.account_key(replace(ENDPOINT, key="sk-0")) == keys[0]


def test_an_endpoint_is_not_rehearsed_because_the_providers_are() -> None:
    rehearsing = models(rehearsal_url="http://127.0.0.1:9")
    assert rehearsing.is_rehearsed("openai")
    assert not rehearsing.is_rehearsed(ENDPOINT)
    assert not Models(Settings(openai_api_key=SecretStr("sk-1"))).is_rehearsed("openai")


@pytest.mark.parametrize(
    ("base", "whole"),
    [
        ("https://models.example/v1", "https://models.example/v1/chat"),
        ("https://models.example/v1/", "https://models.example/v1/chat"),
        ("https://models.example", "https://models.example/chat"),
        ("http://[::1]:8000/a%20b/v1/", "http://[::1]:8000/a%20b/v1/chat"),
    ],
)
def test_the_address_of_a_call_is_what_the_sdk_would_make_of_it(base: str, whole: str) -> None:
    client = openai.OpenAI(api_key="none", base_url=base)
    assert whole_address(client.base_url, "/chat") == whole
    assert str(client._prepare_url("/chat")) == whole
