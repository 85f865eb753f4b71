# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A database recovered into a volume of its own, beside the one that serves, and proved there.

Nothing that serves is touched: a server without a network replays the log in the new volume, every table and index is
read, every checksum compared. What is done with the volume then is up to :mod:`restore`, or to a drill, which removes
it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import time
import typing as t
from collections.abc import Mapping, Sequence

from ..engine import Result
from ..errors import FlowauditError
from ..files import write_file
from . import wal
from .choice import Goal, Way
from .records import stamp
from .restic import Repository, Runner
from .server import Server
from .settings import Settings
from .stream import Stream

_DATA = "/var/lib/postgresql/data"
_CLUSTER = "pgdata"
_LOG = "/wal"
#: A copy needs its size, and the log that is replayed some more.
_ROOM = 1.3
_POLL = 0.5
_SHORT = 120.0
#: A segment that was being received has another name until it is full.
#: A copy that fails must not pass for the end of the log: beyond 125 the server gives up (manual, "Archive Recovery").
_RESTORE_COMMAND = (
    f'for f in {_LOG}/%f {_LOG}/%f.partial; do if [ -e "$f" ]; then cp "$f" "%p" || exit 200; exit 0; fi; done; exit 1'
)
_NOT_REACHED = "recovery ended before configured recovery target was reached"
_EXTENSION = "amcheck"
#: Each takes maintenance_work_mem (64 MB unless set) of the server's memory.
_JOBS = min(os.cpu_count() or 1, 4)


@dataclasses.dataclass
class Recovered:
    """What was recovered.

    Attributes:
        volume: the volume.
        base: name of the base backup.
        goal: the moment that was wanted.
        heartbeat: the newest heartbeat in it, empty without one (RFC 3339, UTC).
        rows: database → table → rows.
        problems: what is not as the base backup's manifest has it, in sentences.
        warnings: what was not as it should be on the way, in sentences.
        timings: step → seconds.
        sources: where base backup and log came from: host or the target's name.
    """

    volume: str
    base: str
    goal: str
    heartbeat: datetime.datetime | None = None
    rows: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    sources: dict[str, str] = dataclasses.field(default_factory=dict)


