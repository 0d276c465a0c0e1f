"""The command line's decisions: what fits a terminal, which id is meant, what to type about a task that waits."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cli import approvals, banner, contacts, control, files, find, main, office, people, schedules, times, workflows
from cli.client import chunks
from cli.layout import Column, Kind, Listing, Wanted, clean, fit, plain, shorten
from cli.waiting import Surroundings, command_for
from core.errors import Misconfigured, NotFound
from embedded.state import Running

ID = "01a22246-5eff-71cb-8a77-199579ac5dc9"
OTHER = "01a22246-6000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("columns", "available", "widths"),
    [
        ([("id", 36, 0), ("whole", 10, 1), ("text", 100, 2)], 80, {0: 36, 1: 10, 2: 30}),
        ([("id", 36, 0), ("whole", 40, 1), ("whole", 30, 2)], 80, {0: 36, 1: 40}),
        ([("id", 36, 0), ("whole", 43, 1), ("whole", 30, 2)], 80, {0: 36, 2: 30}),
        ([("whole", 30, 2), ("whole", 20, 1), ("id", 36, 0)], 80, {1: 20, 2: 36}),
        ([("id", 36, 0), ("text", 5, 1), ("text", 90, 2)], 80, {0: 36, 1: 5, 2: 35}),
        ([("id", 36, 0), ("id", 36, 1), ("text", 90, 2)], 80, {0: 36, 1: 36}),
        ([("id", 200, 0), ("whole", 10, 1)], 80, {0: 80}),
        ([("id", 8, 0), ("whole", 10, 1)], 200, {0: 8, 1: 10}),
    ],
)
def test_columns_that_do_not_fit_are_left_out_and_ids_stay_whole(
    columns: list[tuple[Any, int, int]], available: int, widths: dict[int, int]
) -> None:
    assert fit([Wanted(kind, width, rank) for kind, width, rank in columns], available) == widths


_KINDS: list[Kind] = ["id", "whole", "line", "text"]
_COLUMNS = st.lists(
    st.builds(Wanted, st.sampled_from(_KINDS), st.integers(1, 60), st.integers(0, 9), st.integers(0, 40)),
    min_size=1,
    max_size=8,
)


@given(_COLUMNS, st.integers(10, 200))
def test_the_chosen_columns_fit_and_none_is_narrower_than_it_can_be(columns: list[Wanted], available: int) -> None:
    widths = fit(columns, available)
    assert widths
    assert sum(widths.values()) + 2 * (len(widths) - 1) <= available
    assert list(widths) == sorted(widths)
    for place, width in widths.items():
        assert min(columns[place].least, available) <= width <= columns[place].width


def test_a_text_is_not_made_so_narrow_that_an_id_in_it_breaks() -> None:
    columns = [Wanted("id", 36, 0), Wanted("text", 90, 1, unbroken=37), Wanted("whole", 10, 2)]
    assert fit(columns, 80) == {0: 36, 1: 42}
    assert fit(columns, 74) == {0: 36, 2: 10}


def printed(listing: Any, width: int) -> list[str]:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(listing)
    return capture.get().splitlines()


def test_a_table_says_which_columns_it_left_out() -> None:
    columns = [Column("id", "id"), Column("first"), Column("most_important", rank=0)]
    lines = printed(Listing(columns, [(ID, "x" * 30, "y" * 20)]), 80)
    assert ID in lines[1]
    assert lines[-1] == "Not shown in 80 columns: first."
    assert not any("Not shown" in line for line in printed(Listing(columns, [(ID, "x", "y")]), 80))


def test_rows_as_they_are_keep_other_ids_whole_too() -> None:
    rows = [{"id": ID, "about": f"see {OTHER} for more words than fit into what is left of a line", "task": OTHER}]
    text = "\n".join(printed(plain(rows, ["id", "about", "task"]), 80))
    assert text.count(OTHER) == 1
    assert ID in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_what_others_wrote_is_neither_markup_nor_obeyed_by_the_terminal() -> None:
    rows = [{"id": "[bold]x[/]\x1b[31m\x9b31m\x07", "words": "fine"}]
    assert printed(plain(rows, ["id", "words"]), 80)[1].split() == ["[bold]x[/][31m31m", "fine"]


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("few words", 20, "few words"),
        ("more words than fit", 12, "more words …"),
        (f"see {ID} there", 20, "see …"),
        (f"{ID} there", 20, "…"),
        ("anna.karenina@example.com", 10, "anna.kare…"),
        ("two\nlines  here", 20, "two lines here"),
    ],
)
def test_texts_are_shortened_between_words_and_ids_are_never_cut(text: str, most: int, short: str) -> None:
    assert shorten(text, most) == short
    assert len(shorten(text, most)) <= most


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("明日のヨガクラスを予約したい", 11, "明日のヨガ…"),
        ("明日のヨガクラスを予約したい", 10, "明日のヨ…"),
        ("yoga 明日のヨガクラスを予約", 12, "yoga …"),
        ("日本", 4, "日本"),
    ],
)
def test_wide_characters_take_two_cells(text: str, most: int, short: str) -> None:
    assert shorten(text, most) == short


@given(st.text(), st.integers(2, 80))
def test_a_shortened_text_fits_and_begins_as_the_text_does(text: str, most: int) -> None:
    short = shorten(text, most)
    assert cell_len(short) <= most
    assert " ".join(text.split()).startswith(short.removesuffix("…").rstrip())


@given(st.text())
def test_cleaned_text_keeps_every_printable_letter_and_its_lines(text: str) -> None:
    assert [letter for letter in clean(text) if letter != "\n" and letter.isprintable()] == [
        letter for letter in text if letter.isprintable()
    ]
    assert clean(text).count("\n") == text.count("\n")
    assert not [letter for letter in clean(text) if letter != "\n" and (letter < " " or "\x7f" <= letter <= "\x9f")]


@pytest.mark.parametrize(
    ("said", "meant"), [(ID, ID), ("last", OTHER), ("01a22246-5", ID), ("01A22246-5EFF", ID), ("5dc9", ID)]
)
def test_an_id_may_be_told_by_how_it_begins_or_ends(said: str, meant: str) -> None:
    assert find.one_of([OTHER, ID], said, what="task", listed_by="rota tasks") == meant


@pytest.mark.parametrize(
    ("known", "said", "told"),
    [
        ([OTHER, ID], "01a22246", f"matches several tasks: {OTHER}, {ID}. Write more of it."),
        ([OTHER, ID], "ff", "There is no task 'ff'. See: rota tasks"),
        ([OTHER, ID], "", "There is no task ''"),
        ([], "last", "There is no task here."),
    ],
)
def test_an_id_that_fits_nothing_or_several_is_told_so(
    known: list[str], said: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        find.one_of(known, said, what="task", listed_by="rota tasks")
    assert told in capsys.readouterr().err


def test_the_key_in_the_banner_is_one_line_and_a_moved_port_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    key = "rota_" + "0" * 32 + "_" + "f" * 64
    running = Running(
        api="http://127.0.0.1:40123", api_key=key, flower="http://127.0.0.1:5555", flower_auth="rota:secret",
        database="", redis="", model="rehearsal", data="/somewhere", starts_per_minute=6000,
        moved=["port 8080 is taken: api is at 40123"],
    )  # fmt: skip
    banner.greet(running)
    said = capsys.readouterr().out
    assert key in said.splitlines()
    assert "port 8080 is taken: api is at 40123" in " ".join(said.replace("│", " ").split())
    assert "moved" not in running.model_dump_json()


TASK = {"id": ID, "agent": "support-assistant", "priority": "low", "steps": [{"seq": 4, "status": "unknown"}]}


@pytest.mark.parametrize(
    ("word", "around", "command"),
    [
        ("approval", Surroundings(approvals=[OTHER]), f"rota approvals show {OTHER}   (then approve or reject it)"),
        ("advice", Surroundings(), "rota approvals"),
        ("outcome", Surroundings(), f"rota settle {ID} 4 --happened   (or --do-again)"),
        ("paused", Surroundings(pauses=[("queue", "low")]), "rota resume queue low"),
        ("paused", Surroundings(pauses=[("agent", "support-assistant")]), "rota resume agent support-assistant"),
        ("paused", Surroundings(pauses=[("queue", "low"), ("organisation", "")]), "rota resume organisation"),
        ("funds", Surroundings(), "rota wallet top-up 1000"),
        ("budget", Surroundings(), "rota budgets"),
        ("rate", Surroundings(organisation="atlas"), "rota limits organisation atlas --per-minute 1000"),
        ("agent", Surroundings(), "rota agents edit support-assistant --max-in-flight 100"),
        ("turn", Surroundings(), None),
        (None, Surroundings(), None),
    ],
)
def test_for_each_reason_to_wait_there_is_a_command_or_only_patience(
    word: str | None, around: Surroundings, command: str | None
) -> None:
    assert command_for(word, TASK, around) == command


@pytest.mark.parametrize("text", ["yesterday", "15x", "99999999999w", "", "PT", "٣d"])
def test_a_time_that_is_none_is_told_so(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        times.from_now(text, "--deadline")
    assert "--deadline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("6h", timedelta(hours=6)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(days=7)),
        ("0s", timedelta(0)),
        ("PT90S", timedelta(seconds=90)),
        ("P1DT12H", timedelta(hours=36)),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, length: timedelta) -> None:
    assert times.length(text, "--every") == length
    assert times.seconds(text, "--every") == length.total_seconds()


@pytest.mark.parametrize("text", ["5", "-5m", "1.5h", "15 m", "15M", "m", "999999999999w"])
def test_a_number_without_its_unit_is_no_duration(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        times.length(text, "--every")
    assert f"--every: {text!r} is not a duration" in capsys.readouterr().err


def test_a_time_is_kept_and_a_duration_counts_from_now() -> None:
    assert times.seconds(None, "--every") is None
    assert times.from_now(None, "--deadline") is None
    exact = times.from_now("2026-12-24T18:00+05:30", "--deadline")
    assert exact is not None
    assert datetime.fromisoformat(exact) == datetime(2026, 12, 24, 12, 30, tzinfo=UTC)
    before = datetime.now(UTC)
    later = times.from_now("2d", "--deadline")
    assert later is not None
    assert before <= datetime.fromisoformat(later) - timedelta(days=2) <= datetime.now(UTC)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc:- 1", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40)
@given(_JSON)
def test_a_value_written_as_yaml_is_read_as_the_same_value(value: Any) -> None:
    assert files.parse_yaml(files.as_yaml(value), "x") == value


@pytest.mark.parametrize("date", ["2026-11-02", "2026-11-02 10:00:00", "2026-02-30", "2026-11-02T10:00:00Z"])
def test_a_date_in_a_file_stays_the_text_that_it_is(date: str) -> None:
    assert files.parse_yaml(f"name: {date}", "x") == {"name": date}
    assert files.parse_yaml(files.as_yaml({"name": date}), "x") == {"name": date}


def test_a_prompt_of_several_lines_can_be_edited_line_by_line() -> None:
    assert files.as_yaml({"prompt": "Be brief.\nBe kind.\n"}) == "prompt: |\n  Be brief.\n  Be kind."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "x.yaml is not valid YAML"),
        ("a: !!python/object:os.system {}", "x.yaml is not valid YAML"),
        ("a: !!binary aGk=", "x.yaml contains a value that JSON cannot express"),
        ("a: !!set {b}", "x.yaml contains a value that JSON cannot express"),
        ("a: .nan", "x.yaml contains a value that JSON cannot express"),
        ("a: !!timestamp 2026-02-30", "x.yaml contains a value that JSON cannot express"),
        ("[" * 500, "x.yaml is nested too deeply"),
        ("- a", "x.yaml must contain names and values"),
        ("", "x.yaml must contain names and values"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_by_its_name(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(text)
    with pytest.raises(typer.Exit):
        files.read_mapping(Path("x.yaml"))
    assert said in capsys.readouterr().err


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin").write_bytes(b"na\xefve")
    for file, said in ((tmp_path / "missing", "There is no file"), (tmp_path, "Is a directory"),
                       (tmp_path / "latin", "is not UTF-8 text")):  # fmt: skip
        with pytest.raises(typer.Exit):
            files.read_text(file)
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(("editor", "text"), [("sed -i s/brief/kind/", "Be kind."), ("false", "Be brief.")])
def test_a_text_is_what_the_editor_left_unless_the_editor_failed(
    editor: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", editor)
    assert files.edited("Be brief.") == text


@pytest.mark.parametrize("editor", ["/nowhere/editor", "'unclosed"])
def test_an_editor_that_does_not_start_is_named(
    editor: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISUAL", editor)
    with pytest.raises(typer.Exit):
        files.edited("x")
    assert "does not start" in capsys.readouterr().err


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_become_what_the_api_takes() -> None:
    assert people._grants(["owner", "staff@north"]) == [
        {"role": "owner", "location": None},
        {"role": "staff", "location": "north"},
    ]
    assert workflows._variable("who=a=b") == ("who", "a=b")
    assert workflows._variable("who=") == ("who", "")
    assert control._limits("none", "60") == {"max_in_flight": None, "starts_per_minute": 60}
    assert control._limits(None, "0") == {"starts_per_minute": 0}
    assert approvals._read_edit('{"body": "x"}') == {"body": "x"}
    assert schedules._times(None, "90s", None, None, None) == {"kind": "interval", "every": 90}
    assert schedules._times("0 8 * * *", None, None, None, "Europe/Madrid") == {
        "kind": "cron", "cron": "0 8 * * *", "timezone": "Europe/Madrid",
    }  # fmt: skip
    assert schedules._times(None, None, None, "lead.created", None) == {"kind": "event", "event": "lead.created"}


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: workflows._variable("=x"), "write NAME=VALUE"),
        (lambda: workflows._variable("who"), "write NAME=VALUE"),
        (lambda: control._limits("many", None), "a number or the word none"),
        (lambda: approvals._read_edit("[1]"), "must be a JSON object"),
        (lambda: approvals._read_edit("{"), "not valid JSON"),
        (lambda: schedules._times(None, None, None, None, None), "Give one of --cron"),
        (lambda: schedules._times("* * * * *", "5m", None, None, None), "Give one of --cron"),
    ],
)
def test_options_that_mean_nothing_are_refused(read: Any, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        read()
    assert said in capsys.readouterr().err


def test_rules_are_printed_without_what_is_not_set_but_with_false_and_zero() -> None:
    rule = {"level": "approval", "when": {"amount": {"least": 0, "most": None}}, "tools": [], "on": False, "asks": [{}]}
    assert approvals._said(rule) == {"level": "approval", "when": {"amount": {"least": 0}}, "on": False, "asks": [{}]}


@pytest.mark.parametrize(
    ("opted_out_at", "has_consented", "said"),
    [("2026-11-20T10:00:00Z", True, "none: opted out"), (None, True, "advertising"), (None, False, "")],
)
def test_a_contact_who_opted_out_allows_nothing_whatever_the_consent(
    opted_out_at: str | None, has_consented: bool, said: str
) -> None:
    assert contacts._allows({"opted_out_at": opted_out_at, "has_consented": has_consented}) == said


@pytest.mark.parametrize(
    ("name", "value", "short"),
    [
        ("members", {"planned": 2, "sent": 1}, "2 planned, 1 sent"),
        ("subject", "x" * 60, "x" * 60),
        ("subject", "x" * 61, "x" * 60 + "…"),
        ("row_count", 0, 0),
        ("assignee", None, None),
    ],
)
def test_fields_of_records_are_short_in_lists(name: str, value: Any, short: Any) -> None:
    assert office._short(name, value) == short


@given(st.lists(st.text()), st.integers(1, 5))
def test_chunks_keep_every_item_in_order(items: list[str], size: int) -> None:
    made = list(chunks(items, size))
    assert [item for chunk in made for item in chunk] == items
    assert all(1 <= len(chunk) <= size for chunk in made)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotFound("There is no task."), "There is no task."),
        (FileNotFoundError(), "The current folder no longer exists. Change to another one."),
        (PermissionError(13, "Permission denied", "/etc/rota.toml"), "Permission denied: /etc/rota.toml"),
        (OSError("odd"), "odd"),
        (KeyError("a bug"), None),
    ],
)
def test_an_expected_error_is_one_message_and_a_bug_has_none(error: Exception, said: str | None) -> None:
    assert main.in_words(error) == said


@pytest.mark.parametrize(
    ("error", "command", "status"),
    [
        (Misconfigured("x"), ["worker"], 78),
        (Misconfigured("x"), ["submit"], 1),
        (Misconfigured("x"), [], 1),
        (NotFound("x"), ["worker"], 1),
    ],
)
def test_only_a_process_with_a_wrong_configuration_is_not_started_again(
    error: Exception, command: list[str], status: int
) -> None:
    assert main.exit_status(error, command) == status
