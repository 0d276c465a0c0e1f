"""What the limit of output tokens is called goes by the model, wherever it is served."""

import pytest

from agents.llm.openai_provider import limit_name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5-mini", "max_completion_tokens"),
        ("gpt-5.1", "max_completion_tokens"),
        ("gpt-10", "max_completion_tokens"),
        ("o1", "max_completion_tokens"),
        ("o4-mini", "max_completion_tokens"),
        ("openai/o3-mini", "max_completion_tokens"),
        ("ft:gpt-5-mini:house", "max_completion_tokens"),
        ("gpt-4o-mini", "max_tokens"),
        ("gpt-3.5-turbo", "max_tokens"),
        ("gpt-oss-20b", "max_tokens"),
        ("qwen3:8b", "max_tokens"),
        ("olmo-2", "max_tokens"),
        ("mistral-small", "max_tokens"),
    ],
)
def test_on_a_server_of_ones_own(model: str, name: str) -> None:
    assert limit_name(model, is_openai=False) == name
    assert limit_name(model, is_openai=True) == "max_completion_tokens"
