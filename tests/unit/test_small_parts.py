"""The small parts of core: ids, keys, secrets, moments, text, money, settings, memory."""

import gc
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_origin
from uuid import UUID

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter, ValidationError

from core.clock import Moment
from core.crypto import ApiKey, new_api_key, new_secret, parse_api_key, secret_digest, was_issued_here
from core.errors import Misconfigured
from core.ids import new_id
from core.memory import freeze_gc
from core.model_providers import PROVIDERS
from core.money import exact, in_words
from core.settings import Settings, load_settings
from core.text import MAX_DEPTH, unstorable
from core.vault import Vault, make_vault


def test_ids_are_version_7_and_sort_by_time() -> None:
    first = new_id()
    time.sleep(0.002)
    second = new_id()
    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert first < second
    assert abs((first.int >> 80) / 1000 - time.time()) < 5


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_ids_made_within_one_millisecond_sort_by_the_time_they_were_made() -> None:
    with time_machine.travel(1_800_000_000.1232, tick=False) as clock:
        made = []
        for _ in range(100):
            made.append(new_id())
            clock.shift(timedelta(microseconds=5))
    assert made == sorted(made)
    assert made[0].int >> 80 == made[-1].int >> 80


def test_an_api_key_survives_being_written_and_read() -> None:
    key = ApiKey(new_id(), new_secret())
    assert parse_api_key(str(key)) == key
    assert key.secret not in repr(key)


@pytest.mark.parametrize("text", ["", "rota", "rota_", "rota_zz_x", "sk-123", "rota_1_2_3", "rota__", "röta_1_2"])
def test_what_is_no_key_is_none(text: str) -> None:
    assert parse_api_key(text) is None


def test_a_key_of_ours_is_told_from_a_made_up_one_by_itself() -> None:
    key = new_api_key(new_id(), "p")
    assert parse_api_key(str(key)) == key
    assert was_issued_here(str(key), "p")
    assert not was_issued_here(str(key), "q")
    assert not was_issued_here(str(ApiKey(new_id(), key.secret)), "p")
    made_up = ("0" * 64, "0" * 63, key.secret[:-1], key.secret[:-16] + "0" * 16, "", "é" * 64)
    assert not any(was_issued_here(f"rota_{key.id.hex}_{secret}", "p") for secret in made_up)


@given(st.uuids(), st.text(st.characters(codec="ascii", exclude_characters=""), max_size=80))
def test_every_key_is_read_as_it_was_written(key_id: UUID, secret: str) -> None:
    assert parse_api_key(str(ApiKey(key_id, secret))) == ApiKey(key_id, secret)


@given(st.text(st.characters(exclude_categories=()), max_size=100))
def test_no_text_breaks_the_reading_of_keys(text: str) -> None:
    for asked in (text, f"rota_{text}", f"rota_{'0' * 32}_{text}"):
        key = parse_api_key(asked)
        assert key is None or key.secret.isascii()
        assert not was_issued_here(asked, "p")


def test_a_key_has_at_least_192_bits_of_its_own() -> None:
    first, second = new_api_key(new_id(), "p"), new_api_key(new_id(), "p")
    assert first.secret != second.secret
    assert len(bytes.fromhex(first.secret[:-16])) == 24
    assert len({new_secret() for _ in range(1_000)}) == 1_000


# ── secrets at rest ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_secret_opens_with_any_of_the_keys_and_is_locked_with_the_first() -> None:
    old, new, both = Vault(["old"]), Vault(["new"]), Vault(["new", "old"])
    locked = old.lock("hünter2")
    assert b"hunter" not in locked
    assert both.open(locked) == old.open(locked) == "hünter2"
    assert new.open(both.relock(locked)) == "hünter2"
    with pytest.raises(Misconfigured, match="rota secrets rotate"):
        new.open(locked)
    with pytest.raises(Misconfigured):
        old.open(both.lock("later"))


@pytest.mark.parametrize("change", [lambda locked: locked[:-1], lambda locked: b"", lambda locked: b"x" + locked])
def test_a_secret_that_was_tampered_with_does_not_open(change: Callable[[bytes], bytes]) -> None:
    vault = Vault(["key"])
    with pytest.raises(Misconfigured):
        vault.open(change(vault.lock("secret")))


def test_without_keys_of_its_own_the_vault_goes_by_the_secret_key() -> None:
    derived = make_vault(Settings(secret_key=SecretStr("s")))
    assert derived.open(Vault(["s"]).lock("x")) == "x"
    keyed = make_vault(Settings(secret_key=SecretStr("s"), encryption_keys=[SecretStr("e")]))
    with pytest.raises(Misconfigured):
        keyed.open(derived.lock("x"))


# ── moments ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "is_kept"),
    [
        ("0001-01-01T00:00:00+00:00", True),
        ("0001-01-01T00:00:00+00:01", False),  # still in the year before
        ("0001-01-01T00:00:00-12:00", True),
        ("9999-12-31T23:59:59Z", True),
        ("9999-12-31T23:59:59-00:01", False),
        ("2026-03-29T02:30:00+02:00", True),
        ("2026-03-29T02:30:00", False),  # in which zone?
    ],
)
def test_a_moment_lies_within_the_years_that_can_be_stored(written: str, is_kept: bool) -> None:
    moment: TypeAdapter[datetime] = TypeAdapter(Moment)
    if is_kept:
        assert moment.validate_python(written) == datetime.fromisoformat(written)
    else:
        with pytest.raises(ValidationError, match=r"outside the years 1 to 9999|should have timezone info"):
            moment.validate_python(written)


