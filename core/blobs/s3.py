"""Blobs in S3-compatible storage, over three requests: PUT, GET and DELETE of an object."""

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

import httpx2

from core.blobs.base import Content
from core.blobs.signing import EMPTY_SHA256, Credentials, encoded_path, signed_headers
from core.errors import NotFound, Unavailable
from core.logging import get_logger

log = get_logger(__name__)
_PIECE = 64 * 1024
_PAUSES = (0.0, 0.2, 1.0)
"""seconds before each try: all three requests may be repeated"""
_TIMEOUT = httpx2.Timeout(30, connect=5)
_SAID = 500


@dataclass(frozen=True)
class Bucket:
    """Where the objects are, and as whom they are written."""

    endpoint: str
    name: str
    prefix: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def url_of(self, key: str) -> str:
        """Return the address of an object. The bucket is in the path: not every server has a host name per bucket."""
        path = "/".join(filter(None, (self.name, self.prefix, key)))
        return f"{self.endpoint}/{encoded_path(path)}"

    @property
    def credentials(self) -> Credentials:
        """As whom requests are signed."""
        return Credentials(self.access_key, self.secret_key, self.region)


class S3Store:
    """A blob is an object. The storage itself sees to it that an object is there whole or not at all."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._client = httpx2.Client(timeout=_TIMEOUT, follow_redirects=False)
        weakref.finalize(self, self._client.close)

    def put(self, key: str, content: Content) -> None:
        """Send the object, with the digest that the storage compares it with."""
        headers = {"content-length": str(content.size)}
        with self._exchanged("PUT", key, content.sha256, lambda: _pieces(content.source), headers) as response:
            _ensure_done(response)

    @contextlib.contextmanager
    def open(self, key: str) -> Iterator[Iterator[bytes]]:
        """Yield the pieces of an object as they arrive."""
        with self._exchanged("GET", key) as response:
            if response.status_code == httpx2.codes.NOT_FOUND:
                raise NotFound("This file is no longer there.")
            _ensure_done(response)
            with _as_unavailable():
                yield response.iter_bytes(_PIECE)

    def delete(self, key: str) -> None:
        """Delete the object."""
        with self._exchanged("DELETE", key) as response:
            if response.status_code != httpx2.codes.NOT_FOUND:
                _ensure_done(response)

    @contextlib.contextmanager
    def _exchanged(
        self,
        method: str,
        key: str,
        sha256: str = EMPTY_SHA256,
        body: Callable[[], Any] = lambda: None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[httpx2.Response]:
        """Send a request, again after an error of the network or the server, and yield its response, unread."""
        with contextlib.ExitStack() as stack:
            yield self._sent(stack, method, key, sha256, body, headers or {})

    def _sent(
        self,
        stack: contextlib.ExitStack,
        method: str,
        key: str,
        sha256: str,
        body: Callable[[], Any],
        headers: dict[str, str],
    ) -> httpx2.Response:
        url = self._bucket.url_of(key)
        for last, pause in enumerate(_PAUSES, 1):
            time.sleep(pause)
            signed = signed_headers(method, url, sha256, datetime.now(UTC), self._bucket.credentials)
            try:
                response = stack.enter_context(
                    self._client.stream(method, url, headers=headers | signed, content=body())
                )
            except httpx2.HTTPError as error:
                if last == len(_PAUSES):
                    raise _unavailable(str(error) or type(error).__name__) from error
            else:
                if last == len(_PAUSES) or not response.is_server_error:
                    return response
                stack.pop_all().close()
        raise AssertionError  # the last try returns or raises


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    source.seek(0)
    return iter(lambda: source.read(_PIECE), b"")


def _ensure_done(response: httpx2.Response) -> None:
    if response.is_success:
        return
    with _as_unavailable():
        said = response.read()[:_SAID].decode(errors="replace")
    raise _unavailable(f"{response.status_code} {said}")


def _unavailable(reason: str) -> Unavailable:
    log.error("the storage of blobs does not serve", reason=reason)
    return Unavailable("The storage of files cannot be used at the moment.")


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except httpx2.HTTPError as error:
        raise _unavailable(str(error) or type(error).__name__) from error
