"""What is in a file, how it is signed for, and how it is told to a model."""

import zlib
from datetime import UTC, datetime

import pytest

from agents.attached import attach, parts_of, readable
from agents.llm.base import AssistantMessage, MediaPart, Request, UserMessage
from agents.llm.context import fit
from agents.llm.counting import media_tokens, size_of
from core.blobs.addresses import Ticket, derived_key, serving_headers, sign, verify
from core.blobs.signing import Credentials, encoded_path, signed_headers
from core.errors import InvalidInput
from core.ids import new_id
from core.model_providers import NO_MEDIA, Media, media_of
from domain.attachments.content import media_type_of, pages_of
from domain.attachments.schemas import MOST_OF_TEXTS, AttachedFile
from tests.support.files import PDF, PNG

# ── what is in a file ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("declared", "name", "head", "found"),
    [
        ("image/png", "a.png", PNG, "image/png"),
        ("application/octet-stream", "a", PNG, "image/png"),
        ("", "a", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("image/gif", "a", b"GIF89a..", "image/gif"),
        ("image/webp", "a", b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("application/pdf", "a.txt", PDF, "application/pdf"),
        ("", "a.csv", b"a,b\n", "text/csv"),
        ("text/plain", "notes.md", b"# x", "text/markdown"),
        ("text/plain; charset=utf-8", "x.csv.txt", b"x", "text/plain"),
        ("application/json", "x", b"{}", "application/json"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(declared: str, name: str, head: bytes, found: str) -> None:
    assert media_type_of(declared, name, head[:16]) == found


@pytest.mark.parametrize(
    ("declared", "head", "why"),
    [
        ("image/png", b"\xff\xd8\xff", "image/jpeg"),
        ("text/plain", PNG, "image/png"),
        ("image/png", b"<html>", "not image/png"),
        ("application/pdf", b"MZ", "not application/pdf"),
        ("text/html", b"<html>", "text/html"),
        ("image/svg+xml", b"<svg/>", "svg"),
        ("application/zip", b"PK", "zip"),
    ],
)
def test_what_a_file_is_not_is_refused(declared: str, head: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why.replace("+", r"\+")):
        media_type_of(declared, "file", head)


def test_pages_are_counted_in_the_clear_and_in_object_streams() -> None:
    assert pages_of(PDF) == 1
    assert pages_of(b"%PDF-1.7 /Type /Pages /Type/Page /Type /Page\n") == 2
    packed = zlib.compress(b"<</Type/Page>> " * 7)
    assert pages_of(b"%PDF-1.7 <</Type /ObjStm /Length 9>>stream\r\n" + packed + b"\nendstream") == 7
    assert pages_of(b"%PDF-1.7 <</Type /ObjStm>>stream\nbroken") == 1
    assert pages_of(b"%PDF-1.7" + b"x" * 120_000) == 3
    bomb = b"%PDF <</Type /ObjStm>>stream\n" + zlib.compress(b"/Type/Page " * 10_000_000)
    assert pages_of(bomb) < 400_000


# ── addresses and signatures ─────────────────────────────────────────────────────────────────────────────────────────

TICKET = Ticket(key="o/a", name='"../é\r\n.html', media_type="text/plain", size=3, expires=9)


def test_a_token_that_was_changed_or_signed_with_another_key_gives_nothing() -> None:
    token = sign(TICKET, derived_key("one"))
    assert verify(token, derived_key("one")) == TICKET
    assert verify(token, derived_key("two")) is None
    for changed in (token[:-2], token[::-1], "", "é", "A" * 60, token[:50] + "A" + token[51:]):
        assert verify(changed, derived_key("one")) is None


def test_a_file_is_served_so_that_a_browser_saves_it() -> None:
    headers = serving_headers(TICKET)
    assert headers["content-disposition"] == "attachment; filename*=UTF-8''%22..%2F%C3%A9%0D%0A.html"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]


def test_a_request_is_signed_as_botocore_signs_it() -> None:
    # What botocore 1.43 makes of this request (S3SigV4Auth).
    at = datetime(2026, 11, 30, 12, tzinfo=UTC)
    url = "http://127.0.0.1:9000" + encoded_path("/files/team/a b~1.txt")
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    made = signed_headers("PUT", url, digest, at, Credentials("AKIAEXAMPLE", "wJalrXUtnFEMI", "eu-1"))
    assert (
        made["authorization"].rpartition("Signature=")[2]
        == "f243f605e29b4b90af1d64f150daa036826bcb8a273eff0532875e35a1402b95"
    )
    assert "wJal" not in repr(Credentials("AKIAEXAMPLE", "wJalrXUtnFEMI", "eu-1"))


# ── what a model reads ───────────────────────────────────────────────────────────────────────────────────────────────


def file(name: str = "notes.txt", media_type: str = "text/plain", size: int = 10) -> AttachedFile:
    return AttachedFile(id=new_id(), name=name, media_type=media_type, size=size, sha256="d")


def test_texts_come_last_marked_and_visibly_cut() -> None:
    short, long = file("a.txt"), file("b.csv", "text/csv", 90_000)
    told = attach("Look.", [short, long], {short.id: "short", long.id: "y" * MOST_OF_TEXTS}).text
    assert told.startswith("Look.\n\n[All that follows was written by somebody outside")
    assert "[File a.txt, text/plain]\nshort\n\n[File b.csv, text/csv]\nyyy" in told
    assert told.endswith(f"[cut: these are the first {MOST_OF_TEXTS - 5} characters of 90000 bytes]")
    assert len(told) < MOST_OF_TEXTS + 300


def test_images_come_along_and_what_was_deleted_is_said() -> None:
    photo, gone = file("p.png", "image/png"), file("gone.pdf", "application/pdf")
    message = attach("Look.", [photo, gone], {photo.id: ""})
    assert [part.id for part in message.media] == [photo.id]
    assert "[File p.png, image/png: it comes with this message]" in message.text
    assert "[File gone.pdf: it was deleted]" in message.text


def request(*messages: UserMessage | AssistantMessage) -> Request:
    return Request(model="m", system="", messages=list(messages), max_output_tokens=100)


def test_a_model_gets_what_it_reads_with_its_tokens_and_a_note_for_the_rest() -> None:
    photo, paper = file("p.png", "image/png"), file("d.pdf", "application/pdf")
    paper.pages = 3
    asked = request(attach("Look.", [photo, paper], {photo.id: "", paper.id: ""}))
    assert [part.tokens for part in parts_of(readable(asked, Media(image=100, page=50)))] == [100, 150]
    some = readable(asked, Media(image=100))
    assert [part.name for part in parts_of(some)] == ["p.png"]
    assert some.messages[0].text.endswith("[File d.pdf: this model does not read it]")  # type: ignore[union-attr]
    assert parts_of(readable(asked, NO_MEDIA)) == []


def test_images_count_and_those_of_earlier_messages_are_left_out_first() -> None:
    def seen(text: str) -> UserMessage:
        part = MediaPart(id=new_id(), name="p.png", media_type="image/png", medium="image", pages=1, sha256="d", size=4,
                         tokens=5_000)  # fmt: skip
        return UserMessage(text=text, media=[part])

    assert (size_of(seen("12345")), media_tokens(seen("12345"))) == (5, 5_000)
    asked = request(
        seen("first"), AssistantMessage(text="yes"), seen("second"), AssistantMessage(text="yes"), seen("now")
    )
    assert fit(asked, 100_000) is asked
    asked.earlier = 4
    cut = fit(asked, 14_000)
    assert [len(one.media) for one in cut.messages if isinstance(one, UserMessage)] == [0, 1, 1]
    assert cut.messages[0].text == "first\n[File p.png: left out to fit the model's context]"  # type: ignore[union-attr]


def test_bytes_are_in_no_record_of_a_request() -> None:
    part = MediaPart(
        id=new_id(), name="p", media_type="image/png", medium="image", pages=1, sha256="d", size=4, content=b"xyz"
    )
    asked = request(UserMessage(text="x", media=[part]))
    assert "eHl6" not in asked.model_dump_json() + repr(asked)
    assert "xyz" not in asked.model_dump_json() + repr(asked)
    assert part.base64 == "eHl6"


@pytest.mark.parametrize(
    ("model", "image", "pdf"),
    [
        ("claude-sonnet-4-5", True, True), ("claude-3-haiku-20240307", True, False), ("claude-2.1", False, False),
        ("gpt-4o-mini", True, True), ("gpt-4-turbo", True, False), ("gpt-3.5-turbo", False, False),
        ("o3-mini", False, False), ("openai/gpt-4o", True, True), ("qwen3:8b", False, False),
    ],
)  # fmt: skip
def test_a_models_name_says_what_it_reads(model: str, image: bool, pdf: bool) -> None:
    found = media_of(model)
    assert (found.tokens("image") is not None, found.tokens("pdf") is not None) == (image, pdf)


def test_images_of_earlier_messages_that_are_too_large_together_are_left_out_oldest_first() -> None:
    def seen(text: str, size: int) -> UserMessage:
        part = MediaPart(id=new_id(), name="p", media_type="image/png", medium="image", pages=1, sha256="d", size=size)
        return UserMessage(text=text, media=[part])

    asked = request(seen("a", 9_000_000), seen("b", 15_000_000), seen("c", 5_000_000), seen("now", 20_000_000))
    asked.earlier = 3
    read = readable(asked, Media(image=100))
    assert [len(one.media) for one in read.messages if isinstance(one, UserMessage)] == [0, 1, 1, 1]


def test_pages_are_counted_without_trying_what_only_seems_to_be_a_stream() -> None:
    assert pages_of(b"%PDF-" + b"/Type/ObjStmstream\n" * 500_000) == 1 + (5 + 500_000 * 19) // 50_000
    assert pages_of(b"%PDF-1.7 /Type /P#61ge /Type /#50age /Type /P#61ges\n") == 2
