"""E-mail addresses as mail servers take them."""

import pytest

from core.mailboxes import routable, spellings


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("ana@example.com", "ana@example.com"),
        ("Ana.O'Neil+x@Example.com", "Ana.O'Neil+x@Example.com"),
        ("ana@bücher.example", "ana@xn--bcher-kva.example"),
        ("ana@BÜCHER.example", "ana@xn--bcher-kva.example"),
        ("ana@straße.example", "ana@xn--strae-oqa.example"),  # IDNA 2003 would make another domain of it
        ("ana@日本。example", "ana@xn--wgv71a.example"),
    ],
)
def test_a_domain_is_told_in_ascii(written: str, told: str) -> None:
    assert routable(written) == told
    assert routable(told) == told


@pytest.mark.parametrize(
    "written", ["añá@example.com", "ana@bü cher.example", "ana@ü..example", "ana@-ü.example", "ü@"]
)
def test_what_no_mail_server_could_be_told_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="mail"):
        routable(written)


def test_both_spellings_are_the_same_mailbox() -> None:
    both = {"ana@bücher.example", "ana@xn--bcher-kva.example"}
    for one in both:
        assert spellings(one) == both
    for other in ("+34600111222", "not an address", "a@b..c", ""):
        assert other in spellings(other)
