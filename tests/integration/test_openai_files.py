"""Images and files over OpenAI's wire, sent with the official client."""

import base64
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import openai
import pytest
from sqlalchemy import text

from api.app import make_app
from core import db
from core.settings import Settings
from tests.support.factories import change_agent, look
from tests.support.files import CSV, PDF, PNG
from tests.support.house import House, keeping_house
from tests.support.servers import configured, serving
from workers.duties import pruning


@pytest.fixture(scope="module")
def served(config: Settings) -> Iterator[str]:
    with serving(make_app()) as url:
        yield url


@pytest.fixture
def house(org: UUID, served: str, config: Settings) -> Iterator[House]:
    with keeping_house(org, served, config) as made:
        yield made


def data(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


IMAGE: Any = {"type": "image_url", "image_url": {"url": data(PNG, "image/png"), "detail": "low"}}
PAPER: Any = {"type": "file", "file": {"filename": "terms.pdf", "file_data": data(PDF, "application/pdf")}}
PRICES: Any = {"type": "file", "file": {"filename": "prices.csv", "file_data": base64.b64encode(CSV).decode()}}


def words(said: str) -> Any:
    return {"type": "text", "text": said}


def user(*parts: Any) -> Any:
    return {"role": "user", "content": list(parts)}


def read_by_the_model(house: House, number: int = -1, message: int = -1) -> Any:
    return house.talker.asked[number]["messages"][message]["content"]


def attachments_of(house: House) -> list[Any]:
    with db.transaction(house.org) as connection:
        return list(connection.execute(text("SELECT id, task_id, conversation_id, name FROM attachments ORDER BY id")))


def test_a_completion_reads_images_pdf_and_texts(house: House) -> None:
    house.talker.answers = [["A pixel."], ["Twelve."]]
    answer = house.ask(messages=[user(words("What is it?"), IMAGE, PAPER, PRICES)])
    assert answer.choices[0].message.content == "A pixel."
    image, paper, told = read_by_the_model(house)
    assert image["image_url"]["url"] == data(PNG, "image/png")
    assert paper["file"] == PAPER["file"]
    assert "yoga,12" in told["text"]
    house.ask(messages=[user(IMAGE), {"role": "assistant", "content": "A pixel."}, user(words("And yoga?"))])
    assert [part["type"] for part in read_by_the_model(house, message=1)] == ["image_url", "text"]
    task = look(house.org, UUID(answer.id.removeprefix("chatcmpl-")))
    assert task.result["has_read_untrusted"]
    assert base64.b64encode(PNG).decode() not in task.model_dump_json()


def test_files_of_a_completion_go_with_its_task(house: House) -> None:
    house.talker.answers = [["A pixel."]]
    answer = house.ask(messages=[user(words("What is it?"), IMAGE, IMAGE)])
    task = UUID(answer.id.removeprefix("chatcmpl-"))
    assert [row.task_id for row in attachments_of(house)] == [task]
    with db.transaction(house.org) as connection:
        connection.execute(text("DELETE FROM tasks"))
    pruning.remove_blobs()
    assert attachments_of(house) == []


def test_a_request_that_is_sent_again_is_one_task_and_with_another_file_none(house: House) -> None:
    house.talker.answers = [["A pixel."]]
    again: Any = {"extra_headers": {"Idempotency-Key": "k"}}
    first = house.ask(messages=[user(words("What is it?"), IMAGE)], **again)
    ask = house.client.chat.completions.create
    second = ask(model="support-assistant", messages=[user(words("What is it?"), IMAGE)], **again)
    assert first.id == second.id
    with pytest.raises(openai.ConflictError, match="other files"):
        ask(model="support-assistant", messages=[user(words("What is it?"), PAPER)], **again)


def test_a_response_reads_files_and_those_that_follow_it_too(house: House) -> None:
    house.talker.answers = [["A pixel."], ["Still."]]
    asked = [{"role": "user", "content": [
        {"type": "input_image", "image_url": data(PNG, "image/png")},
        {"type": "input_file", "filename": "prices.csv", "file_data": data(CSV, "text/csv")},
    ]}]  # fmt: skip
    first = house.respond(asked)
    assert first.output_text == "A pixel."
    assert "yoga,12" in read_by_the_model(house)[-1]["text"]
    second = house.respond("And now?", previous_response_id=first.id)
    assert read_by_the_model(house, message=1)[0]["image_url"]["url"] == data(PNG, "image/png")
    (item,) = house.client.responses.input_items.list(first.id)
    assert [part.type for part in item.content] == ["input_text", "input_file", "input_file"]
    house.client.responses.delete(second.id)
    assert len(attachments_of(house)) == 2
    house.client.responses.delete(first.id)
    with db.system_transaction() as connection:  # a deleted response stays for a minute, for the client that streams it
        connection.execute(text("UPDATE tasks SET finished_at = finished_at - interval '2 minutes'"))
    pruning.purge_conversations()
    assert attachments_of(house) == []


def test_a_response_that_is_asked_for_again_with_its_key_is_one(house: House) -> None:
    house.talker.answers = [["A pixel."]]
    asked = [{"role": "user", "content": [{"type": "input_image", "image_url": data(PNG, "image/png")}]}]
    again: Any = {"extra_headers": {"Idempotency-Key": "k"}}
    first = house.respond(asked, **again)
    assert house.client.responses.create(model="support-assistant", input=asked, **again).id == first.id
    other = [{"role": "user", "content": [{"type": "input_file", "file_data": data(PDF, "application/pdf")}]}]
    with pytest.raises(openai.ConflictError):
        house.client.responses.create(model="support-assistant", input=other, **again)


def test_items_of_a_conversation_may_have_files(house: House) -> None:
    begun = house.client.conversations.create(items=[
        {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": data(PNG, "image/png")}]},
        {"type": "message", "role": "assistant", "content": "A pixel."},
    ])  # fmt: skip
    house.talker.answers = [["Red."]]
    house.respond("Which colour?", conversation=begun.id)
    assert read_by_the_model(house, message=1)[0]["type"] == "image_url"


@pytest.mark.parametrize(
    ("part", "kind", "why"),
    [
        ({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}, openai.BadRequestError, "not fetched"),
        ({"type": "image_url", "image_url": {"url": "HTTP://10.0.0.1/"}}, openai.BadRequestError, "not fetched"),
        ({"type": "file", "file": {"file_data": "file:///etc/passwd"}}, openai.BadRequestError, "not fetched"),
        ({"type": "file", "file": {"file_id": "file-1"}}, openai.UnprocessableEntityError, "ids of files"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,?"}}, openai.UnprocessableEntityError,
         "base64"),
        ({"type": "image_url", "image_url": {"url": data(b"MZ", "image/png")}}, openai.UnprocessableEntityError,
         "not image/png"),
        ({"type": "image_url"}, openai.UnprocessableEntityError, "base64"),
        ({"type": "input_audio", "input_audio": {}}, openai.UnprocessableEntityError, "input_audio"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_in_words(house: House, part: Any, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        house.client.chat.completions.create(model="support-assistant", messages=[user(words("x"), part)])
    assert attachments_of(house) == []


def test_an_address_is_refused_in_responses_too(house: House) -> None:
    for part in (
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ):
        with pytest.raises(openai.BadRequestError, match="not fetched"):
            house.client.responses.create(model="support-assistant", input=[{"role": "user", "content": [part]}])


def test_a_model_that_reads_no_images_is_named(house: House) -> None:
    change_agent(house.org, "support-assistant", model="gpt-3.5-turbo")
    with pytest.raises(openai.UnprocessableEntityError, match=r"gpt-3.5-turbo, does not read images"):
        house.client.chat.completions.create(model="support-assistant", messages=[user(words("x"), IMAGE)])


def test_a_large_file_needs_a_key_that_was_issued_here(house: House) -> None:
    large = {"type": "file", "file": {"filename": "a.txt", "file_data": data(b"x" * 3_000_000, "text/plain")}}
    house.talker.answers = [["Long."]]
    assert house.ask(messages=[user(words("Sum up."), large)]).choices[0].message.content == "Long."
    stranger = house.client.with_options(api_key=f"rota_{'0' * 32}_{'0' * 64}")
    with pytest.raises(openai.APIStatusError) as refused:
        stranger.chat.completions.create(model="support-assistant", messages=[user(words("x"), large)])
    assert refused.value.status_code == 413
    with configured(max_attachments_bytes="10"), pytest.raises(openai.UnprocessableEntityError, match="together"):
        house.client.chat.completions.create(model="support-assistant", messages=[user(words("x"), IMAGE)])


def test_nothing_is_stored_of_a_request_that_is_refused(house: House) -> None:
    def file(number: int) -> Any:
        content = base64.b64encode(str(number).encode()).decode()
        return {"type": "file", "file": {"filename": f"{number}.txt", "file_data": content}}

    for messages, model, error in (
        ([user(words("x"), *map(file, range(11)))], "support-assistant", openai.UnprocessableEntityError),
        ([user(*map(file, range(10 * turn, 10 * turn + 10))) for turn in range(11)], "support-assistant",
         openai.UnprocessableEntityError),
        ([user(words("x"), file(1))], "nobody", openai.NotFoundError),
    ):  # fmt: skip
        with pytest.raises(error):
            house.client.chat.completions.create(model=model, messages=messages)
    assert attachments_of(house) == []
