# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The changes of an inventory as files in Git.

::

    changes/production/CHG-2026-0042/
        change.json              the document (model.py)
        request.sig              its requester's signature
        approvals/<person>.sig   signatures of those who approve it
        staging.json             the proof that it ran on staging (staging.py)
        revocation.json, .sig    who took it back, and why
        review.json, .sig        who looked at it afterwards, and what they found
    changes/production/policy/<digest>/
        terms.json               policy and signers, as they are to be accepted (trust.py)
        approvals/<person>.sig   signatures of those who may say so
    changes/production/break-glass/<digest>/
        review.json              what was found about uses of a sealed credential (break_glass.py)
        approvals/<person>.sig   signatures of those who found it

Whatever lies there may come from anybody: nothing is followed, nothing large is read, and only signatures count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import stat
import tempfile
from collections.abc import Iterator

from ..errors import FlowauditError
from . import model, signature

DOCUMENT = "change.json"
REQUEST = "request.sig"
APPROVALS = "approvals"
STAGING = "staging.json"
REVOCATION = "revocation"
REVIEW = "review"
POLICY = "policy"
BREAK_GLASS = "break-glass"
_LARGEST_PROOF = 1024 * 1024  # bytes
_MOST_APPROVALS = 50
_MOST_REVIEWS = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WIDEST = len("CHG-2026-00000000")  # beyond it there are no more ids


@dataclasses.dataclass(frozen=True)
class Statement:
    """What one person says of a change: a document and their signature."""

    document: bytes
    signature: bytes


@dataclasses.dataclass(frozen=True)
class Statements:
    """What several persons say: a document and their signatures."""

    document: bytes
    approvals: dict[str, bytes]  # principal → signature


@dataclasses.dataclass(frozen=True)
class Filed:
    """A change as it lies in the repository; nothing of it but its form was checked."""

    change: model.Change
    request: bytes
    approvals: dict[str, bytes]  # principal → signature
    staging: bytes
    revocation: Statement | None
    review: Statement | None


