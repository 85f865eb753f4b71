# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The line of the write-ahead log that the receiver follows.

A line is a directory, ``<wal_directory>/<system identifier>/<time it began>``. After a restore, or when PostgreSQL no
longer has what the receiver needs next, a new one begins: in an old directory the receiver would refuse to go on.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time

from ..engine import Engine
from ..errors import FlowauditError
from ..files import read_file, write_file
from . import wal
from .server import Server, Slot
from .settings import Settings

RECEIVER = "receiver"
_START_SECONDS = 60.0
_FILE = "stream"


class Stream:
    def __init__(self, settings: Settings, engine: Engine, server: Server) -> None:
        self._settings = settings
        self._engine = engine
        self._server = server

    def name(self) -> str:
        """The current line, ``<system identifier>/<time>``; empty before the first."""
        return (read_file(self._file) or "").strip()

    def directory(self) -> str:
        return os.path.join(self._settings.wal_directory, self.name())

    def segments(self) -> list[str]:
        """The segments on the disk, in order."""
        try:
            return wal.segments(os.listdir(self.directory())) if self.name() else []
        except FileNotFoundError:
            return []

    def broken(self, slot: Slot) -> str:
        """Why the current line cannot be gone on with; empty when it can.

        Raises:
            FlowauditError: the server does not answer.
        """
        if not self.name():
            return "There is no line of the write-ahead log yet."
        if self.name().split("/")[0] != self._server.system_identifier():
            return "The database is another one than the line of the write-ahead log belongs to."
        if slot.lost and slot.status:
            return "PostgreSQL has given up the replication slot, as it held back more than max_slot_wal_keep_size."
        last = self.segments()[-1:]
        if not slot.active and last and not self._server.has_segment(last[0]):
            return f"PostgreSQL no longer has the segment {last[0]}, which the receiver needs next."
        return ""

    def begin(self, moment: datetime.datetime) -> str:
        """Begin a new line, and have the receiver follow it; its name. What is on the disk stays.

        Raises:
            FlowauditError: the receiver does not follow it.
        """
        with contextlib.suppress(FlowauditError):
            self._engine.stop(self._settings.compose_file, [RECEIVER], 10)
        self._server.drop_slot()
        name = f"{self._server.system_identifier()}/{moment:%Y%m%dT%H%M%SZ}"
        os.makedirs(self._settings.wal_directory, mode=0o755, exist_ok=True)
        write_file(self._file, name + "\n")
        self.start()
        return name

    def start(self) -> None:
        """Have the receiver run and be connected.

        Raises:
            FlowauditError: it is not, after a minute.
        """
        # A new container: Compose gives up at once on one that has become unhealthy, as while the server was away.
        self._engine.up(self._settings.compose_file, [RECEIVER], _START_SECONDS, recreate=True)
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.slot().active:
            if time.monotonic() >= deadline:
                raise FlowauditError("The receiver of the write-ahead log does not connect; see its container's log.")
            time.sleep(0.5)

    def forget(self, before: str, older_than: float) -> int:
        """Remove segments of this line, and all of lines before it, that are older than so many seconds; how many.

        Args:
            before: the first segment that has to stay.
        """
        gone = 0
        line = self.directory()
        system = os.path.dirname(line)
        lines = [os.path.join(system, each) for each in os.listdir(system)]
        for directory in lines:
            for name in wal.segments(os.listdir(directory)):
                path = os.path.join(directory, name)
                old = os.path.exists(path) and time.time() - os.path.getmtime(path) > older_than
                if old and (directory != line or name < before):
                    os.remove(path)
                    gone += 1
        return gone

    @property
    def _file(self) -> str:
        return os.path.join(self._settings.wal_directory, _FILE)
