# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A drill: everything is restored beside the live system from the target alone, proved, measured, and removed again."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
import typing as t
from collections.abc import Iterator

from ..errors import FlowauditError
from . import choice
from .recovery import Recovered, Recovery
from .restic import Repository, Runner, Snapshot

if t.TYPE_CHECKING:
    from .jobs import Jobs

#: What is restored and compared file by file.
_FILES = ("uploads", "config")


class Drill:
    """One drill.

    Args:
        password_file: of the key that is to be proved; the host's own unless given.
    """

    def __init__(self, jobs: Jobs, run: Runner, password_file: str = "") -> None:
        self._jobs = jobs
        self._run = run
        self._password_file = password_file
        self._directory = os.path.join(jobs.settings.restore_directory, "drill")
        self.problems: list[str] = []
        self.timings: dict[str, float] = {}

    def make(self) -> dict[str, t.Any]:
        """Do it all, whatever one part of it shows; what was shown, which goes on record.

        The RPO is the age of the newest heartbeat that came back; the RTO the time until all of it was there and
        proved.
        """
        at, began = self._jobs.now(), time.monotonic()
        shown: dict[str, t.Any] = {"key": "recovery" if self._password_file else "host", "rpo": None}
        try:
            with self._part("database"):
                recovered = self._database(at)
                shown["rpo"] = _age(recovered.heartbeat, at)
                shown["rows"] = sum(sum(tables.values()) for tables in recovered.rows.values())
                shown["base"] = recovered.base
                self.problems += recovered.problems
            for name in _FILES:
                with self._part(name):
                    shown[name] = self._files(name)
            if self._jobs.settings.chroma_service:
                with self._part("chroma"):
                    shown["vectors"] = self._vectors()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
        shown |= {"problems": self.problems, "timings": self.timings, "rto": round(time.monotonic() - began, 3)}
        self._jobs.records.prove("drill", at, shown)
        return shown

    def _database(self, at: datetime.datetime) -> Recovered:
        repository = self._repository("postgres")
        way = choice.way(repository.snapshots(), choice.Goal(), at, line=self._jobs.stream.name())
        volume = f"{self._jobs.settings.backup_project}_drill"
        jobs = self._jobs
        recovery = Recovery(jobs.settings, self._run, jobs.stream, repository, volume, choice.Goal(), way)
        try:
            return recovery.make(from_target=True, thorough=True)
        finally:
            recovery.discard()

    def _files(self, name: str) -> int:
        repository = self._repository(name)
        snapshot = latest(repository, name)
        if shutil.disk_usage(self._jobs.settings.restore_directory).free < snapshot.size:
            raise FlowauditError(f"There is no room for {snapshot.size / 2**30:.1f} GB beside the live system")
        into = os.path.join(self._directory, name)
        repository.restore(snapshot, "/", into, verify=True)
        # What restic counts as files are no links.
        below = (os.path.join(directory, file) for directory, _names, files in os.walk(into) for file in files)
        count = sum(not os.path.islink(path) for path in below)
        shutil.rmtree(into)
        if count != snapshot.files:
            raise FlowauditError(f"{count} files came back, {snapshot.files} were saved")
        return count

    def _vectors(self) -> int:
        repository = self._repository("chroma")
        snapshot = latest(repository, "chroma")
        counted = self._jobs.stage_chroma(repository, snapshot)
        count, saved = sum(counted.values()), int(snapshot.labels.get("vectors", "0"))
        if count != saved:
            raise FlowauditError(f"{count} vectors came back, {saved} were saved")
        return count

    def _repository(self, name: str) -> Repository:
        return self._jobs.repository(name, password_file=self._password_file)

    @contextlib.contextmanager
    def _part(self, name: str) -> Iterator[None]:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        began = time.monotonic()
        try:
            yield
        except (FlowauditError, OSError) as error:
            self.problems.append(f"{name}: {str(error).rstrip('.')}.")
        finally:
            self.timings[name] = round(time.monotonic() - began, 3)


def latest(repository: Repository, kind: str, at: datetime.datetime | None = None) -> Snapshot:
    """The last snapshot, or the last one until a moment.

    Raises:
        FlowauditError: there is none; the sentence says from when on there are some.
    """
    # What a wrong clock has dated into the future is not the newest for ever.
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
    found = [each for each in repository.snapshots() if each.kind == kind and each.time <= soon]
    suitable = [each for each in found if at is None or each.time <= at]
    if not suitable:
        since = f", the first is of {found[0].time:%Y-%m-%d %H:%M:%S} UTC" if found else ""
        raise FlowauditError(f"The repository {repository} has no backup of that time{since}.")
    return suitable[-1]


def _age(then: datetime.datetime | None, at: datetime.datetime) -> float | None:
    return None if then is None else round((at - then).total_seconds(), 3)
