"""What a reader hears of a step is the text in the journal, whatever comes of its words on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.words import Delta
from web.said import Piece, Place, Said, data_of

TEXT = "Hello Ana, the spin class on Thursday has a place for you. ¡Hasta luego! 🎉"


def pieces_of(text: str, *, step: int = 1, previous: int = -1, claim: int = 1, attempt: int = 1) -> list[Delta]:
    """The text in pieces of five characters."""
    return [
        Delta(step, previous, claim, attempt, offset, text[offset : offset + 5]) for offset in range(0, len(text), 5)
    ]


class Client:
    """Puts together what it gets, as a client does."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.place: Place | None = None

    def take(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            step = piece.place.step
            if piece.text is None:
                self.texts[step] = ""
            else:
                assert piece.offset == len(self.texts.get(step, ""))
                self.texts[step] = self.texts.get(step, "") + piece.text
            self.place = piece.place


def test_words_are_heard_as_they_come_and_the_end_adds_nothing() -> None:
    said, client = Said(), Client()
    for delta in pieces_of(TEXT):
        client.take(said.hear(delta))
    assert client.texts[1] == TEXT
    assert said.complete(1, 1, 1, TEXT) == []


def test_without_words_the_end_brings_the_whole_text() -> None:
    said, client = Said(), Client()
    client.take(said.complete(1, 1, None, TEXT))
    assert client.texts == {1: TEXT}


@pytest.mark.parametrize("heard", [1, len(TEXT) // 2, len(TEXT)])
def test_a_reader_that_was_cut_off_after_a_text_from_the_journal_does_not_get_it_again(heard: int) -> None:
    resumed = Said(place=Place(1, 1, 0, heard))
    assert "".join(piece.text or "dropped" for piece in resumed.complete(1, 1, None, TEXT)) == TEXT[heard:]


def test_a_step_that_is_tried_again_begins_anew() -> None:
    said, client = Said(), Client()
    for delta in pieces_of("Something else that is")[:3]:
        client.take(said.hear(delta))
    again = pieces_of(TEXT, claim=2)
    (dropped, first) = said.hear(again[0])
    assert dropped.text is None
    assert data_of(dropped) == {"step": 1, "claim": 2, "attempt": 1}
    client.take([dropped, first])
    client.take(said.hear(pieces_of("Something else that is")[3]))  # late, of the attempt before
    client.take(said.complete(1, 2, 1, TEXT))
    assert client.texts[1] == TEXT


def test_what_counts_is_the_journal_even_if_a_worker_that_lost_the_task_was_heard() -> None:
    said, client = Said(), Client()
    for delta in pieces_of("What was never written", claim=3):
        client.take(said.hear(delta))
    client.take(said.complete(1, 2, 1, TEXT))
    assert client.texts[1] == TEXT


def test_the_next_step_waits_until_the_decision_before_is_told() -> None:
    said, client = Said(), Client()
    client.take(said.hear(pieces_of(TEXT)[0]))
    assert said.hear(Delta(4, 1, 1, 1, 0, "Next")) == []
    client.take(said.complete(1, 1, 1, TEXT))
    client.take(said.told(1))
    assert client.texts == {1: TEXT, 4: "Next"}
    assert said.hear(pieces_of(TEXT)[1]) == []  # of a step that is over


def test_words_with_a_gap_are_left_to_the_journal() -> None:
    said = Said()
    words = pieces_of(TEXT)
    assert said.hear(words[1]) == []
    said.hear(words[0])
    assert said.hear(words[2]) == []
    (rest,) = said.complete(1, 1, 1, TEXT)
    assert (rest.offset, rest.text) == (5, TEXT[5:])


@given(st.data())
def test_whatever_comes_of_the_words_the_text_is_whole(data: st.DataObject) -> None:
    """Words are lost, doubled, out of order and of several attempts; the connection is cut anywhere."""
    attempts = data.draw(st.integers(1, 3))
    sent = [
        delta
        for attempt in range(1, attempts + 1)
        for delta in pieces_of(TEXT if attempt == attempts else TEXT[::-1][:30], attempt=attempt)
    ]
    arriving = data.draw(st.lists(st.sampled_from(sent), max_size=40))
    is_streamed = data.draw(st.booleans())
    said, client = Said(), Client()
    for delta in arriving:
        client.take(said.hear(delta))
        if data.draw(st.booleans()):  # it comes back with the place of the last piece that it got
            said = Said(place=None if client.place is None else Place.parse(str(client.place)))
    client.take(said.complete(1, 1, attempts if is_streamed else None, TEXT))
    assert client.texts[1] == TEXT


@pytest.mark.parametrize(
    "text", ["", "1", "1.2.3", "1.2.3.4.5", "1.2.3.x", "-1.2.3.4", "1.2.3.9999999999", "\u0661.2.3.4"]
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no place"):
        Place.parse(text)


def test_a_delta_survives_redis() -> None:
    delta = Delta(3, 1, 2, 1, 17, "ñ 🎉")
    fields: dict[str, Any] = {name: str(value) for name, value in delta.fields().items()}
    assert Delta.of(fields) == delta
