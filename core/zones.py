"""Time zones by their IANA names."""

from zoneinfo import ZoneInfo


def known_zone(name: str) -> str:
    """`name`, where it is a time zone's.

    Raises:
        ValueError: it is not.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # not found, no name at all, or a folder
        raise ValueError(f"{name!r} is no time zone; write an IANA name such as Europe/Madrid or UTC") from error
    return name