def test_digests_depend_on_secret_and_pepper() -> None:
    digest = secret_digest("s", "p")
    assert digest == secret_digest("s", "p")
    assert digest != secret_digest("s", "q")
    assert digest != secret_digest("t", "p")


@pytest.mark.parametrize(
    ("value", "reason"),
    [("a\x00b", "NUL"), ({"k\x00": 1}, "NUL"), ([["\ud800"]], "surrogate"), (float("nan"), "NaN"), ("ok", None)],
)
def test_what_cannot_be_stored(value: object, reason: str | None) -> None:
    found = unstorable(value)
    assert (found is None) if reason is None else (found is not None and reason in found)


def test_deep_nesting_is_refused_at_the_stated_depth() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = [value]
    assert unstorable(value) is None
    assert "deep" in (unstorable([value]) or "")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_ordinary_json_can_be_stored(value: object) -> None:
    text = repr(value)
    if "\\x00" not in text and "\\ud" not in text:
        assert unstorable(value) is None


def test_money_in_words() -> None:
    assert in_words(Decimal("1234.5")) == "$1,234.50"
    assert in_words(Decimal("0.000123")) == "$0.000123"
    assert in_words(Decimal(0)) == "$0.00"


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0.1", "$0.10"), ("0.0999999", "$0.100000"), ("0.01", "$0.010000"), ("0.0000005", "$0.000000"),
        ("1000000", "$1,000,000.00"), ("2.345", "$2.34"), ("0.000", "$0.00"),
    ],
)  # fmt: skip
def test_small_amounts_show_more_places(amount: str, words: str) -> None:
    assert in_words(Decimal(amount)) == words


@given(st.lists(st.decimals(-1_000_000, 1_000_000, places=10), max_size=20))
def test_amounts_of_ten_places_stay_exact_and_so_do_their_sums(amounts: list[Decimal]) -> None:
    assert [exact(amount) for amount in amounts] == amounts
    assert exact(sum(amounts, Decimal(0))) == sum(map(exact, amounts), Decimal(0))


@given(st.decimals(-1_000_000, 1_000_000, places=14), st.decimals(-1_000_000, 1_000_000, places=14))
def test_rounding_keeps_the_order_of_amounts(one: Decimal, other: Decimal) -> None:
    assert exact(exact(one)) == exact(one)
    assert abs(exact(one) - one) <= Decimal("0.00000000005")
    if one <= other:
        assert exact(one) <= exact(other)


def test_exact_rounds_half_to_even_at_ten_places() -> None:
    assert exact(Decimal("0.00000000005")) == Decimal(0)
    assert exact(Decimal("0.00000000015")) == Decimal("0.0000000002")


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_QUEUE_BOUND", "many")
    monkeypatch.setenv("REDIS_URL", "http://nowhere")
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert "queue_bound" in caught.value.message
    assert "redis://" in caught.value.message


def test_settings_come_from_a_file_and_the_environment_goes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "rota.toml"
    file.write_text("queue_bound = 7\nworker_lease = 20\n")
    monkeypatch.setenv("ROTA_CONFIG", str(file))
    monkeypatch.setenv("ROTA_WORKER_LEASE", "30")
    found = load_settings()
    assert (found.queue_bound, found.worker_lease) == (7, 30)


def test_an_unknown_setting_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "rota.toml"
    file.write_text("que_bound = 7\n")
    monkeypatch.setenv("ROTA_CONFIG", str(file))
    with pytest.raises(Misconfigured, match="que_bound"):
        load_settings()


class Knot(list["Knot"]):
    """Something that holds itself, and can be watched."""

    def __init__(self) -> None:
        super().__init__([self])


def test_the_collector_leaves_alone_what_was_there_at_the_start_and_nothing_else() -> None:
    before, garbage = Knot(), weakref.ref(Knot())
    freeze_gc()
    try:
        assert garbage() is None  # or it would be kept for ever
        assert not any(one is before for one in gc.get_objects())
        gone = weakref.ref(Knot())
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('["a.b:C", "d"]', ["a.b:C", "d"]),
        ("a.b:C,d", ["a.b:C", "d"]),
        (" a.b:C , ", ["a.b:C"]),
        ('"a.b:C"', ["a.b:C"]),
        ("", []),
    ],
)
def test_a_list_may_be_written_plainly(monkeypatch: pytest.MonkeyPatch, written: str, read: list[str]) -> None:
    monkeypatch.setenv("ROTA_TOOLS", written)
    assert load_settings().tools == read


# Every text is one.
_ANYTHING = {
    "api_host", "secret_key", "blobs_access_key", "blobs_secret_key", *(f"{name}_api_key" for name in PROVIDERS),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - _ANYTHING))
@pytest.mark.parametrize("written", ['["unfinished', "http://[", "-1e400"])
def test_every_setting_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, name: str, written: str) -> None:
    field = Settings.model_fields[name]
    monkeypatch.setenv(str(field.validation_alias or f"ROTA_{name.upper()}"), written)
    if get_origin(field.annotation) is list and not written.startswith("["):
        monkeypatch.setenv(f"ROTA_{name.upper()}", '{"not": "a list"}')
    with pytest.raises(Misconfigured, match=name):
        load_settings()


@pytest.mark.parametrize(("written", "read"), [("debug", "DEBUG"), ("Warn", "WARNING"), ("ERROR", "ERROR")])
def test_the_level_of_logs_is_one_that_there_is(monkeypatch: pytest.MonkeyPatch, written: str, read: str) -> None:
    monkeypatch.setenv("ROTA_LOG_LEVEL", written)
    assert load_settings().log_level == read
