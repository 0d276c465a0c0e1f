"""Time zones by their IANA names."""

import functools
import importlib.resources
from zoneinfo import ZoneInfo


def known_zone(name: str) -> str:
    """Return `name`, if IANA lists it as a time zone.

    The files of a system's zone database include more: `localtime` and `posixrules` differ from machine to machine,
    `right/*` counts leap seconds, which neither Python's clock nor PostgreSQL's does, and `Factory` means not set.

    Raises:
        ValueError: IANA does not list it, or this machine's zone database does not have it.
    """
    if name not in _listed():
        raise ValueError(f"{name!r} is no time zone; write an IANA name such as Europe/Madrid or UTC")
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # this machine's zone database is older
        raise ValueError(f"{name!r} is no time zone that this machine knows; update its tzdata") from error
    return name


@functools.cache
def _listed() -> frozenset[str]:
    listed = importlib.resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(listed.split()) - {"Factory"}
