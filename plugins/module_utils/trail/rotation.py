# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Renew the signing key: the new one is named by an entry, and the next checkpoint is signed by both."""

from __future__ import annotations

import os

from ..errors import FlowauditError
from . import entry, note
from .home import FileSigner
from .sqlite import SqliteLog


def current_key(log: SqliteLog) -> note.VerifierKey:
    """The key that the log names last."""
    return note.parse_key(log.current_key())


def rotate(log: SqliteLog) -> note.VerifierKey:
    """Make a new key, hand over to it, forget the old one; one that was interrupted is finished first.

    Raises:
        FlowauditError: the old key is lost, or the trail cannot be written; the old key is then still the one.
    """
    home = log.home
    fresh = home.signing_key.with_suffix(".new")
    with home.locked():
        old = FileSigner.load(log.origin, home.signing_key)
        if old.key != current_key(log) and not fresh.exists():
            raise FlowauditError(
                f"The key in {home.signing_key} is not the one the trail names;"
                " docs/runbooks/trail_rotate_key.md has what"
                " to do."
            )
        if fresh.exists():
            new = FileSigner.load(log.origin, fresh)
            if new.key != current_key(log):
                # Killed before the log named it.
                fresh.unlink()
                new = FileSigner.generate(log.origin, fresh)
                _name(log, new)
        else:
            new = FileSigner.generate(log.origin, fresh)
            _name(log, new)
        log.sign([new, old])
        os.rename(fresh, home.signing_key)
    return new.key


def _name(log: SqliteLog, signer: FileSigner) -> None:
    log.append([{"type": entry.KEY_ROTATED, "ts": entry.timestamp(), "key": str(signer.key)}])
