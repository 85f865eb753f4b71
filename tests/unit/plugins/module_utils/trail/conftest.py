# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Logs for the tests of what is done with logs."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, home, sqlite

DAY = 86400.0  # seconds
NOW = 1_800_000_000.0  # 2027-01-15


class Clock:
    """The time that new entries get."""

    def __init__(self) -> None:
        self.now = NOW

    def timestamp(self, moment: float | None = None) -> str:
        return REAL_TIMESTAMP(self.now if moment is None else moment)


REAL_TIMESTAMP = entry.timestamp


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test sets."""
    made = Clock()
    monkeypatch.setattr(entry, "timestamp", made.timestamp)
    monkeypatch.setattr("time.time", lambda: made.now)
    return made


@pytest.fixture
def log(tmp_path: pathlib.Path) -> t.Iterator[sqlite.SqliteLog]:
    """A log with its first entry."""
    made = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.2.0", "test")
    yield made
    made.close()
