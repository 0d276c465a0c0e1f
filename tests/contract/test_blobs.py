"""One suite over both stores of blobs: a folder, and S3-compatible storage that checks every signature."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.blobs.base import BlobStore, Content
from core.blobs.store import make_store
from core.errors import InvalidInput, Misconfigured, NotFound, Unavailable
from core.settings import Settings, load_settings
from tests.support.bucket import ACCESS_KEY, SECRET_KEY, Bucket, bucket_server


def in_bucket(url: str, secret: str = SECRET_KEY) -> BlobStore:
    """The store in a bucket."""
    return make_store(
        Settings(blobs_url=url, blobs_access_key=SecretStr(ACCESS_KEY), blobs_secret_key=SecretStr(secret))
    )


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with bucket_server() as made:
        yield made


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, bucket: Bucket) -> BlobStore:
    if request.param == "bucket":
        return in_bucket(bucket.url)
    return make_store(Settings(blobs_url=(tmp_path / "blobs of ours").as_uri()))


def content(data: bytes) -> Content:
    return Content(io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def read(store: BlobStore, key: str) -> bytes:
    with store.open(key) as pieces:
        return b"".join(pieces)


@pytest.mark.parametrize("data", [b"a", b"\x00\xff" * 200_000])
def test_what_is_stored_can_be_read_until_it_is_deleted(store: BlobStore, data: bytes) -> None:
    store.put("org/one_1.-x", content(data))
    assert read(store, "org/one_1.-x") == data
    store.delete("org/one_1.-x")
    store.delete("org/one_1.-x")
    with pytest.raises(NotFound):
        read(store, "org/one_1.-x")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.b", "a\x00b", "a/", "a\\b", "á", "x" * 200, "a?b", "a b"]
)
def test_a_key_cannot_name_anything_else(store: BlobStore, key: str) -> None:
    for verb in (lambda: store.put(key, content(b"x")), lambda: store.open(key), lambda: store.delete(key)):
        with pytest.raises(InvalidInput):
            verb()


def test_a_write_that_was_interrupted_is_not_seen_and_leaves_nothing(tmp_path: Path) -> None:
    store = make_store(Settings(blobs_url=tmp_path.as_uri()))

    class Torn(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            if not piece:
                raise OSError("the disk is gone")
            return piece

    with pytest.raises(Unavailable):
        store.put("org/one", Content(Torn(b"half"), 8, ""))
    assert [path.name for path in (tmp_path / "org").iterdir()] == [".one.part"]
    with pytest.raises(NotFound):
        read(store, "org/one")
    store.delete("org/one")
    assert list((tmp_path / "org").iterdir()) == []


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    make_store(Settings(blobs_url=(tmp_path / "b").as_uri())).put("org/one", content(b"x"))
    assert (tmp_path / "b" / "org" / "one").stat().st_mode & 0o077 == 0


def test_a_storage_that_is_away_or_refuses_is_a_domain_error(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    away = Settings(blobs_url="s3://files/x?endpoint=http://127.0.0.1:9")
    for store in (
        make_store(away), in_bucket(bucket.url, "another secret"),
        make_store(Settings(blobs_url=(tmp_path / "file" / "below").as_uri())),
    ):  # fmt: skip
        for verb in (lambda s=store: s.put("a", content(b"x")), lambda s=store: read(s, "a")):
            with pytest.raises(Unavailable, match="storage of files"):
                verb()
    assert "the signature is another" in bucket.refused


def test_a_server_that_is_busy_is_asked_again(bucket: Bucket) -> None:
    store = in_bucket(bucket.url)
    bucket.failures = 2
    store.put("org/busy", content(b"x" * 100_000))
    bucket.failures = 1
    assert read(store, "org/busy") == b"x" * 100_000
    assert "/files/team one/org/busy" in bucket.objects


@pytest.mark.parametrize(
    "url",
    ["ftp://x/y", "file://host/x", "file:///", "s3://bucket", "s3://bucket?endpoint=x", "s3:///x?endpoint=http://h"],
)
def test_an_address_that_means_no_storage_is_refused_at_the_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_BLOBS_URL", url)
    with pytest.raises(Misconfigured, match="ROTA_BLOBS_URL"):
        load_settings()


def test_the_keys_of_a_storage_are_masked_in_logs() -> None:
    given: dict[str, Any] = {"blobs_access_key": SecretStr("one"), "blobs_secret_key": SecretStr("two")}
    assert {"one", "two"} <= set(Settings(**given).secrets)
    assert SECRET_KEY not in repr(in_bucket("s3://b?endpoint=http://127.0.0.1:9").__dict__)
