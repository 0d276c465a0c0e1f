"""What a request is read as: its commands, in order, or nothing where it forbids, doubts or only tells."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.commands import MOST_READ, Command, commands, refers_back


def verbs(text: str) -> list[str]:
    return [command.words[0] for command in commands(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("?!", []),
        ("book Ana into spin", ["book"]),
        ("BOOK ANA INTO SPIN", ["book"]),
        ("book Ana into spin, then charge her 20", ["book", "charge"]),
        ("book Ana and cancel Bob", ["book", "cancel"]),
        ("book Ana (and charge her)", ["book", "charge"]),
        ("Book Ana. Cancel Bob! Charge Eve", ["book", "cancel", "charge"]),
        ("- book Ana\n- cancel Bob", ["book", "cancel"]),
        ("1. book Ana\n2) cancel Bob", ["book", "cancel"]),
        ("* book Ana\n\n• cancel Bob", ["book", "cancel"]),
        ("To do: book Ana", ["book"]),
        ("Please do the following:\nbook Ana", ["book"]),
        ("e-mail Ana", ["email"]),
        ("Find the e-mail for Ana", ["find"]),  # "e" is a joint in Spanish only as a word of its own
        ("Send Ana the list by e-mail", ["send"]),
        ("Email e.bill@example.com", ["email"]),
        ("Email Ana https://a.example/y/cancel", ["email"]),
        ("Reserva spin e inscribe a Ana", ["reserva", "inscribe"]),
        ("reserva spin para Ana y cancela la de Bob", ["reserva", "cancela"]),
        ("¿Puedes reservar spin para Ana?", ["reservar"]),
        ("Quiero que reserves spin para Ana", ["reserve"]),  # after "que" the verb ends in s
        ("Hola María, apúntala a spin, gracias", ["apuntala"]),
        # words about a person, and questions
        ("Ana booked spin", []),
        ("Ana wants to book spin", []),
        ("the booking of Ana", []),
        ("email address of Ana", []),
        ("refund policy", []),
        ("why did you book Ana?", []),
        # what somebody is to hear, or a text to work on
        ("tell Bob: book Ana", ["tell"]),
        ("tell Bob to come and book Ana", ["tell"]),
        ("summarise this: book Ana\ncancel Bob", ["summarise"]),
        ("They wrote: book Ana\ncancel Bob", []),
    ],
)
def test_a_command_begins_with_its_verb(text: str, expected: list[str]) -> None:
    assert verbs(text) == expected


@pytest.mark.parametrize(
    "guard",
    [
        "Do not do it", "don't", "don\u2019t do that", "never mind", "if she agrees", "unless she is ill",
        "only when I have confirmed", "wait", "ask me first", "maybe", "no lo hagas", "si acepta", "cuando pueda",
        "pregúntame antes", "olvídalo", "sin su permiso", "pending her reply", "for example",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "request_text", ["Book Ana into spin. {}.", "{}. Book Ana into spin.", "Book Ana into spin, {}"]
)
def test_whatever_forbids_or_leaves_open_voids_the_whole_request(request_text: str, guard: str) -> None:
    assert commands(request_text.format(guard)) == []


@pytest.mark.parametrize(
    "courtesy",
    [
        "No problem, book Ana", "When you have a minute, book Ana", "If you please, book Ana",
        "Sin prisa, reserva spin",
        "I would like you to book Ana", "Sí, reserva spin", "Book Ana before Monday", "Could you book Ana?",
    ],
)  # fmt: skip
def test_courtesy_neither_forbids_nor_sets_a_condition(courtesy: str) -> None:
    assert len(commands(courtesy)) == 1


@pytest.mark.parametrize(
    "quoted",
    ['"{}"', "“{}”", "«{}»", "\u2018{}\u2019", "```{}```", "> {}", '"{}', "“{}", "```\n{}"],
)
def test_quoted_words_command_nothing(quoted: str) -> None:
    assert commands(quoted.format("Book Ana into spin")) == []
    assert verbs(f"Cancel Bob\n{quoted.format('Book Ana into spin')}") == ["cancel"]


def test_an_address_neither_forbids_nor_commands() -> None:
    assert verbs("Email no-reply@example.com") == ["email"]
    assert verbs("Email wait@example.com now, https://never.example/only-if") == ["email"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Can we book Ana?", True),
        ("Can I book Ana?", True),
        ("can we book Ana", True),  # without its mark it may be the same question
        ("Book Ana?", True),
        ("Can you book Ana?", False),
        ("¿Puedes reservar spin?", False),
        ("Book Ana", False),
    ],
)
def test_a_question_that_may_want_an_answer_only_is_marked(text: str, *, expected: bool) -> None:
    (command,) = commands(text)
    assert command.asks_whether is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Book Ana", [True]),
        ("Hello! Book Ana. Thanks!", [True]),
        ("Book Ana and charge her 20", [True, True]),
        ("Ana is here. Book Ana", [False]),
        ("Book Ana. She is here", [False]),
        ("Book Ana. Her card was stolen. Charge her", [False, False]),
        ("Tell Bob hello. Book Ana", [False, False]),  # it may be what Bob is to hear
        ("Book Ana. Tell Bob hello", [True, True]),
    ],
)
def test_whether_a_request_holds_commands_and_nothing_else(text: str, expected: list[bool]) -> None:
    assert [command.stands_alone for command in commands(text)] == expected


def test_a_request_is_read_up_to_a_length_and_beyond_it_not_at_all() -> None:
    text = "Book Ana"
    assert verbs(text + " " * (MOST_READ - len(text))) == ["book"]
    assert verbs(text + " " * (MOST_READ - len(text) + 1)) == []


@pytest.mark.parametrize(
    ("phrase", "text", "expected"),
    [
        ("book", "book ana", True),
        ("book class*", "book ana into two classes", True),
        ("book class*", "class book", False),  # the verb comes first
        ("book class", "book ana", False),
        ("book|reserv~ class|spin", "reservala en spin", True),
        ("mail", "e-mail ana", False),
        ("email", "e-mail ana", True),
        ("let know", "let ana know", True),
        ("boo", "book ana", False),  # whole words
    ],
)
def test_a_phrase_is_its_verb_first_and_the_other_words_anywhere(phrase: str, text: str, *, expected: bool) -> None:
    assert Command(text).says(phrase) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("book her", True),
        ("charge this member", True),
        ("apuntala a spin", True),
        ("cobrarle 20", True),
        ("book ana", False),
        ("book there", False),  # a word that only begins like one
    ],
)
def test_a_command_may_refer_to_somebody_without_a_name(text: str, *, expected: bool) -> None:
    assert refers_back(Command(text)) is expected


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    for command in commands(text):
        assert command.words
        refers_back(command)


words = st.lists(st.sampled_from(["book", "Ana", "cancel", "the", "Please", "her", "class", "reserva", "20", "and"]))


@settings(max_examples=50)
@given(words, words)
def test_a_prohibition_anywhere_leaves_no_command(before: list[str], after: list[str]) -> None:
    assert commands(f"{' '.join(before)}. Do not do that. {' '.join(after)}") == []
