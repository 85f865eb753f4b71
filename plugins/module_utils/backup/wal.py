# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names and places in PostgreSQL's write-ahead log (PostgreSQL manual, "WAL Internals"; segments of 16 MB)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from ..errors import FlowauditError

SEGMENT_BYTES = 16 * 1024 * 1024
_PER_FILE_ID = 0x100000000 // SEGMENT_BYTES
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_LSN = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})")


def position(lsn: str) -> int:
    """Bytes from the beginning of the log to a log sequence number such as ``0/3000028``.

    Raises:
        FlowauditError: it is none.
    """
    match = _LSN.fullmatch(lsn)
    if match is None:
        raise FlowauditError(f"'{lsn}' is no log sequence number, such as 0/3000028.")
    return int(match[1], 16) << 32 | int(match[2], 16)


def segment_of(lsn: str, timeline: int) -> str:
    """The segment that holds a log sequence number."""
    return _name(timeline, position(lsn) // SEGMENT_BYTES)


def segments(names: Iterable[str]) -> list[str]:
    """The segments among file names, in order; one that is being written (``.partial``) counts."""
    plain = {name.removesuffix(".partial") for name in names}
    return sorted(name for name in plain if _SEGMENT.fullmatch(name))


def gaps(names: Sequence[str]) -> list[str]:
    """The segments that are missing between the first and the last of a timeline, up to ten of them.

    Args:
        names: segments in order, of one stream, whose timeline does not change.
    """
    missing: list[str] = []
    for before, after in itertools.pairwise(names):
        expected = following(before)
        while expected < after and len(missing) < 10:
            missing.append(expected)
            expected = following(expected)
    return missing


def lacks(names: Sequence[str], first: str) -> list[str]:
    """The segments that are missing from ``first`` on, up to ten of them.

    Args:
        names: segments in order, of one stream.
        first: the segment a base backup begins in.
    """
    needed = [name for name in names if name >= first]
    return [*([] if first in needed else [first]), *gaps(needed)]


def following(segment: str) -> str:
    """The segment after a segment, on the same timeline."""
    return _name(int(segment[:8], 16), _number(segment) + 1)


def _number(segment: str) -> int:
    return int(segment[8:16], 16) * _PER_FILE_ID + int(segment[16:], 16)


def _name(timeline: int, number: int) -> str:
    return f"{timeline:08X}{number // _PER_FILE_ID:08X}{number % _PER_FILE_ID:08X}"
