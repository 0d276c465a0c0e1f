"""Puts the migrations into a wheel, inside the package `core`: beside it is the library that is called alembic too."""

from pathlib import Path
from typing import Any

from setuptools.command.build_py import build_py

_FOLDER = Path("alembic")
_INSIDE = Path("core", "alembic")


class BuildWithMigrations(build_py):
    """Copies the packages, and the migrations with them."""

    editable_mode: bool

    def run(self) -> None:
        """Build; an editable installation finds the migrations in the checkout."""
        super().run()
        if not self.editable_mode:
            for source, target in self._migrations():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What this writes."""
        outputs: list[str] = super().get_outputs(include_bytecode)
        return [*outputs, *(str(target) for _, target in self._migrations())]

    def _migrations(self) -> list[tuple[Path, Path]]:
        build: Any = self.build_lib
        files = [*_FOLDER.glob("*.py"), *_FOLDER.glob("*.mako"), *_FOLDER.glob("versions/*.py")]
        return [(file, Path(build) / _INSIDE / file.relative_to(_FOLDER)) for file in sorted(files)]
