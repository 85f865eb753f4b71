"""Put a release together: the backend directory, then the directories of the releases it builds on, then its own.

`python3 assemble.py 1.2.0 /app` makes the directory a release's image runs from. A release builds on every
earlier one, except those with a suffix (1.3.0-broken), on which nothing builds. Standard library only: it runs
before anything is installed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

BACKEND = Path(__file__).resolve().parent
RELEASES = BACKEND.parent / "releases"


def number(version: str) -> tuple[int, ...]:
    """(1, 3, 0) for 1.3.0 and for 1.3.0-broken."""
    return tuple(int(part) for part in version.partition("-")[0].split("."))


def layers(version: str) -> list[str]:
    """The releases whose directories make up `version`, oldest first."""
    known = sorted((path.name for path in RELEASES.iterdir() if path.is_dir()), key=number)
    if version not in known:
        sys.exit(f"There is no release {version!r}, only {', '.join(known)}.")
    earlier = [name for name in known if "-" not in name and number(name) < number(version)]
    return [*earlier, version]


def assemble(version: str, target: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__", "release.yml")
    shutil.copytree(BACKEND / "src" / "refapp", target / "refapp", ignore=skip, dirs_exist_ok=True)
    shutil.copytree(BACKEND / "migrations", target / "migrations", ignore=skip, dirs_exist_ok=True)
    shutil.copytree(BACKEND / "bin", target / "bin", dirs_exist_ok=True)
    shutil.copy2(BACKEND / "alembic.ini", target)
    for layer in layers(version):
        shutil.copytree(RELEASES / layer, target, ignore=skip, dirs_exist_ok=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: assemble.py VERSION DIRECTORY")
    assemble(sys.argv[1], Path(sys.argv[2]))
