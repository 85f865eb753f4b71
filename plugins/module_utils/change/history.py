# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has happened to a change, as the trail has it: from its entries to its state."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from collections.abc import Iterable

from ..trail import canonical, entry
from ..trail.sqlite import SELDOM, SqliteLog
from . import model, window
from .model import State

Fields = dict[str, t.Any]

_TELLING = frozenset(
    {entry.RUN_AUTHORIZED, entry.RUN_END, entry.RUN_ABORTED, entry.CHANGE_REVOKED, entry.CHANGE_REVIEWED}
)
# Its end is known from what others say; a run that was killed is as good as failed once it is closed.
_OUTCOMES = {"ok": State.DONE, "failed": State.FAILED, "unreachable": State.FAILED}


@dataclasses.dataclass(frozen=True)
class RunOfChange:
    """A run that the gate let begin for a change."""

    run: str
    playbooks: tuple[str, ...]
    hosts: tuple[str, ...]
    check: bool
    rollback: bool
    began: datetime.datetime
    state: State = State.RUNNING
    ended: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class History:
    """What is recorded of a change."""

    runs: tuple[RunOfChange, ...] = ()
    revoked: bool = False
    reviewed: bool = False

    @property
    def real(self) -> list[RunOfChange]:
        """The runs that were not in check mode."""
        return [run for run in self.runs if not run.check]

    @property
    def ended(self) -> datetime.datetime | None:
        """When the last run ended; none when there was none, or one has not ended."""
        if not self.real or any(run.ended is None for run in self.real):
            return None
        return max(run.ended for run in self.real if run.ended is not None)

    def state(self, change: model.Change, approved: bool) -> State:
        """Where the change is as a whole: done when every playbook has run well on every host."""
        # What has run is reviewed, not revoked.
        if self.revoked and not self.real:
            return State.REVOKED
        if self.reviewed:
            return State.REVIEWED
        if any(run.rollback and run.state is State.DONE for run in self.real):
            return State.ROLLED_BACK
        carried_out = [run for run in self.real if not run.rollback]
        if not carried_out:
            return State.APPROVED if approved else State.REQUESTED
        wanted = {(playbook, host) for playbook in change.scope.playbooks for host in change.scope.hosts}
        if wanted <= self._done():
            return State.DONE
        return State.RUNNING if carried_out[-1].state in (State.RUNNING, State.DONE) else State.FAILED

    def under_way(self, playbook: str, hosts: Iterable[str]) -> list[str]:
        """The runs that have not ended, of the playbook on one of the hosts."""
        wanted = set(hosts)
        return [
            run.run for run in self.runs if run.ended is None and playbook in run.playbooks and wanted & set(run.hosts)
        ]

    def done_already(self, playbook: str, hosts: Iterable[str]) -> list[str]:
        """Those of the hosts on which the playbook has run well for this change."""
        done = self._done()
        return sorted(host for host in set(hosts) if (playbook, host) in done)

    def _done(self) -> set[tuple[str, str]]:
        return {
            (playbook, host)
            for run in self.real
            if run.state is State.DONE and not run.rollback
            for playbook in run.playbooks
            for host in run.hosts
        }


def of(log: SqliteLog, change: model.Change) -> History:
    """The history of a change."""
    return read(entries(log, change.id), change)


def entries(log: SqliteLog, change_id: str) -> list[Fields]:
    """The entries of which ``read`` makes the history of a change."""
    rows = log.ask(
        f"SELECT line FROM entries INDEXED BY entries_chg WHERE {SELDOM} AND chg = ? ORDER BY seq", (change_id,)
    )
    found = [canonical.decode(line.encode()) for (line,) in rows if line is not None]
    return [value for value in found if value["type"] in _TELLING]


def unreviewed_emergencies(log: SqliteLog, inventory: str) -> dict[str, datetime.datetime]:
    """The emergency changes that have run and that nobody has reviewed, by their ids: when they last ran.

    From the trail alone: their files may be gone.
    """
    rows = log.ask(
        f"SELECT line FROM entries INDEXED BY entries_type WHERE {SELDOM} AND type IN (?, ?) ORDER BY seq",
        (entry.RUN_AUTHORIZED, entry.CHANGE_REVIEWED),
    )
    found: dict[str, datetime.datetime] = {}
    for (line,) in rows:
        value = canonical.decode(line.encode()) if line is not None else {}
        if value.get("inventory") != inventory or "chg" not in value:
            continue
        if value["type"] == entry.CHANGE_REVIEWED:
            found.pop(value["chg"], None)
        elif value.get("kind") == model.Kind.EMERGENCY and not value["check"]:
            found[value["chg"]] = window.parse_moment("ts", value["ts"])
    return found


def read(entries: Iterable[Fields], change: model.Change) -> History:
    """The history that entries of one id tell of a change, in their order.

    Another inventory may have a change of that id, too; what was let begin for another document is none of its runs.
    """
    runs: dict[str, RunOfChange] = {}
    kinds = set()
    for value in entries:
        run = runs.get(value.get("run", ""))
        if value.get("inventory") == change.inventory:
            kinds.add(value["type"])
        if value["type"] == entry.RUN_AUTHORIZED:
            if (value["inventory"], value.get("document")) != (change.inventory, change.digest):
                continue
            runs[value["run"]] = RunOfChange(
                value["run"],
                tuple(value["playbooks"]),
                tuple(value["hosts"]),
                value["check"],
                value["rollback"],
                window.parse_moment("ts", value["ts"]),
            )
        elif run is not None and value["type"] in (entry.RUN_END, entry.RUN_ABORTED):
            # An end without a status is that of an aborted run.
            state = _OUTCOMES.get(value.get("status", ""), State.FAILED)
            ended = window.parse_moment("ts", value["ts"])
            runs[run.run] = dataclasses.replace(run, state=state, ended=ended)
    return History(tuple(runs.values()), entry.CHANGE_REVOKED in kinds, entry.CHANGE_REVIEWED in kinds)
