# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Publish a log: sign it, tell the anchors, ship its entries to the shared database.

None of it holds up a run or lets it fail: the log in the directory is complete, what could not be told is told the next
time, and every attempt is an entry.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t
from collections.abc import Sequence

from ..errors import FlowauditError
from . import anchors, entry, redact
from .home import Home
from .log import Sink
from .sqlite import SqliteLog
from .writer import Writer

if t.TYPE_CHECKING:
    from . import postgres

PAUSE = 1.0  # seconds between two shipments of a run
PATIENCE = 10.0  # seconds that the end of a run waits for the shared database


@dataclasses.dataclass(frozen=True)
class Publishing:
    """Who is told; ``every`` is the time between two anchors of one run, in seconds."""

    database: str = ""  # conninfo or URI (libpq), without a password
    anchors: anchors.Settings = dataclasses.field(default_factory=anchors.Settings)
    every: float = 3600.0


def publish(log: SqliteLog, publishing: Publishing) -> list[anchors.Outcome]:
    """Sign the log as it is and tell everybody; the outcome is an entry of the log. Returns the outcomes."""
    signed = log.add_checkpoint()
    size = log.size()
    outcomes = anchors.keep_all(anchors.keepers(publishing.anchors), signed, publishing.anchors.timeout)
    if publishing.database:
        shipper = _Shipper(publishing.database)
        try:
            outcomes.append(shipper.ship(log, PATIENCE))
        finally:
            shipper.close()
    if outcomes:
        log.append([anchor_entry(size, outcomes)])
    return outcomes


def anchor_entry(size: int, outcomes: Sequence[anchors.Outcome]) -> entry.Draft:
    """What is recorded of telling others about a checkpoint."""
    # What others answer may repeat what they were asked with.
    results = [{**dataclasses.asdict(item), "detail": redact.redacted(item.detail, prose=True)} for item in outcomes]
    return {"type": entry.ANCHOR, "ts": entry.timestamp(), "size": size, "results": results}


class _Shipper:
    """Ships a log to the shared database; connections stay open, and are made again when they were lost."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._shared: postgres.PostgresLog | None = None

    def ship(self, log: SqliteLog, seconds: float) -> anchors.Outcome:
        """Send what is missing there, for so long at most."""
        from . import postgres

        try:
            if self._shared is None:
                self._shared = postgres.PostgresLog(self._database)
            shipped = self._shared.ship(log, seconds)
        except FlowauditError as error:
            return anchors.Outcome("postgres", False, str(error))
        missing = log.size() - shipped.size
        if missing > 0:
            return anchors.Outcome("postgres", False, f"{missing} entries are still to be sent.")
        return anchors.Outcome("postgres", True, f"{shipped.size} entries, witnessed to {shipped.witnessed}")

    def close(self) -> None:
        """Let go of the connection."""
        if self._shared is not None:
            self._shared.close()


class Publisher:
    """Publishes the log of a run: now and then while it lasts, and when it has ended."""

    def __init__(self, publishing: Publishing, home: Home | None) -> None:
        self._publishing = publishing
        self._home = home
        self._told = time.monotonic()
        self._stop = threading.Event()
        self._shipping: threading.Thread | None = None
        self._shipped = anchors.Outcome("postgres", False, "It did not answer in time.")
        self._failures: list[str] = []

    def start(self) -> None:
        """Begin to ship, when there is a shared database."""
        if self._publishing.database and self._home is not None:
            home = self._home
            self._shipping = _started(lambda: self._ship(home), "ship")

    def tick(self, writer: Writer) -> None:
        """Tell the anchors in the background when it is time to."""
        if time.monotonic() - self._told >= self._publishing.every:
            self._told = time.monotonic()
            _started(lambda: self._tell(writer), "tell")

    def finish(self, writer: Writer) -> list[str]:
        """Sign and tell everybody a last time; returns what did not work, a sentence each."""
        self._failures = []
        telling = _started(lambda: self._tell(writer, last=True), "tell")
        _wait(telling, 2 * PATIENCE + self._publishing.anchors.timeout)
        if telling is not None and telling.is_alive():
            return ["The trail's anchors did not answer in time; they are told with the next run."]
        return self._failures

    def stop(self) -> None:
        """End the shipping in the background."""
        self._stop.set()
        _wait(self._shipping, PATIENCE)

    def _tell(self, writer: Writer, last: bool = False) -> None:
        try:
            signed, size = writer.call(_sign)
            told = self._publishing.anchors
            outcomes = anchors.keep_all(anchors.keepers(told), signed, told.timeout)
            if last and self._publishing.database:
                # The thread that ships does it once more, and the checkpoint with it.
                self.stop()
                outcomes.append(self._shipped)
            if outcomes:
                writer.put(anchor_entry(size, outcomes))
                writer.flush()
        except Exception as error:  # whatever it is, the run has ended and is recorded
            what = error if isinstance(error, FlowauditError) else f"{type(error).__name__}: {error}"
            self._failures.append(f"The trail could not be signed: {what}")
            return
        self._failures += [f"The trail's anchor {item.keeper}: {item.detail}" for item in outcomes if not item.kept]

    def _ship(self, home: Home) -> None:
        try:
            self._ship_on(home)
        except FlowauditError as error:
            self._shipped = anchors.Outcome("postgres", False, str(error))
        except Exception as error:  # nobody would hear of it in this thread
            self._shipped = anchors.Outcome("postgres", False, f"It failed: {type(error).__name__}: {error}")

    def _ship_on(self, home: Home) -> None:
        log = SqliteLog(home)
        shipper = _Shipper(self._publishing.database)
        try:
            # What fails here is tried again, and told at the end.
            while not self._stop.wait(PAUSE):
                shipper.ship(log, PATIENCE)
            self._shipped = shipper.ship(log, PATIENCE)
        finally:
            shipper.close()
            log.close()


def _sign(log: Sink) -> tuple[str, int]:
    return log.add_checkpoint(), log.size()


def _started(function: t.Callable[[], None], name: str) -> threading.Thread | None:
    """A thread that does it; none when Python ends and starts no threads any more: then it is done."""
    thread = threading.Thread(target=function, name=f"flowaudit-trail-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        function()
        return None
    return thread


def _wait(thread: threading.Thread | None, seconds: float) -> None:
    if thread is not None and thread is not threading.current_thread():
        thread.join(seconds)
