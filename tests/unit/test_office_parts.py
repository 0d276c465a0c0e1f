"""The pure parts of the office slice: sheets, merge patches, times, transitions, posts and hashtags."""

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from business.crm.demo_data import CLASSES
from business.office import content
from business.office.schemas import Subject, Tone
from core.errors import InvalidInput
from domain.office import documents, records, sheets, times
from domain.office.schemas import EventStatus, Language, Platform, PostStatus, StaffTaskStatus, TicketStatus

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


@settings(max_examples=50)
@given(st.text() | st.lists(st.text(), max_size=3))
def test_whatever_the_text_its_cell_is_read_back_and_begins_no_formula(value: str | list[str]) -> None:
    content = sheets.render(["a", "b"], [{"a": value, "b": 1}], "csv").content
    [heading, row] = csv.reader(io.StringIO(content, newline=""))
    plain = value if isinstance(value, str) else "; ".join(value)
    assert heading == ["a", "b"]
    assert row in ([plain, "1"], [f"'{plain}", "1"])
    assert not row[0].lstrip().startswith(("=", "+", "-", "@"))


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


# RFC 7396, appendix A; patches that are no object replace everything.
@pytest.mark.parametrize(
    ("target", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7396_shows(target: Any, patch: Any, after: Any) -> None:
    assert documents.merged(target, patch) == after


_VALUES = st.integers(0, 3) | st.dictionaries(st.sampled_from("xy"), st.integers(0, 3), max_size=2)
_DOCUMENTS = st.dictionaries(st.sampled_from("abc"), _VALUES, max_size=3)


@settings(max_examples=40)
@given(_DOCUMENTS, _DOCUMENTS)
def test_a_merge_patch_applied_twice_changes_nothing_more_and_its_own_values_win(target: Any, patch: Any) -> None:
    once = documents.merged(target, patch)
    assert documents.merged(once, patch) == once
    assert documents.merged({}, patch) == patch  # without null, a patch is a document
    assert set(once) == set(target) | set(patch)
    assert documents.merged(target, dict.fromkeys(target)) == {}


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


@dataclass(frozen=True)
class _Dated:
    name: str
    at: datetime
    on: date


@pytest.mark.parametrize(
    ("moment", "zone", "shown"),
    [
        ("2026-03-29T00:59:59+00:00", "Europe/Madrid", "2026-03-29T01:59+01:00"),
        ("2026-03-29T01:00:00+00:00", "Europe/Madrid", "2026-03-29T03:00+02:00"),  # the clocks are set forward
        ("2026-10-25T00:30:00+00:00", "Europe/Madrid", "2026-10-25T02:30+02:00"),
        ("2026-10-25T01:30:00+00:00", "Europe/Madrid", "2026-10-25T02:30+01:00"),  # the same clock time, an hour later
        ("2026-01-01T02:00:00+01:00", "America/New_York", "2025-12-31T20:00-05:00"),
        ("2026-06-01T00:00:00+00:00", "Asia/Kathmandu", "2026-06-01T05:45+05:45"),
    ],
)
def test_a_time_is_shown_by_the_organisations_clock_with_its_offset(moment: str, zone: str, shown: str) -> None:
    at = datetime.fromisoformat(moment)
    assert times.shown(at, ZoneInfo(zone)) == shown
    assert datetime.fromisoformat(shown) == at.replace(second=0)
    record = _Dated("Ana", at, date(2026, 1, 1))
    assert times.in_zone(record, ZoneInfo(zone)) == {"name": "Ana", "at": shown, "on": date(2026, 1, 1)}


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (records.TICKETS, get_args(TicketStatus)),
        (records.STAFF_TASKS, get_args(StaffTaskStatus)),
        (records.POSTS, get_args(PostStatus)),
        (records.EVENTS, get_args(EventStatus)),
    ],
    ids=lambda value: value.name if isinstance(value, records.Kind) else "",
)
def test_transitions_lead_from_a_status_to_another_one_that_there_is(
    kind: records.Kind[Any], statuses: tuple[str, ...]
) -> None:
    for status, following in kind.follows.items():
        assert {status, *following} <= set(statuses)
        assert status not in following


@pytest.mark.parametrize(
    ("kind", "ended"),
    [
        (records.TICKETS, set()),
        (records.STAFF_TASKS, set()),
        (records.POSTS, {"published", "cancelled"}),
        (records.EVENTS, {"held", "no_show", "cancelled"}),
    ],
    ids=lambda value: value.name if isinstance(value, records.Kind) else "",
)
def test_work_of_people_can_be_opened_again_and_what_has_happened_stays(
    kind: records.Kind[Any], ended: set[str]
) -> None:
    reached = {after for following in kind.follows.values() for after in following}
    assert {status for status in reached if not kind.follows.get(status)} == ended
    if not ended:
        assert all("open" in kind.follows[status] for status in reached - {"open"})
