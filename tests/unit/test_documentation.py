"""What people are told to type: every command that a page or a message names is there, with the options it is given."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from agents.catalogue import load_catalogue
from cli.diagnosis import model_finding
from cli.main import app
from core.settings import ROOT, Settings

_COMMANDS = typer.main.get_command(app)
_SLUGS = [agent.slug for agent in load_catalogue()]
_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_CODE = [
    path
    for folder in ("cli", "api", "web", "business", "domain", "embedded", "core")
    for path in (ROOT / folder).rglob("*.py")
]
_TYPED = re.compile(r"^\$ (rota .*)$", re.MULTILINE)
_NAMED = re.compile(r"`(rota [^`]+)`")


def commands_in(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8")
    yield from (line.split(" #")[0].split(" > ")[0] for line in _TYPED.findall(text))
    yield from (" ".join(command.split()) for command in _NAMED.findall(text))


def problem(typed: str) -> str | None:
    """What is wrong with a command; None where a person could type it."""
    try:
        words = shlex.split(typed.replace("[", " ").replace("]", " "))[1:]
    except ValueError:
        return None  # a part of a sentence
    words = words[: words.index("|")] if "|" in words else words
    command: Any = _COMMANDS
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if words and command is _COMMANDS and not words[0].startswith("-"):
        return f"there is no command {words[0]!r}"
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
    for word, following in pairwise([*words, ""]):
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known:
            return f"there is no option {option}"
        if option == "--agent" and following.islower() and sum(slug.startswith(following) for slug in _SLUGS) != 1:
            return f"there is no agent {following!r}"
    return None


@pytest.mark.parametrize("file", [*_PAGES, *_CODE], ids=lambda file: str(file.relative_to(ROOT)))
def test_what_people_are_told_to_type_can_be_typed(file: Path) -> None:
    assert {typed: said for typed in commands_in(file) if (said := problem(typed))} == {}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("rota schedules add x --agent ops", "there is no agent 'ops'"),
        ("rota shedules", "there is no command 'shedules'"),
        ("rota tasks --statis failed", "there is no option --statis"),
        ("rota tasks --status failed", None),
    ],
)
def test_a_command_that_is_not_there_is_noticed(typed: str, said: str | None) -> None:
    assert problem(typed) == said


@pytest.mark.parametrize(
    ("environment", "has_servers", "is_good", "said"),
    [
        ({"openai_api_key": "k"}, True, True, "is configured"),
        ({"rehearsal_url": "http://127.0.0.1:8081"}, True, True, "rehearsed"),
        ({}, False, True, "rehearsed"),
        ({}, True, False, "every model call fails"),
    ],
)
def test_doctor_says_of_models_what_is_so(
    environment: dict[str, Any], has_servers: bool, is_good: bool, said: str
) -> None:
    finding = model_finding(Settings(**environment), has_servers=has_servers)
    assert finding.is_good is is_good
    assert said in finding.what
