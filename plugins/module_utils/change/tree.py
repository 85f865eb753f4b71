# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The digest of what runs: of the files that lie there, not of what Git says of them.

Git can be told to look away (``assume-unchanged``, an exclude file, another work tree); Ansible reads the files. So
these are what an approval binds.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import stat
import subprocess
from collections.abc import Collection, Iterator

from ..errors import FlowauditError
from . import programs

# Of a collection: what Ansible loads. A checkout and an installed copy have the same digest.
_LOADED = ("meta", "playbooks", "plugins", "roles")
_BYTECODE = "__pycache__"
# Directories at the top of a repository that tools make for themselves.
_OF_TOOLS = frozenset(
    {
        *(".git", ".state", ".cache", ".ansible", ".terraform", ".tox", ".nox", ".idea", ".vscode"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"),
    }
)
_GIT_TIMEOUT = 30.0  # seconds


def digest(top: pathlib.Path, without: Collection[pathlib.Path] = ()) -> str:
    """The digest (``sha256:…``) of a repository's files: names, whether they are executable, content.

    Left out are what is in ``without``, hidden files at the top, what tools keep there for themselves (``.git``,
    ``.venv``, caches), and Python's bytecode (``drop_bytecode``).

    Raises:
        FlowauditError: a file cannot be read, is none (a socket, a device), or is a link that leads out of here.
    """
    top = top.resolve()
    left_out = {path.resolve() for path in without}
    names = [name for name in _names(top) if not _is_left_out(top / name)]
    return _digest(top, names, left_out)


def collection_digest(root: pathlib.Path | None = None) -> str:
    """The digest of this collection, as ``digest`` makes it, of the directories that Ansible loads from.

    Raises:
        FlowauditError: as ``digest``.
    """
    root = (root or pathlib.Path(__file__).parents[3]).resolve()
    return _digest(root, [name for name in _LOADED if (root / name).exists()], set())


def covers(top: pathlib.Path, path: str | os.PathLike[str], without: Collection[pathlib.Path] = ()) -> bool:
    """Whether a file or directory, by the path that it is used by, is one that ``digest`` looks at.

    A link on the way would have Ansible look for what belongs to it where the link lies.
    """
    place = pathlib.Path(os.path.abspath(path))
    if not place.exists():
        return False
    parts = []
    while not place.samefile(top):
        if (
            place.is_symlink()
            or place == place.parent
            or any(place.samefile(left) for left in without if left.exists())
        ):
            return False
        parts.append(place.name)
        place = place.parent
    return not parts or not (_is_left_out(top / parts[-1]) or _BYTECODE in parts)


def drop_bytecode(top: pathlib.Path, without: Collection[pathlib.Path] = ()) -> None:
    """Remove Python's bytecode: it is loaded instead of the source that was approved, whatever is in it.

    Raises:
        FlowauditError: it cannot be removed.
    """
    left_out = {path.resolve() for path in without}
    for name in _names(top):
        if _is_left_out(top / name) or (top / name).is_symlink() or not (top / name).is_dir():
            continue
        for found in (top / name).rglob(f"{_BYTECODE}/*.pyc"):
            if left_out.isdisjoint(found.parents):
                try:
                    found.unlink()
                except OSError as error:
                    raise FlowauditError(f"{found} cannot be removed: {error.strerror}.") from error


def uncommitted(top: pathlib.Path, without: pathlib.Path) -> list[str]:
    """The files of a Git repository that are not as they were committed, leaving out a directory; for people.

    Raises:
        FlowauditError: Git cannot tell.
    """
    words = ["-c", "core.fsmonitor=false", "status", "--porcelain", "--untracked-files=normal", "--no-renames", "-z"]
    words += ["--", "."]
    if without.resolve().is_relative_to(top):
        words.append(f":(exclude){without.resolve().relative_to(top)}")
    try:
        found = git(top, *words)
    except FlowauditError as error:
        raise FlowauditError(f"Git cannot say whether {top} is as it was committed: {error}") from error
    return sorted(line[3:] for line in found.split("\0") if line)


def git(top: pathlib.Path, *words: str) -> str:
    """What Git says of a repository.

    Raises:
        FlowauditError: it says nothing.
    """
    # Variables of Git's (GIT_DIR, GIT_INDEX_FILE, GIT_CONFIG_…) could have it answer about something else.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = [programs.path("git"), "-C", str(top), "-c", f"safe.directory={top}", *words]
    try:
        done = subprocess.run(
            command,
            check=False,
            env=environment | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "PATH": programs.PLACES},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FlowauditError(f"{error}.") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise FlowauditError(f"{said[-1] if said else 'it did not say why'}.")
    return done.stdout


def _digest(top: pathlib.Path, names: list[str], left_out: set[pathlib.Path]) -> str:
    total = hashlib.sha256()
    for name in names:
        for path in _files(top / name, left_out):
            relative = os.fsencode(path.relative_to(top))
            total.update(b"%s\0%s\0" % (_described(path, top, left_out).encode("utf-8", "surrogateescape"), relative))
    return f"sha256:{total.hexdigest()}"


def _files(path: pathlib.Path, left_out: set[pathlib.Path]) -> Iterator[pathlib.Path]:
    if path in left_out:
        return
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for name in _names(path):
        if not _is_bytecode(path / name):
            yield from _files(path / name, left_out)


def _is_left_out(path: pathlib.Path) -> bool:
    """Whether something at the top is nobody's to approve."""
    name = path.name
    return name.startswith(".") and (not path.is_dir() or name in _OF_TOOLS or name.startswith(".venv"))


def _is_bytecode(path: pathlib.Path) -> bool:
    # A directory of that name is read like any other; only what Python itself puts there is left out.
    return path.parent.name == _BYTECODE and path.suffix == ".pyc"


def _names(directory: pathlib.Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise FlowauditError(f"{directory} cannot be read: {error.strerror}.") from error


def _described(path: pathlib.Path, top: pathlib.Path, left_out: Collection[pathlib.Path]) -> str:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            if not covers(top, path.resolve(), left_out):
                raise FlowauditError(
                    f"{path} is a link that leads out of what is looked at in {top}: nobody can approve what is there."
                )
            return f"link {os.readlink(path)}"
        if not stat.S_ISREG(mode):
            raise FlowauditError(f"{path} is no file; take it away.")
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FlowauditError(f"{path} cannot be read: {error.strerror}.") from error
    return f"{'program' if mode & 0o100 else 'file'} {content}"
