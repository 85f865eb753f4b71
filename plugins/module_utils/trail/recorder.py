# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Records one run: from what the callback hands over to the entries of the trail.

Until ``begin`` has returned nothing may touch a host. After that ``proceed`` is asked before each task: it returns when
all that happened so far is durable, and raises when it is not. An inventory may choose to go on nevertheless: then what
``begin`` could not record is kept, and written with all else as soon as that is possible.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
import typing as t
from collections.abc import Mapping, Sequence

from ..custody.client import CustodyLog, of_this_process
from ..errors import FlowauditError
from . import entry, events, provenance, redact
from .commitment import Opening
from .home import Home
from .log import Sink
from .publish import Publisher, Publishing
from .run import Run, close_dead_runs, in_flight
from .sqlite import SqliteLog
from .writer import Writer

if t.TYPE_CHECKING:
    from ..change.authorization import Authorization

Fields = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the operator chose."""

    directory: str
    version: str  # of the collection
    name: str = ""
    accept_ephemeral: bool = False
    policy: redact.Policy = dataclasses.field(default_factory=redact.Policy)
    publishing: Publishing = dataclasses.field(default_factory=Publishing)
    custody: str = ""  # the socket behind which another user keeps the trail; then ``directory`` is not used


_OUTCOMES = {"failed": "failures", "unreachable": "unreachable", "skipped": "skipped"}


class Recorder:
    """The run of this process; its methods are called by one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.goes_on = False  # the inventory chose to go on when the trail cannot be written
        self.begun = False
        self._home = None if settings.custody else Home(os.path.expanduser(settings.directory))
        self._writer = Writer(self._open)
        self._run = Run(self._writer, self._home)
        self._publisher = Publisher(settings.publishing, self._home)
        self._opened = False
        # What could not be recorded yet, while nobody knows whether the run goes on without: (kind, fields, openings).
        self._held: list[tuple[str, Fields, Sequence[Opening]]] | None = []
        self._warned = False
        self._fault = ""
        self._started = time.monotonic()
        self._tasks: dict[str, Fields] = {}
        self._flying: dict[tuple[str, str], float] = {}  # (host, task) → when it was dispatched
        self._items: dict[tuple[str, str], events.Items] = {}  # the same → its loop so far
        self._counts: dict[str, dict[str, int]] = {}
        self._playbook: dict[str, Fields] | None = None  # how the last playbook ended, when there are more

    @property
    def ended(self) -> bool:
        """Whether the run's end is recorded, whatever it was."""
        return self._run.ended

    def begin(self, fields: Fields, change_id: str = "", authorized: Authorization | None = None) -> list[str]:
        """Record the run's start, after closing the runs that were killed; returns the ids of these.

        ``authorized`` is what the gate let begin, if there is one.

        Raises:
            FlowauditError: the trail cannot be written, or what is written to it would be gone soon.
        """
        self.begun = True
        # Behind a gate, the gate says for which change it is.
        self._run.change_id = authorized.change_id if authorized else change_id
        if authorized and authorized.run:
            self._run.id = authorized.run
        actor = provenance.actor()
        self._record(entry.RUN_START, {**fields, "node": provenance.node(), "actor": actor.commitment}, [actor])
        if authorized and not authorized.run:
            self._record(entry.RUN_AUTHORIZED, authorized.fields, authorized.openings)
        self._refuse_ephemeral()
        closed = self._writer.call(self._prepared)
        # The process that takes the run's lock is the one that its absence is told by.
        self._run.hold()
        self._let_go()
        self._run.flush()
        return list(closed)

    def go_on(self) -> None:
        """Record as well as can be what ``begin`` has raised for: the inventory chose to."""
        if self._held is not None:
            self._let_go()

    def proceed(self) -> list[str]:
        """Wait until all that was recorded is durable; ask before each task. Returns warnings.

        Raises:
            FlowauditError: it is not, and the inventory did not choose to go on.
        """
        try:
            self._run.hold()
            self._run.flush()
            self._demand_no_fault()
            self._publisher.tick(self._writer)
        except FlowauditError as error:
            if not self.goes_on:
                raise
            told, self._warned = self._warned, True
            return [] if told else [str(error)]
        self._warned = False
        return []

    def note(self, kind: str, fields: Fields) -> None:
        """Record something that needs no more said about it here."""
        self._record(kind, fields)

    def missed(self, what: str) -> None:
        """Record that something could not be recorded, by a fault of ours: the run stops before the next task."""
        self._fault = self._fault or what
        self._record(entry.GAP, {"lost": 1, "since": entry.timestamp()})

    def task_started(self, task: str, fields: Fields) -> None:
        """Record that a task begins; ``fields`` has name, source and module."""
        self._tasks[task] = fields
        self._record(entry.TASK_START, {"task": task, **fields})

    def dispatched(self, task: str, host: str) -> None:
        """Record that a host is about to do a task."""
        self._flying[(host, task)] = time.monotonic()
        self._record(entry.TASK_DISPATCHED, {"task": task, "hosts": [host]})

    def mention(self, kind: str, task: str, host: str, fields: Fields) -> None:
        """Record what happens between a task's start and its result."""
        if task not in self._tasks:
            # What Ansible looks after a task in the background with; the host's own task is the one it does now.
            task = next((flying for at, flying in list(self._flying) if at == host), task)
        self._record(kind, {"task": task, "host": host, **fields})

    def item(self, task: str, host: str, status: events.Status, changed: bool, delegate: str = "") -> None:
        """Know that an item of a loop is done, by another host when there is a ``delegate``; the result records it."""
        self._items.setdefault((host, task), events.Items()).add(status, changed, delegate)

    def result(self, task: str, host: str, made: t.Callable[[float, events.Items], events.Result]) -> None:
        """Record a result; ``made`` makes it of the seconds that the host took, and of the items of its loop."""
        begun = self._flying.pop((host, task), None)
        items = self._items.pop((host, task), events.Items())
        result = made(0.0 if begun is None else time.monotonic() - begun, items)
        fields, openings = result.fields(self.settings.policy)
        self._record(entry.TASK_RESULT, fields, openings)
        self._count(result)

    def playbook_started(self, playbook: str) -> None:
        """Record that one more playbook of this command begins."""
        self._playbook = None
        self._record(entry.PLAYBOOK_START, {"playbook": playbook})

    def playbook_ended(self, stats: Mapping[str, Mapping[str, int]]) -> None:
        """Record the end of a playbook that is not the last one; whether Ansible begins the next is not known yet."""
        self._playbook = _by_host(stats)
        self._record(entry.PLAYBOOK_END, {"stats": self._playbook})

    def end(self, stats: Mapping[str, Mapping[str, int]] | None = None) -> list[str]:
        """Record the run's end, sign the log, tell the anchors; returns what did not work of the latter.

        ``stats`` are Ansible's; without them, the results are counted that were recorded.

        Raises:
            FlowauditError: the trail cannot be written.
        """
        counts = _by_host(self._counts if stats is None else stats)
        return self._end(counts, _status(counts))

    def _end(self, stats: Mapping[str, Fields], status: str) -> list[str]:
        self._run.end(entry.RUN_END, {"status": status, "stats": stats, "dur_ms": self._milliseconds()})
        if not self.goes_on:
            self._demand_no_fault()
        return self._finish()

    def leave(self, own_end: bool) -> list[str]:
        """Record how the run ended that nothing said the end of; returns what did not work.

        ``own_end``: the command is one that has no other (ansible-console).

        Raises:
            FlowauditError: the trail cannot be written.
        """
        if not self.begun or self._run.ended or self._held is not None:
            return []
        if own_end:
            return self.end()
        if self._playbook is not None:
            # Ansible did not begin the next: for Ansible this one has failed, whatever its hosts say, or that is none.
            return self._end(self._playbook, "failed")
        return self.abort("error")

    def abort(self, reason: str, fields: Fields | None = None, publish: bool = True) -> list[str]:
        """Record that the run ends here and now; ``reason`` is ``signal`` or ``error``."""
        if not self.begun or self._held is not None:
            return []
        if self._run.ended:
            self._run.flush()
            return []
        flying = in_flight(self._flying, self._tasks)
        fields = {"reason": reason, "tasks_in_flight": flying, "dur_ms": self._milliseconds(), **(fields or {})}
        self._run.end(entry.RUN_ABORTED, fields)
        return self._finish() if publish else []

    def close(self) -> None:
        """Let go of the trail."""
        self._publisher.stop()
        self._writer.close()

    def _finish(self) -> list[str]:
        return self._publisher.finish(self._writer)

    def _milliseconds(self) -> int:
        return round((time.monotonic() - self._started) * 1000)

    def _open(self) -> Sink:
        if self._home is None:
            return CustodyLog(of_this_process(self.settings.custody))
        # A log that is gone in the middle of a run is not replaced by an empty one.
        if self._opened:
            return SqliteLog(self._home)
        log = SqliteLog.open_or_create(self._home, self.settings.version, self.settings.name)
        self._opened = True
        return log

    def _prepared(self, log: Sink) -> list[str]:
        """See that the log can be signed, and close the runs that were killed; returns their ids."""
        if not isinstance(log, SqliteLog):
            return []  # custody sees to both
        log.demand_key()
        return close_dead_runs(log, self._run.id)

    def _let_go(self) -> None:
        held, self._held = self._held or [], None
        for kind, fields, openings in held:
            self._run.record(kind, fields, openings)
        self._publisher.start()

    def _record(self, kind: str, fields: Fields, openings: Sequence[Opening] = ()) -> None:
        if self._held is None:
            self._run.record(kind, fields, openings)
        else:
            self._held.append((kind, {"ts": entry.timestamp(), **fields}, openings))

    def _demand_no_fault(self) -> None:
        if self._fault:
            fault, self._fault = self._fault, ""
            raise FlowauditError(fault)

    def _count(self, result: events.Result) -> None:
        counts = self._counts.setdefault(result.host, dict.fromkeys(("ok", "changed", *_OUTCOMES.values()), 0))
        failed = result.status == "failed" and not result.ignored
        counts["ok" if result.status == "failed" and not failed else _OUTCOMES.get(result.status, "ok")] += 1
        counts["changed"] += result.changed and not failed

    def _refuse_ephemeral(self) -> None:
        if self._home is None or self.settings.accept_ephemeral or self.settings.publishing.database:
            return
        try:
            mounts = pathlib.Path("/proc/self/mountinfo").read_text("utf-8", "replace")
        except OSError:
            mounts = ""
        existing = self._home.path
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        why = provenance.why_ephemeral(str(existing), mounts, os.environ)
        if why:
            raise FlowauditError(
                f"The trail in {self._home.path} would not last: {why}. Name a directory that stays, a database to ship"
                " to (FLOWAUDIT_TRAIL_DATABASE), or say that it may go (FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL=true)."
            )


def _by_host(stats: Mapping[str, Mapping[str, int]]) -> dict[str, Fields]:
    # Keys of entries are ASCII.
    return {host.encode("ascii", "backslashreplace").decode(): dict(counts) for host, counts in stats.items()}


def _status(stats: Mapping[str, Mapping[str, int]]) -> str:
    counts = list(stats.values())
    if any(count.get("failures", 0) for count in counts):
        return "failed"
    return "unreachable" if any(count.get("unreachable", 0) for count in counts) else "ok"
