# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Group commit: entries are taken at once and written together by a thread of their own.

A batch is written when it has 64 entries, when its first entry is 250 ms old, and whenever someone waits for it. An
entry counts as recorded when ``flush`` has returned after it.
"""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import collections
import enum
import queue
import threading
import time
import typing as t
from collections.abc import Sequence

from ..errors import FlowauditError
from . import canonical
from .commitment import Opening
from .entry import GAP, TASK_DISPATCHED, Draft, timestamp
from .log import Sink

BATCH = 64  # entries
DELAY = 0.25  # seconds
BACKLOG = 10_000  # entries kept while the log cannot be written; about 10 MB

_Taken = tuple[Draft, Sequence[Opening]]


class _Sign(enum.Enum):
    """What the thread is told."""

    PUT = enum.auto()  # there are entries
    CLOSE = enum.auto()


class _Flush:
    """Someone who waits."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: FlowauditError | None = None


class _Call:
    """Something to be done with the log by the thread that uses it."""

    def __init__(self, function: t.Callable[[Sink], t.Any]) -> None:
        self.done = threading.Event()
        self.function = function
        self.result: t.Any = None
        self.error: BaseException | None = None


class Writer:
    """Writes to a log that only its thread uses; ``put`` never waits and never fails.

    ``opened`` opens the log; it is called in the thread. What fails is told by ``flush``, and by ``error`` before.
    """

    def __init__(self, opened: t.Callable[[], Sink]) -> None:
        # Reentrant, unlike queue.Queue: a signal handler may put while put is at work.
        self._queue: queue.SimpleQueue[_Flush | _Call | _Sign] = queue.SimpleQueue()
        # What was put and not taken up yet. The thread is woken by the first, not by each: where workers keep all
        # processors busy, waking it is what costs.
        self._put: collections.deque[_Taken] = collections.deque()
        self._knows = False  # the thread knows that there are some
        self._opened = opened
        self._log: Sink | None = None
        self._batch: list[_Taken] = []
        self._lost = 0  # entries that are not recorded, and no entry says so yet
        self._untold = 0  # those that nobody who waits was told of
        self._gap: Draft = {}
        self.error: FlowauditError | None = None
        # A daemon: Python waits for other threads before it calls atexit's functions, and one of these closes this.
        self._thread = threading.Thread(target=self._work, name="flowaudit-trail", daemon=True)
        self._thread.start()

    def put(self, draft: Draft, openings: Sequence[Opening] = ()) -> None:
        """Take an entry; the caller does not change it any more."""
        self._put.append((draft, openings))
        if not self._knows or len(self._put) >= BATCH:
            self._knows = True
            self._queue.put(_Sign.PUT)

    def flush(self) -> None:
        """Wait until all that was put is written.

        Raises:
            FlowauditError: it could not be; the writer keeps it and tries again with the next flush or batch. Or some
                of it never will be; an entry says so, and the next flush is about what comes after.
        """
        waiting = _Flush()
        self._queue.put(waiting)
        self._wait(waiting.done)
        if waiting.error is not None:
            raise waiting.error

    def call(self, function: t.Callable[[Sink], t.Any]) -> t.Any:
        """Wait until all that was put is written, then for what the function does with the log.

        Raises:
            FlowauditError: the log could not be written; and what the function raises.
        """
        waiting = _Call(function)
        self._queue.put(waiting)
        self._wait(waiting.done)
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    def close(self) -> None:
        """Write what is left, and let go of the log; what then fails is in ``error``."""
        self._queue.put(_Sign.CLOSE)
        self._thread.join()

    def _wait(self, done: threading.Event) -> None:
        while not done.wait(1.0):
            if not self._thread.is_alive() and not done.is_set():
                raise FlowauditError("The trail's writer has ended.")

    def _work(self) -> None:
        deadline: float | None = None
        while True:
            try:
                timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
                taken = self._queue.get(timeout=timeout)
            except queue.Empty:
                taken = None
            if taken is _Sign.PUT:
                if deadline is None:
                    deadline = time.monotonic() + DELAY
                if len(self._put) < BATCH or self.error is not None:
                    continue
            self._take_up()
            if self._batch or self._lost or isinstance(taken, _Flush | _Call):
                self._write()
            deadline = time.monotonic() + 1.0 if self._batch else None
            if isinstance(taken, _Flush):
                loss = self._loss()
                taken.error = self.error or loss
                taken.done.set()
            elif isinstance(taken, _Call):
                self._call(taken)
                taken.done.set()
            elif taken is _Sign.CLOSE:
                break
        if self._log is not None:
            self._log.close()

    def _take_up(self) -> None:
        # First, so whoever puts an entry that is not seen here says so again.
        self._knows = False
        for _number in range(len(self._put)):
            self._take(self._put.popleft())

    def _call(self, call: _Call) -> None:
        if self.error is not None or self._log is None:
            call.error = self.error or FlowauditError("The trail is not open.")
            return
        try:
            call.result = call.function(self._log)
        except BaseException as error:  # whoever waits is told
            call.error = error

    def _take(self, taken: _Taken) -> None:
        if self._merged(taken[0]):
            return
        if len(self._batch) < BACKLOG:
            self._batch.append(taken)
            return
        # Better to know that something is missing than to fill the memory.
        self._lose(taken[0])

    def _lose(self, draft: Draft) -> None:
        if not self._lost:
            named = {"run": draft.get("run"), "chg": draft.get("chg"), "since": draft.get("ts")}
            self._gap = {key: value for key, value in named.items() if type(value) is str} | {"type": GAP}
        self._lost += 1
        self._untold += 1

    def _loss(self) -> FlowauditError | None:
        """What to tell one who waits for entries of which some are lost."""
        lost, self._untold = self._untold, 0
        return FlowauditError(f"The trail lacks {lost} entries; an entry says so.") if lost else None

    def _drop_what_never_fits(self) -> None:
        """What is no entry, by a fault of ours, must not hold up the others."""
        fit = []
        for taken in self._batch:
            try:
                canonical.encode(taken[0])
            except (FlowauditError, RecursionError):
                self._lose(taken[0])
            else:
                fit.append(taken)
        self._batch = fit

    def _merged(self, draft: Draft) -> bool:
        """Hosts that a task is dispatched to within one batch are one entry."""
        if draft.get("type") != TASK_DISPATCHED:
            return False
        for earlier, _openings in reversed(self._batch):
            if earlier["type"] == TASK_DISPATCHED and earlier["task"] == draft["task"]:
                earlier["hosts"] += draft["hosts"]
                return True
        return False

    def _write(self) -> None:
        try:
            if self._log is None:
                self._log = self._opened()
            while self._batch:
                part = self._batch[: BATCH * 8]
                self._log.append([draft for draft, _openings in part], [o for _draft, some in part for o in some])
                del self._batch[: len(part)]
            if self._lost:
                self._log.append([{**self._gap, "ts": timestamp(), "lost": self._lost}])
                self._lost = 0
            self.error = None
        except Exception as error:  # a fault of ours must stop the run like any other
            if not isinstance(error, FlowauditError):
                error = FlowauditError(f"The trail's writer failed: {type(error).__name__}: {error}")
            self.error = error
            self._drop_what_never_fits()
            # Opened anew the next time: the file may have been replaced, or be damaged.
            log, self._log = self._log, None
            if log is not None:
                log.close()
