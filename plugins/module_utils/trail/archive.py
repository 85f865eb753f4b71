# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Retention: entries go from the log into archive files, later these go too; the leaf hashes stay for ever.

An archive file holds the lines of consecutive entries, gzipped. It is named for the first and the last of them, and an
``archived`` entry holds its SHA-256. Nothing leaves the log before the file is proven to hold it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import pathlib
import re
import typing as t
from collections.abc import Iterator

from ..errors import FlowauditError
from . import canonical, entry, merkle
from .entry import Row
from .sqlite import SqliteLog

LARGEST = 100_000  # entries in one file
_NAME = re.compile(r"[0-9a-f]{8}-[0-9]{12}-[0-9]{12}\.jsonl\.gz")
_STRADDLE = 1000  # openings are kept by the first entry of their batch, which is at most so much before their own


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file with the entries from ``first`` to ``last``."""

    first: int
    last: int
    file: str
    sha256: str


def archives(log: SqliteLog) -> list[Archive]:
    """The archive files the log tells of, the oldest first; those that were deleted too."""
    return [_told(value) for value in log.told(entry.ARCHIVED)]


def _told(value: dict[str, t.Any]) -> Archive:
    made = Archive(value["first"], value["last"], value["file"], value["sha256"])
    # It is opened and deleted under this name.
    if not _NAME.fullmatch(made.file):
        raise FlowauditError(f"The trail tells of an archive {made.file!r}, which it would not name so; verify it.")
    return made


def pruned_until(log: SqliteLog) -> int:
    """The entry before which the bytes are gone for good."""
    return max((value["last"] + 1 for value in log.told(entry.PRUNED)), default=0)


def due(log: SqliteLog, before: str) -> list[Archive]:
    """The files that ``archive`` would make now; their contents are not known yet."""
    start = max((item.last + 1 for item in archives(log)), default=0)
    stop = _older_than(log, before, start)
    ends = [*range(start + LARGEST, stop, LARGEST), stop] if start < stop else []
    begins = [start, *ends[:-1]]
    return [Archive(first, end - 1, _file(log, first, end), "") for first, end in zip(begins, ends, strict=False)]


def archive(log: SqliteLog, directory: str, before: str) -> list[Archive]:
    """Move the entries that are older than ``before`` (as ``entry.timestamp`` writes it) into archive files.

    Raises:
        FlowauditError: a file could not be written or does not hold what it should; the log still does.
    """
    return [_archive(log, pathlib.Path(directory), item) for item in due(log, before)]


def over(log: SqliteLog, directory: str, before: str) -> list[Archive]:
    """The archive files whose entries are all older than ``before``, from the oldest on.

    Raises:
        FlowauditError: a file that should be there is not.
    """
    begin = pruned_until(log)
    found = []
    for item in archives(log):
        if item.first < begin:
            continue
        if _last_timestamp(pathlib.Path(directory, item.file)) >= before:
            break
        found.append(item)
    return found


def prune(log: SqliteLog, directory: str, before: str) -> list[Archive]:
    """Delete the archive files that ``over`` names, and the openings of their entries."""
    gone = over(log, directory, before)
    for item in gone:
        # Recorded first: what is not there any more is then always accounted for.
        log.append([{"type": entry.PRUNED, "ts": entry.timestamp(), "first": item.first, "last": item.last}])
        with log.changing() as connection:
            connection.execute("DELETE FROM openings WHERE seq <= ?", (item.last - _STRADDLE,))
        pathlib.Path(directory, item.file).unlink(missing_ok=True)
    if gone:
        log.forget()
    return gone


def with_archives(log: SqliteLog, directory: str) -> Iterator[Row]:
    """The rows of a log, those that were archived with their bytes.

    Raises:
        FlowauditError: an archive file that should be there is missing or damaged.
    """
    begin = pruned_until(log)
    place = 0
    for item in archives(log):
        yield from log.rows(place, item.first)
        place = item.last + 1
        rows = log.rows(item.first, place)
        if item.first < begin:
            yield from rows
            continue
        lines = _lines(pathlib.Path(directory, item.file), item.sha256)
        if len(lines) != place - item.first:
            raise FlowauditError(f"The archive {item.file} has {len(lines)} entries, not {place - item.first}.")
        for row, line in zip(rows, lines, strict=False):
            yield Row(row.seq, line, row.leaf)
    yield from log.rows(place)


def _older_than(log: SqliteLog, before: str, start: int) -> int:
    """Where the first entry is that is not older; clocks jump, so the order is that of the log."""
    stop = start
    for row in log.rows(start):
        if row.line is not None and canonical.decode(row.line)["ts"] >= before:
            return stop
        stop = row.seq + 1
    # The last entry always stays, so that the next one can be written behind it by looking at it.
    return max(stop - 1, start)


def _archive(log: SqliteLog, directory: pathlib.Path, planned: Archive) -> Archive:
    path = directory / planned.file
    rows = list(log.rows(planned.first, planned.last + 1))
    # The same lines make the same file: no name, no time in it. What a killed attempt left is written again.
    content = gzip.compress(b"".join(_line(row) + b"\n" for row in rows), mtime=0)
    _write(path, content)
    made = dataclasses.replace(planned, sha256=hashlib.sha256(content).hexdigest())
    for row, line in zip(rows, _lines(path, made.sha256), strict=True):
        if merkle.leaf_hash(line) != row.leaf:
            raise FlowauditError(f"The archive {path} does not hold entry {row.seq}; the log still does.")
    told = {"first": made.first, "last": made.last, "file": made.file, "sha256": made.sha256}
    log.append([{"type": entry.ARCHIVED, "ts": entry.timestamp(), **told}])
    kept = ", ".join(f"'{kind}'" for kind in sorted(entry.KEPT_FOR_EVER))
    with log.changing() as connection:
        connection.execute(
            f"UPDATE entries SET line = NULL WHERE seq BETWEEN ? AND ? AND type NOT IN ({kept})",
            (made.first, made.last),
        )
    log.forget()
    return made


def _file(log: SqliteLog, start: int, stop: int) -> str:
    return f"{hashlib.sha256(log.origin.encode()).hexdigest()[:8]}-{start:012d}-{stop - 1:012d}.jsonl.gz"


def _line(row: Row) -> bytes:
    if row.line is None:
        raise FlowauditError(f"Entry {row.seq} has no bytes to archive; verify the trail.")
    return row.line


def _write(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "xb") as stream:
            os.fchmod(stream.fileno(), 0o440)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FlowauditError(f"The archive {path} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _lines(path: pathlib.Path, sha256: str) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlowauditError(f"The archive {path} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise FlowauditError(f"The archive {path} was altered: it has not the SHA-256 that the trail says.")
    return gzip.decompress(content).split(b"\n")[:-1]


def _last_timestamp(path: pathlib.Path) -> str:
    try:
        lines = gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
    except (OSError, EOFError) as error:
        raise FlowauditError(f"The archive {path} cannot be read: {error}; bring it back.") from error
    return max(str(canonical.decode(line)["ts"]) for line in lines)
