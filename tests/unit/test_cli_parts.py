"""The command line's decisions: what fits a terminal, which id is meant, what to type about a task that waits."""

from typing import Any

import pytest
import typer
from rich.console import Console

from cli import banner, find, times
from cli.layout import Column, Listing, Wanted, fit, plain, shorten
from cli.waiting import Surroundings, command_for
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
    ("said", "meant"), [(ID, ID), ("last", OTHER), ("01a22246-5", ID), ("01A22246-5EFF", ID), ("5dc9", ID)]
)
def test_an_id_may_be_told_by_how_it_begins_or_ends(said: str, meant: str) -> None:
    assert find.one_of([OTHER, ID], said, what="task", listed_by="rota tasks") == meant


@pytest.mark.parametrize(
    ("known", "said", "told"),
    [
        ([OTHER, ID], "01a22246", f"could be any of several tasks: {OTHER}, {ID}. Write more of it."),
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
