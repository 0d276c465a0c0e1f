"""Time zones by their IANA names."""

import functools
import importlib.resources
from zoneinfo import ZoneInfo


def known_zone(name: str) -> str:
    """`name`, where IANA lists it as a time zone.

    A system has more files beside these: `localtime` and `posixrules` mean another zone on each machine, `right/*`
    counts leap seconds, which neither Python's clock nor PostgreSQL's does, and `Factory` stands for a zone not set.

    Raises:
        ValueError: it is not.
    """
    if name not in _listed():
        raise ValueError(f"{name!r} is no time zone; write an IANA name such as Europe/Madrid or UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # this machine's own database of zones is older
        raise ValueError(f"{name!r} is no time zone that this machine knows; update its tzdata") from error
    return name


@functools.cache
def _listed() -> frozenset[str]:
    listed = importlib.resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split()) - {"Factory"}
