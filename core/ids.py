"""Identifiers: UUIDv7 (RFC 9562), so that rows sort by creation time and indexes stay compact."""

import os
import threading
import time
from uuid import UUID

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = 62
_MILLISECOND = 1_000_000  # nanoseconds
_BYTES = 8
_AT_ONCE = 512 * _BYTES


class _Randomness:
    """Random numbers of the operating system, fetched in batches: each system call releases the GIL, and a busy thread
    must then wait to get it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: list[int] = []
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        # A child must not share numbers with its parent, nor inherit a lock that another thread held during the fork.
        self._lock = threading.Lock()
        self._numbers = []

    def take(self) -> int:
        """Return 64 random bits; each number is given out once."""
        with self._lock:
            if not self._numbers:
                fetched = os.urandom(_AT_ONCE)
                self._numbers = [int.from_bytes(fetched[at : at + _BYTES]) for at in range(0, _AT_ONCE, _BYTES)]
            return self._numbers.pop()


_randomness = _Randomness()


def new_id() -> UUID:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, 12 bits of the millisecond's fraction, 62 random bits (RFC
    9562, sections 5.7 and 6.2, method 3). Ids therefore sort by creation time, to a quarter of a microsecond.
    """
    milliseconds, rest = divmod(time.time_ns(), _MILLISECOND)
    fraction = (rest << 12) // _MILLISECOND
    return UUID(
        int=(milliseconds & 0xFFFF_FFFF_FFFF) << 80
        | _VERSION_7
        | fraction << 64
        | _VARIANT
        | _randomness.take() >> (64 - _RANDOM_BITS)
    )
