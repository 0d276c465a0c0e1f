"""Time zones: IANA's names, and nothing else that a machine keeps beside them."""

from pathlib import Path
from zoneinfo import TZPATH, available_timezones

import pytest

from core.zones import known_zone


@pytest.mark.parametrize(
    "name",
    ["localtime", "posixrules", "Factory", "right/UTC", "right/Europe/Madrid", "posix/UTC", "posix/Europe/Madrid",
     "leapseconds", "tzdata.zi", "zone.tab", "", ".", "..", "Europe", "Europe/", "europe/madrid", "/etc/localtime",
     "../zoneinfo/UTC", "Mars/Base", "Europe/Madrid\x00", "Europe\\Madrid", "UTC+2", "CET-1CEST"],
)  # fmt: skip
def test_what_is_not_on_ianas_list_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        known_zone(name)


@pytest.mark.parametrize(
    "name",
    ["UTC", "Europe/Madrid", "America/Argentina/Buenos_Aires", "Asia/Calcutta", "Etc/GMT+5", "US/Eastern", "GMT"],
)
def test_names_of_the_list_are_zones_old_ones_too(name: str) -> None:
    assert known_zone(name) == name


def test_every_file_of_this_machine_that_names_another_clock_is_refused() -> None:
    found = {
        path.relative_to(root).as_posix()
        for root in map(Path, TZPATH)
        for path in (*root.glob("right/**/*"), *root.glob("posix/**/*"), root / "localtime", root / "posixrules")
        if path.is_file()
    }
    for name in (found | available_timezones()) - {"Factory"}:
        is_refused = name.startswith(("right/", "posix/")) or name in {"localtime", "posixrules"}
        try:
            known_zone(name)
        except ValueError:
            assert is_refused, name
        else:
            assert not is_refused, name
