# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a log is to those who read it and to those who write it; SQLite, PostgreSQL and an export all are one."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator, Sequence

from . import merkle
from .commitment import Opening
from .entry import Draft, Row


class Reader(t.Protocol):
    """A log that can be read."""

    @property
    def origin(self) -> str:
        """The log's name, and that of its key."""

    def size(self) -> int:
        """How many entries it has."""

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """The entries from ``start`` to ``stop``, in order; memory does not grow with their number."""

    def hashes(self, level: int, start: int, stop: int) -> Sequence[bytes]:
        """The stored hashes of the tree (``merkle.Stored``)."""

    def checkpoints(self) -> Iterator[str]:
        """The signed checkpoints, the smallest first."""

    def openings(self, commitments: Iterable[str]) -> dict[str, Opening]:
        """Those of the openings that are still there."""


class Sink(t.Protocol):
    """A log that can be written: a file, or what is behind the socket of another user (``custody``)."""

    def append(self, drafts: Sequence[Draft], openings: Sequence[Opening] = ()) -> range:
        """Append entries and keep openings, all or none, durably; returns their places.

        Raises:
            FlowauditError: nothing was appended.
        """

    def add_checkpoint(self) -> str:
        """Sign the log as it is and keep that; the same log gives the same checkpoint. Returns the note."""

    def size(self) -> int:
        """How many entries it has."""

    def close(self) -> None:
        """Let go of files and connections."""


class Log(Sink, Reader, t.Protocol):
    """A log that can be written and read."""


def tree(log: Reader, size: int | None = None) -> merkle.Tree:
    """The Merkle tree over the first entries of a log (all, when no size is given)."""
    return merkle.Tree(log.size() if size is None else size, log.hashes)
