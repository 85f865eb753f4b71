# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back a log up: a copy that was verified, and its key encrypted with a passphrase."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sqlite3

from ..errors import FlowauditError
from . import verify
from .home import Home
from .sqlite import SqliteLog


def back_up(log: SqliteLog, directory: str, passphrase: str, keep: int) -> str:
    """Copy the log as it is at this moment and its key; returns the copy's directory.

    A copy is a directory named for the size of the log, with ``trail.sqlite3``, ``signing.key`` (PKCS #8, encrypted)
    and ``timestamps``; the ``keep`` newest of them stay. It appears when it is whole and verified, not before.

    Raises:
        FlowauditError: it could not be written, or the copy does not verify.
    """
    target = pathlib.Path(directory)
    if not target.is_dir():
        raise FlowauditError(f"There is no directory {target} to back the trail up to; mount it, or make it.")
    if len(passphrase) < 12:
        raise FlowauditError("The passphrase of the trail's backup has fewer than 12 characters; choose a longer one.")
    scratch = target / f".{os.getpid()}.new"
    try:
        scratch.mkdir(mode=0o700)
        copy = Home(scratch)
        _copy(log, copy)
        size = _verified(copy)
        copy.signing_key.write_bytes(_encrypted(log.home, passphrase))
        copy.signing_key.chmod(0o600)
        if log.home.timestamps.is_dir():
            shutil.copytree(log.home.timestamps, copy.timestamps)
        final = target / f"{log.origin.replace('/', '_')}-{size:012d}"
        if final.exists():
            _remove(final)
        os.rename(scratch, final)
    except OSError as error:
        raise FlowauditError(f"The trail cannot be backed up to {target}: {error.strerror}.") from error
    finally:
        if scratch.exists():
            _remove(scratch)
    for old in copies(log, directory)[:-keep]:
        _remove(old)
    return str(final)


def copies(log: SqliteLog, directory: str) -> list[pathlib.Path]:
    """The copies of this log, the oldest first."""
    return sorted(pathlib.Path(directory).glob(f"{log.origin.replace('/', '_')}-*"))


def _copy(log: SqliteLog, copy: Home) -> None:
    with contextlib.closing(sqlite3.connect(copy.database)) as connection:
        os.chmod(copy.database, 0o600)
        log.copy_to(connection)
        # One file, without a log of writes beside it.
        connection.execute("PRAGMA journal_mode = DELETE")


def _verified(copy: Home) -> int:
    log = SqliteLog(copy, read_only=True)
    try:
        report = verify.verify(log.origin, log.rows(), log.checkpoints())
    finally:
        log.close()
    if report.finding is not None:
        raise FlowauditError(f"The trail's backup was not kept, because it does not verify: {report.finding.message}")
    return report.size


def _encrypted(home: Home, passphrase: str) -> bytes:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(home.signing_key.read_bytes(), password=None)
    encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _remove(directory: pathlib.Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    directory.rmdir()