class Recovery:
    """One recovery, into the volume ``volume``; a container and a directory of its name belong to it."""

    def __init__(
        self, settings: Settings, run: Runner, stream: Stream, repository: Repository, volume: str, goal: Goal, way: Way
    ) -> None:
        self._settings = settings
        self._run = run
        self._stream = stream
        self._repository = repository
        self._goal = goal
        self._way = way
        self._container = container_name(settings, volume)
        self._server = Server(run, self._container, settings.heartbeat_database)
        self._directory = os.path.join(settings.restore_directory, volume)
        self._log = os.path.join(self._directory, "wal")
        self.result = Recovered(volume, way.base.labels.get("name", ""), str(goal))

    # ── The whole of it ──

    def make(self, *, from_target: bool, thorough: bool) -> Recovered:
        """Recover and prove; the volume is whole and at rest afterwards.

        Args:
            from_target: take nothing from this host, as if it were lost.
            thorough: look for each row in the indexes, too, which takes several times as long.

        Raises:
            FlowauditError: it cannot be recovered; the volume is gone again.
        """
        self.discard()
        try:
            with self._timed("fetch"):
                self._fetch(from_target)
            with self._timed("replay"):
                self._replay()
            with self._timed("prove"):
                self._prove(thorough)
        except BaseException:
            self.discard()
            raise
        finally:
            self._remove_container()
            shutil.rmtree(self._directory, ignore_errors=True)
        return self.result

    def discard(self) -> None:
        """Remove what there is of it."""
        self._remove_container()
        shutil.rmtree(self._directory, ignore_errors=True)
        remove_volume(self._run, self.result.volume)

    # ── Its steps ──

    def _fetch(self, from_target: bool) -> None:
        os.makedirs(self._settings.restore_directory, mode=0o700, exist_ok=True)
        self._require_room()
        created = self._run(["docker", "volume", "create", self.result.volume], _SHORT, {})
        _require(created, "The new volume could not be made")
        place = os.path.join(mountpoint(self._run, self.result.volume), _CLUSTER)
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        os.chmod(self._directory, 0o755)
        self._fetch_log(from_target)
        self._drop_unwritten()
        local = os.path.join(self._settings.database_directory, "base", self.result.base)
        if from_target or not os.path.isdir(local) or not self._copied(local, place):
            self.result.sources["base"] = self._repository.target.name
            self._repository.restore(self._way.base, f"{self._way.base.paths[0]}/{_CLUSTER}", place)
            self._verify(place)

    def _copied(self, local: str, place: str) -> bool:
        """Copy the base backup on this host; whether it is whole. The target has another one."""
        copy = ["cp", "--archive", "--reflink=auto", os.path.join(local, _CLUSTER), place]
        try:
            _require(self._run(copy, self._settings.seconds, {}), "It could not be copied")
            self._verify(place)
        except FlowauditError as error:
            shutil.rmtree(place, ignore_errors=True)
            name = self._repository.target.name
            self.result.warnings.append(f"The base backup on this host was not used, that of {name} was: {error}")
            return False
        self.result.sources["base"] = "host"
        return True

    def _verify(self, place: str) -> None:
        owner = self._settings.database_user
        os.chown(place, owner, owner)
        os.chmod(place, 0o700)
        self._program(["pg_verifybackup", "--quiet", f"{_DATA}/{_CLUSTER}"], "The base backup is damaged")

    def _fetch_log(self, from_target: bool) -> None:
        first = self._way.base.labels["first_segment"]
        here = self._stream.segments() if self._stream.name() == self._way.base.labels["stream"] else []
        if not from_target and here and not wal.lacks(here, first):
            self.result.sources["log"] = "host"
            self._copy_log(first)
            return
        self.result.sources["log"] = self._repository.target.name
        self._repository.restore(self._way.log, self._way.log.paths[0], self._log)
        # A log that the server may not read is to it a log that has ended.
        os.chown(self._log, self._settings.database_user, self._settings.database_user)
        there = wal.segments(os.listdir(self._log))
        missing = wal.lacks(there, first)
        last = self._way.log.labels["last"]
        missing += [] if last in there else [last]
        if missing:
            raise FlowauditError(f"The write-ahead log lacks {', '.join(missing)}; nothing after that can be restored.")

    def _copy_log(self, first: str) -> None:
        """Copied, because the receiver goes on writing: what comes from now on is beyond the goal."""
        os.makedirs(self._log, mode=0o755, exist_ok=True)
        here = self._stream.directory()
        names = [name for name in os.listdir(here) if name.removesuffix(".partial") >= first or "history" in name]
        for name in names:
            whole = name.removesuffix(".partial")
            try:
                shutil.copyfile(os.path.join(here, name), os.path.join(self._log, name))
            except FileNotFoundError as error:
                if whole == name:
                    raise FlowauditError(f"The log changed while it was copied ({name}); try again.") from error
                # It became whole in the meantime.
                shutil.copyfile(os.path.join(here, whole), os.path.join(self._log, whole))

    def _drop_unwritten(self) -> None:
        """A segment that is not laid out to its end has nothing written in it, and ends the server that is given it."""
        for entry in os.scandir(self._log):
            if entry.name.endswith(".partial") and entry.stat().st_size < wal.SEGMENT_BYTES:
                os.remove(entry.path)

    def _replay(self) -> None:
        place = os.path.join(mountpoint(self._run, self.result.volume), _CLUSTER)
        signal = os.path.join(place, "recovery.signal")
        write_file(signal, "", mode=0o600)
        os.chown(signal, self._settings.database_user, self._settings.database_user)
        try:
            self._serve(self._target())
        except _EndedBefore:
            if self._goal.point or self._goal.time is None or self._way.reaches < self._goal.time:
                raise
            # Nothing was committed between the last of the log and the moment that is wanted: the end is that moment.
            self._serve([])

    def _target(self) -> list[str]:
        if self._goal.point:
            return [f"recovery_target_name={self._goal.point}"]
        if self._goal.time is not None:
            return [f"recovery_target_time={self._goal.time.isoformat(sep=' ')}"]
        return []

    def _serve(self, target: Sequence[str]) -> None:
        """Start the server and wait until it has replayed the log and serves."""
        self._remove_container()
        options = [
            "hot_standby=off",
            "listen_addresses=",
            f"restore_command={_RESTORE_COMMAND}",
            "recovery_target_action=promote",
            *target,
        ]
        command = ["postgres", *(word for option in options for word in ("-c", option))]
        started = self._run([*self._docker("--detach"), *command], _SHORT, {})
        _require(started, "The recovering server could not be started")
        deadline = time.monotonic() + self._settings.seconds
        while not self._recovered():
            if time.monotonic() >= deadline:
                raise FlowauditError(f"The log was not replayed within {self._settings.seconds:g} seconds.")
            time.sleep(_POLL)

    def _recovered(self) -> bool:
        state = self._run(["docker", "inspect", "--format", "{{.State.Running}}", self._container], _SHORT, {})
        if state.output.strip() != "true":
            logs = self._run(["docker", "logs", "--tail", "50", self._container], _SHORT, {})
            lines = [line for line in (logs.errors + logs.output).splitlines() if "FATAL" in line or "PANIC" in line]
            if any(_NOT_REACHED in line for line in lines):
                raise _EndedBefore(
                    f"The log ends before {self._goal}, so that cannot be restored; choose an earlier time, or latest."
                )
            raise FlowauditError(f"The recovering server ended: {' / '.join(lines[-2:]) or logs.said}")
        with contextlib.suppress(FlowauditError):
            return self._server.ask("SELECT pg_is_in_recovery()") == [["f"]]
        return False

    def _prove(self, thorough: bool) -> None:
        """Read every table and index; compare with what the base backup's manifest says of them; compare checksums."""
        databases = self._server.databases()
        lent = [name for name in databases if not self._server.has_extension(_EXTENSION, name)]
        for database in lent:
            self._server.ask(f"CREATE EXTENSION {_EXTENSION}", database)
        command = ["pg_amcheck", "--username=postgres", f"--jobs={_JOBS}", *(["--heapallindexed"] if thorough else [])]
        checked = self._exec([*command, *_databases(databases)])
        for database in lent:
            self._server.ask(f"DROP EXTENSION {_EXTENSION}", database)
        if checked.status != 0:
            said = (checked.output or checked.errors).strip()
            raise FlowauditError(f"The recovered database is damaged: {said[:500]}")
        self.result.rows = self._server.all_rows(self._settings.seconds)
        self.result.heartbeat = self._server.heartbeat()
        due, found = self._way.heartbeat, self.result.heartbeat
        if due is not None and (found is None or found < due):
            newest = stamp(found) if found else "none"
            raise FlowauditError(
                f"The log was not replayed to the end: the newest heartbeat is {newest}, and {stamp(due)} was received."
            )
        before = self._manifest().get("rows", {})
        self.result.problems = differences(before, self.result.rows)
        _require(self._run(["docker", "stop", "--time", "120", self._container], 180, {}), "It did not stop")
        self._program(
            ["pg_checksums", "--check", "--pgdata", f"{_DATA}/{_CLUSTER}"], "The recovered database is damaged"
        )

    def _manifest(self) -> dict[str, t.Any]:
        path = f"{self._way.base.paths[0]}/base.json"
        return t.cast("dict[str, t.Any]", json.loads(self._repository.read(self._way.base, path)))

    # ── Small things ──

    def _require_room(self) -> None:
        cluster, log = self._way.base.size * _ROOM, self._way.log.size
        engine, workspace = self._settings.engine_directory, self._settings.restore_directory
        if os.stat(engine).st_dev == os.stat(workspace).st_dev:
            cluster, log = cluster + log, 0
        for place, size in ((engine, cluster), (workspace, log)):
            free = shutil.disk_usage(place).free
            if free < size:
                raise FlowauditError(
                    f"{place} has {free / 2**30:.1f} GB left, the restore needs {size / 2**30:.1f}; make room first."
                )

    def _docker(self, *options: str) -> list[str]:
        user = self._settings.database_user
        return [
            *("docker", "run", "--name", self._container, *options, "--network", "none", "--user", f"{user}:{user}"),
            *("--memory", self._settings.database_memory, "--memory-swap", self._settings.database_memory),
            *("--pids-limit", "300", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"),
            *("--shm-size", "256M", "--tmpfs", "/tmp"),
            *("--tmpfs", f"/var/run/postgresql:uid={user},gid={user},mode=0700"),
            *("--env", f"PGDATA={_DATA}/{_CLUSTER}", "--volume", f"{self.result.volume}:{_DATA}"),
            *("--volume", f"{self._log}:{_LOG}:ro", self._settings.database_image),
        ]

    def _program(self, command: Sequence[str], what: str) -> None:
        """Run one of PostgreSQL's programs on the volume."""
        self._remove_container()
        _require(self._run([*self._docker("--rm"), *command], self._settings.seconds, {}), what)

    def _exec(self, command: Sequence[str]) -> Result:
        return self._run(["docker", "exec", self._container, *command], self._settings.seconds, {})

    def _remove_container(self) -> None:
        self._run(["docker", "rm", "--force", "--volumes", self._container], _SHORT, {})

    @contextlib.contextmanager
    def _timed(self, step: str) -> t.Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.result.timings[step] = round(time.monotonic() - began, 3)


class _EndedBefore(FlowauditError):
    """The log ends before the moment that is wanted."""


def container_name(settings: Settings, volume: str) -> str:
    """The container that recovers a volume."""
    return f"{settings.backup_project}-recovery-{volume}"


def differences(before: Mapping[str, Mapping[str, int]], after: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What had rows when the base backup was taken and has none now, in sentences."""
    said = []
    for database, tables in before.items():
        found = after.get(database)
        if found is None:
            said.append(f"The database {database} is not there.")
            continue
        gone = [name for name, count in tables.items() if count and not found.get(name)]
        if gone:
            said.append(f"{database} has no rows in {', '.join(gone)}, which had some when the base backup was taken.")
    return said


def mountpoint(run: Runner, volume: str) -> str:
    """Where a volume's files are on this host.

    Raises:
        FlowauditError: there is no such volume.
    """
    told = run(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume], _SHORT, {})
    _require(told, f"The volume {volume} is not there")
    return told.output.strip()


def remove_volume(run: Runner, volume: str) -> None:
    """Remove a volume; one that a container uses stays.

    Raises:
        FlowauditError: it is still there.
    """
    removed = run(["docker", "volume", "rm", "--force", volume], _SHORT, {})
    _require(removed, f"The volume {volume} could not be removed")


def _databases(names: Sequence[str]) -> list[str]:
    return [f"--database={name}" for name in names]


def _require(result: Result, what: str) -> None:
    if result.status != 0:
        raise FlowauditError(f"{what}: {result.said}")
