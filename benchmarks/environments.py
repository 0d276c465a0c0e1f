"""Separate virtual environments for packages that Rota itself does not need: the peers and the plotting library."""

import subprocess
import sys
import venv
from pathlib import Path

_HOME = Path(__file__).resolve().parent / ".environments"


def programs(name: str, packages: tuple[str, ...]) -> Path:
    """Return the folder of an environment's programs. The first use creates the environment from PyPI.

    Raises:
        CalledProcessError: the packages cannot be installed.
    """
    home = _HOME / name
    if not (home / "ready").exists():
        print(f"installing {', '.join(packages)} ...", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
        (home / "ready").touch()
    return home / "bin"