class Repository:
    """The directory of an inventory's changes."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def ids(self) -> list[str]:
        """The ids of all changes, in order; what is not called like one is passed over."""
        try:
            found = [name for name in os.listdir(self.path) if model.ID.fullmatch(name)]
            return sorted(found, key=lambda name: (name[:8], int(name[9:])))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FlowauditError(f"The changes in {self.path} cannot be read: {error.strerror}.") from error

    def has(self, change_id: str) -> bool:
        """Whether there is a change of this id, in whatever form."""
        return change_id in self.ids()

    def place(self, change_id: str) -> pathlib.Path:
        """The directory of a change."""
        return self.path / model.check_id(change_id)

    def change(self, change_id: str) -> model.Change:
        """A change without what others say of it.

        Raises:
            FlowauditError: there is none of this id, or it is not in the form it should have.
        """
        with self._opened(change_id) as directory:
            return self._change(change_id, directory)

    def load(self, change_id: str) -> Filed:
        """A change with everything that was said of it.

        Raises:
            FlowauditError: there is none of this id, or something of it is not in the form it should have.
        """
        with self._opened(change_id) as directory:
            change = self._change(change_id, directory)
            return Filed(
                change,
                _read(directory, REQUEST, signature.LARGEST) or b"",
                _approvals(directory),
                _read(directory, STAGING, _LARGEST_PROOF) or b"",
                _statement(directory, REVOCATION),
                _statement(directory, REVIEW),
            )

    def policy_place(self, digest: str) -> pathlib.Path:
        """The directory of those who sign for terms of the inventory (``trust.Terms``)."""
        return self.path / POLICY / digest

    def policy_approvals(self, digest: str) -> dict[str, bytes]:
        """Who has signed for terms, with their signatures."""
        try:
            with _directory(self.policy_place(digest)) as directory:
                return _approvals(directory)
        except OSError:
            return {}

    def break_glass_place(self, name: str) -> pathlib.Path:
        """The directory of a review of a sealed credential's uses (``break_glass.Review``)."""
        return self.path / BREAK_GLASS / name

    def break_glass_reviews(self) -> dict[str, Statements]:
        """The reviews of a sealed credential's uses, by the names of their directories.

        One that cannot be read is none: it must not hold up the others.
        """
        place, found = self.path / BREAK_GLASS, {}
        try:
            names = sorted(filter(_DIGEST.fullmatch, os.listdir(place)))[:_MOST_REVIEWS]
        except OSError:
            return {}
        for name in names:
            with contextlib.suppress(OSError, FlowauditError), _directory(place / name) as directory:
                document = _read(directory, f"{REVIEW}.json", model.LARGEST)
                if document is not None:
                    found[name] = Statements(document, _approvals(directory))
        return found

    def write(self, change_id: str, name: str, content: bytes) -> pathlib.Path:
        """Put a file into the directory of a change, whole or not at all.

        Raises:
            FlowauditError: it cannot be written.
        """
        return write(self.place(change_id) / name, content)

    def next_id(self, year: int) -> str:
        """The first id of a year that no inventory beside this one has taken either."""
        taken = [name for place in [self.path, *self.path.parent.glob("*/")] for name in Repository(place).ids()]
        numbers = [int(name[9:]) for name in taken if name.startswith(f"CHG-{year:04d}-") and len(name) < _WIDEST]
        return f"CHG-{year:04d}-{max(numbers, default=0) + 1:04d}"

    @contextlib.contextmanager
    def _opened(self, change_id: str) -> Iterator[int]:
        path = self.place(change_id)
        try:
            opened = contextlib.ExitStack()
            directory = opened.enter_context(_directory(path))
        except FileNotFoundError:
            raise FlowauditError(
                f"There is no change {change_id} in {self.path}; fetch it (git pull), or request it with"
                " flowaudit.ops.change_request."
            ) from None
        except OSError as error:
            raise FlowauditError(f"{path} is no directory that can be read: {error.strerror}.") from error
        with opened:
            yield directory

    def _change(self, change_id: str, directory: int) -> model.Change:
        document = _read(directory, DOCUMENT, model.LARGEST)
        if document is None:
            raise FlowauditError(f"{self.place(change_id)} has no {DOCUMENT}.")
        try:
            change = model.read(document)
        except FlowauditError as error:
            raise FlowauditError(f"{self.place(change_id) / DOCUMENT}: {error}") from error
        if change.id != change_id:
            raise FlowauditError(f"The directory {change_id} holds the change {change.id}.")
        return change


def write(path: pathlib.Path, content: bytes) -> pathlib.Path:
    """Write a file, whole or not at all.

    Raises:
        FlowauditError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(made, 0o644)
            os.replace(made, path)
        except BaseException:
            pathlib.Path(made).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FlowauditError(f"{path} cannot be written: {error.strerror}.") from error
    return path


@contextlib.contextmanager
def _directory(path: pathlib.Path) -> Iterator[int]:
    """A directory, itself and no link to one."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def _approvals(directory: int) -> dict[str, bytes]:
    try:
        inner = os.open(APPROVALS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FlowauditError(f"The approvals are no directory that can be read: {error.strerror}.") from error
    try:
        names = sorted(name for name in os.listdir(inner) if name.endswith(".sig"))
        if len(names) > _MOST_APPROVALS:
            raise FlowauditError(f"A change has at most {_MOST_APPROVALS} approvals, this one has {len(names)}.")
        return {
            model.check_principal(name.removesuffix(".sig")): _read(inner, name, signature.LARGEST) or b""
            for name in names
        }
    finally:
        os.close(inner)


def _statement(directory: int, name: str) -> Statement | None:
    document = _read(directory, f"{name}.json", model.LARGEST)
    if document is None:
        return None
    return Statement(document, _read(directory, f"{name}.sig", signature.LARGEST) or b"")


def _read(directory: int, name: str, largest: int) -> bytes | None:
    """A file of a directory; none when there is none."""
    try:
        # Without waiting: a pipe would hold the run up for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FlowauditError(f"{name} cannot be read: {error.strerror}; it has to be a file, not a link.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FlowauditError(f"{name} is no file.")
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise FlowauditError(f"{name} has more than {largest} bytes.")
    return content
