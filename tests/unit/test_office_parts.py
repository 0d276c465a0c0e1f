"""The pure parts of the office slice: sheets, merge patches, posts and hashtags."""

import csv
import io
import json
import re
from datetime import datetime
from typing import Any

import pytest

from business.crm.demo_data import CLASSES
from business.office import content
from business.office.schemas import Subject, Tone
from core.errors import InvalidInput
from domain.office import documents, sheets
from domain.office.schemas import Language, Platform

SPIN = Subject("Spin", "cardio", "Indoor cycling to music.", "Monday at 18:00")
YOGA = Subject("Yoga Flow", "mind and body", "Vinyasa yoga", None)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+34 600", "'+34 600"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" \t=1", "' \t=1"),
        ("\tx", "'\tx"),
        (["=1", "b"], "'=1; b"),
        ("a=1", "a=1"),
        (-5, "-5"),
        (None, ""),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(value: Any, cell: str) -> None:
    sheet = sheets.render(["a"], [{"a": value, "b": "x"}], "csv")
    assert list(csv.reader(io.StringIO(sheet.content, newline=""))) == [["a"], [cell, "x"]]


def test_json_keeps_words_as_they_are() -> None:
    assert json.loads(sheets.render(["a"], [{"a": "=1"}], "json").content) == [{"a": "=1"}]
    assert sheets.render(["a"], [], "json").content == "[]"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_sheet_ends_at_ten_thousand_rows_or_five_megabytes_and_says_so(form: Any) -> None:
    many = sheets.render(["a"], ({"a": n} for n in range(10_001)), form)
    assert (many.row_count, many.is_complete) == (10_000, False)
    assert sheets.render(["a"], ({"a": n} for n in range(10_000)), form).is_complete
    large = sheets.render(["a"], ({"a": "ñ" * 10_000} for _ in range(1_000)), form)
    assert not large.is_complete
    assert 4_900_000 < len(large.content.encode()) <= 5_000_000


@pytest.mark.parametrize(
    ("target", "patch", "after"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": None, "z": 3}}, {"a": {"y": 2, "z": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": None, "c": 2}}, {"a": {"c": 2}}),
    ],
)
def test_a_merge_patch_sets_takes_away_and_leaves(target: Any, patch: Any, after: Any) -> None:
    before = json.dumps(target)
    assert documents.merged(target, patch) == after
    assert json.dumps(target) == before


def _nested(levels: int) -> dict[str, Any]:
    return {"a": _nested(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    "data",
    [
        _nested(20),
        {"a": [[1, float("nan")]]},
        {"a": float("inf")},
        {"a": "\0"},
        {"\0": 1},
        {"a": "\ud800"},
        {"a": "x" * 65_536},
    ],
)
def test_what_cannot_be_kept_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        documents.check(data)


def test_deep_and_foreign_data_can_be_kept() -> None:
    documents.check(_nested(19))
    documents.check({"ñ": ["日本", 1.5, None, True], "x": "y" * 65_000})


@pytest.mark.parametrize("platform", ["instagram", "facebook", "x", "linkedin"])
@pytest.mark.parametrize("tone", ["friendly", "energetic", "informative"])
@pytest.mark.parametrize("language", ["en", "es"])
def test_posts_differ_fit_and_are_the_same_every_time(platform: Platform, tone: Tone, language: Language) -> None:
    wordy = Subject("Everything", "strength", "lift " * 100, None)
    made = content.posts([SPIN, YOGA, wordy], 10, platform=platform, tone=tone, language=language)
    assert len(made) == len(set(made)) == 9
    assert made == content.posts([SPIN, YOGA, wordy], 10, platform=platform, tone=tone, language=language)
    assert all(len(post) <= 280 for post in made) or platform != "x"
    assert "#Spin" in made[0]
    assert "Monday at 18:00" in made[0]
    assert "{" not in "".join(made)


def test_hashtags_name_the_topic_and_the_classes_first_and_each_once() -> None:
    tags = content.hashtags([YOGA, SPIN, Subject("Fitness", "¡!", "", None)], "niños & niñas", "en", 8)
    assert tags[:6] == ["#NinosNinas", "#YogaFlow", "#MindAndBody", "#Spin", "#Cardio", "#Fitness"]
    assert len(tags) == 8 == len({tag.casefold() for tag in tags})
    assert content.hashtags([], None, "es", 2) == ["#Fitness", "#Gimnasio"]


_ENGLISH = re.compile(
    r"\b(the|and|of|with|for|to|in|your|training|class|strength|mind|body|combat|dance|water|music|whole|light)\b",
    re.IGNORECASE,
)
_SPANISH = re.compile(r"\b(de|la|los|una|con|para|y|fuerza|baile|cuerpo|mente|agua)\b|[ñáéíóú]", re.IGNORECASE)
_NAMES = re.compile("|".join(name for row in CLASSES for name in (row["name"], row["name"].replace(" ", ""))))


def _own_words(text: str) -> str:
    """A post without the names of classes, its hashtags taken apart."""
    without_names = _NAMES.sub("", text)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", without_names.replace("#", " "))


@pytest.mark.parametrize("tone", ["friendly", "energetic", "informative"])
def test_posts_and_hashtags_are_wholly_in_their_language_whichever_the_gyms_own_is(tone: Tone) -> None:
    english = [Subject(row["name"], row["category"], row["description"], None) for row in CLASSES]
    spanish = [
        Subject("Ritmo", "baile", "Música latina y mucha energía para todos.", None),
        Subject("Fuerza total", "Fuerza", "Pesas ligeras y muchas repeticiones.", None),
        Subject("Sala tres", "varios", "Lo que pida el día.", None),
    ]
    posts = content.posts(english, 30, platform="facebook", tone=tone, language="es")
    assert [found for post in posts if (found := _ENGLISH.findall(_own_words(post)))] == []
    posts = content.posts(spanish, 9, platform="facebook", tone=tone, language="en")
    kept = [re.sub("Ritmo|Fuerza total|FuerzaTotal|Sala tres|SalaTres", "", post) for post in posts]
    assert [found for post in kept if (found := _SPANISH.findall(_own_words(post)))] == []
    tags = content.hashtags(english, None, "es", 40)
    assert {"#CuerpoYMente", "#Fuerza", "#Combate", "#Boxeo", "#EstiramientosYMovilidad"} <= set(tags)
    assert not {"#Strength", "#MindAndBody", "#Combat", "#Dance", "#Water"} & set(tags)


def test_what_is_in_the_language_is_left_as_the_gym_wrote_it() -> None:
    own = Subject("Yoga", "mente", "Respira y estira con calma en la sala grande.", None)
    [post] = content.posts([own], 1, platform="instagram", tone="informative", language="es")
    assert "Respira y estira con calma en la sala grande." in post
    [post] = content.posts([SPIN], 1, platform="instagram", tone="informative", language="en")
    assert SPIN.description in post


def test_times_are_said_in_both_languages() -> None:
    moment = datetime.fromisoformat("2026-03-04T18:05+01:00")
    assert content.in_words(moment, "en") == "Wednesday at 18:05"
    assert content.in_words(moment, "es") == "miércoles a las 18:05"
