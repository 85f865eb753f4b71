# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The jobs: each takes one kind of backup, proves it as far as that goes at once, and brings it to the target."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import shutil
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence

from .. import webhook
from ..engine import Engine
from ..errors import FlowauditError
from ..files import read_file, sync_directory, write_json
from ..release.manifest import COLOURS
from ..release.records import Records as ReleaseRecords
from . import metrics, vectors, wal
from .drill import Drill
from .records import Record, Records, moment, stamp
from .restic import Repository, Runner, Saved, Snapshot
from .server import Server, Slot
from .settings import REPOSITORIES, Settings
from .stream import Stream

#: Where the containers that take and prove backups see base backups and dumps, and the write-ahead log.
_BACKUPS = "/backups"
_WAL = "/wal"
_STAMP = "%Y%m%dT%H%M%SZ"
#: The lock of what is stopped for a copy, and that of the line of the log that is followed.
_PAUSE, _LINE = "pause", "line"
#: The jobs that save something of this host.
_SAVING = ("base", "wal", "dump", "chroma", "uploads", "config")
#: How often the log is saved again because its last segment got its name meanwhile.
_ATTEMPTS = 3
#: Seconds the receiver has for a heartbeat before the log counts as not followed.
_SECONDS_TO_RECEIVE = 60
#: Base backups on the host when the target cannot be reached; one when it can.
_BASES = 2
#: Dumps that one run removes: a clock that jumped ahead makes all of them old, and must not take all of them away.
_DUMPS_AT_ONCE = 2


@dataclasses.dataclass(frozen=True)
class Done:
    """What a job has saved: bytes, and what it says of itself."""

    size: int
    details: Mapping[str, t.Any]


class Jobs:
    def __init__(
        self,
        settings: Settings,
        run: Runner,
        clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
        drill_password_file: str = "",
    ) -> None:
        """``drill_password_file`` is of the key a drill proves; the host's own unless given."""
        self.settings = settings
        self.records = Records(settings.state_directory)
        self.engine = Engine(lambda command, seconds: run(command, seconds, {}))
        self.server = Server(run, settings.database_container, settings.heartbeat_database)
        self.stream = Stream(settings, self.engine, self.server)
        self._run = run
        self._drill_password_file = drill_password_file
        self.now = clock
        self._jobs: dict[str, Callable[[], Done]] = {
            # A base backup is worth something once there is a log after it.
            "base": self._base,
            "wal": self._wal,
            "dump": self._dump,
            "chroma": self._chroma,
            "uploads": self._uploads,
            "config": self._config,
            "copy": self._copy,
            "check": self._check,
            "drill": self._drill,
        }

    # ── Any of them ──

    @property
    def names(self) -> list[str]:
        """The jobs there are here, in the order in which they are run by hand."""
        missing = {"chroma"} if not self.settings.chroma_service else set()
        missing |= {"copy"} if len(self.settings.targets) < 2 else set()
        return [name for name in self._jobs if name not in missing]

    def require(self, names: Sequence[str]) -> None:
        """Refuse what is no job.

        Raises:
            FlowauditError: one of these is none.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise FlowauditError(f"There is no job {', '.join(unknown)} here; the jobs are {', '.join(self.names)}.")

    def run_all(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Do jobs, all of them whatever happens to one; those that failed, and why."""
        failed = []
        for name in names:
            try:
                self.run(name)
            except (FlowauditError, OSError) as error:
                failed.append((name, str(error)))
        return failed

    def run(self, name: str) -> Record:
        """Do a job.

        Raises:
            FlowauditError: it failed; that is on record, and what earlier runs saved is as it was.
        """
        self.require([name])
        self.records.prepare()
        with self.records.lock(name, self.settings.lock_wait, {"since": stamp(self.now())}):
            self.records.began(name, self.now())
            began = time.monotonic()
            try:
                if name in _SAVING:
                    self._require_own_history()
                done = self._jobs[name]()
            except (FlowauditError, OSError) as error:
                self.records.failed(name, str(error))
                raise
            else:
                self.records.succeeded(name, time.monotonic() - began, done.size, done.details)
            finally:
                self.write_metrics()
        if self.settings.ping_url:
            # Who waits for it notices that it does not come; the job has succeeded all the same.
            said = {"system": self.settings.system, "job": name, "seconds": self.records.job(name).seconds}
            with contextlib.suppress(FlowauditError):
                webhook.post(self.settings.ping_url.replace("{job}", name), said, "backup_ping_url")
        return self.records.job(name)

    def repository(self, name: str, target: int = 0, password_file: str = "") -> Repository:
        return Repository(self._run, self.settings, self.settings.targets[target], name, password_file=password_file)

    def repositories(self) -> Iterator[Repository]:
        for number in range(len(self.settings.targets)):
            for name in REPOSITORIES:
                yield self.repository(name, number)

    # ── PostgreSQL ──

    def follow(self, *, predict: bool = False, adopt: bool = False) -> str:
        """Have the write-ahead log followed; why it was not, empty when it was.

        Args:
            predict: only say so.
            adopt: go on though the target has backups of a host of this name that was another one.

        Raises:
            FlowauditError: it is not.
        """
        if not adopt:
            self._require_own_history()
        with contextlib.nullcontext() if predict else self.hold_line():
            slot = self.server.slot()
            trouble = self.stream.broken(slot)
            if trouble and not predict:
                self.begin_line()
            elif not slot.active and not predict:
                self.stream.start()
        return trouble or ("" if slot.active else "The receiver does not run.")

    def _require_own_history(self) -> None:
        """Refuse to put an empty database after the backups of one that was lost: the newest would be the empty one."""
        line = self.stream.name()
        if line and self._is_of_another_database(line):
            raise FlowauditError(
                f"{self.settings.system} has another database than the one its backups are of: bring that one back "
                "with flowaudit.ops.restore_database, or begin anew beside its backups with -e backup_adopt=true."
            )
        if line:
            return
        bases = [each for each in self.repository("postgres").snapshots() if each.kind == "base"]
        if bases:
            target, system = self.settings.targets[0].name, self.settings.system
            last = stamp(bases[-1].time)
            raise FlowauditError(
                f"This host has no backups yet, but {target} has some of {system}, the last of {last}: bring them back "
                "with the playbook flowaudit.ops.recover_host, or begin anew beside them with -e backup_adopt=true."
            )

    def _is_of_another_database(self, line: str) -> bool:
        """Whether a line is of another database than the one that runs; not as long as none answers."""
        with contextlib.suppress(FlowauditError):
            return line.split("/", maxsplit=1)[0] != self.server.system_identifier()
        return False

    def _wal(self) -> Done:
        """Save the log; what keeps it from being followed is mended, and told by failing."""
        trouble, begun = self._followed()
        if begun:
            self.run("base")
        # Whatever else is wrong: what there is, is better than nothing.
        if not trouble or self.stream.segments():
            saved, names, received = self.save_wal()
        if trouble:
            raise FlowauditError(trouble)
        own = [each for each in self.bases() if each["stream"] == self.stream.name()]
        # What the newest base backup does not need may be missing.
        missing = wal.lacks(names, own[-1]["first_segment"]) if own else []
        if missing or not own:
            # Without one of its own, as after a restore that was stopped, a line is worth nothing, nor is that without
            # a log after it.
            self.run("base")
            saved, names, received = self.save_wal()
        if missing:
            self._count_gap()
            raise FlowauditError(
                f"The write-ahead log on the host lacked {', '.join(missing)}. A base backup was taken; nothing can be "
                "restored between these segments and now."
            )
        self._forget_wal()
        return Done(saved.size, {"segments": len(names), "added": saved.added, "received": received})

    def _followed(self) -> tuple[str, bool]:
        """Have the log followed; why it was not, empty when it was, and whether a new line had to be begun."""
        try:
            if self.stream.broken(self.server.slot()) and self.stream.segments():
                # Before the line is held: a target may take its time, and a restore must not wait for it.
                with contextlib.suppress(FlowauditError):
                    self.save_wal()
            with self.hold_line():
                slot = self.server.slot()
                trouble = self.stream.broken(slot)
                if trouble:
                    return self._begin_another(trouble), True
                if not slot.active or not self.stream.segments():
                    self.stream.start()
            self.beat(_SECONDS_TO_RECEIVE)
        except FlowauditError as error:
            return str(error), False
        return "", False

    def _begin_another(self, trouble: str) -> str:
        """Begin a new line where the old one cannot be gone on with; what that means."""
        first, old = not self.stream.name(), self.stream.segments()
        self.begin_line()
        if first:
            return "The write-ahead log was not followed until now; it is from here on."
        self._count_gap()
        return (
            f"{trouble} A new line was begun and a base backup taken; nothing can be restored between "
            f"{old[-1] if old else 'the last base backup'} and now."
        )

    def _count_gap(self) -> None:
        self.records.note(gaps=int(self.records.state().get("gaps", 0)) + 1)

    def hold_line(self) -> contextlib.AbstractContextManager[int]:
        """Be the only one who decides which line of the log is followed.

        Raises:
            FlowauditError: another one is at it, and still is after ``lock_wait`` seconds.
        """
        self.records.prepare()
        return self.records.lock(_LINE, self.settings.lock_wait, {"since": stamp(self.now())})

    def begin_line(self) -> None:
        """Have the receiver follow a new line; what was received of the old one says nothing about it.

        For who holds the line.

        Raises:
            FlowauditError: it does not.
        """
        self.records.note(received_at="")
        self.stream.begin(self.now())

    def save_wal(self) -> tuple[Saved, list[str], str]:
        """Bring what there is of the log to the target; the snapshot, the segments in it, and its last heartbeat."""
        for _attempt in range(_ATTEMPTS):
            names = self.stream.segments()
            if not names:
                raise FlowauditError("There is nothing of the write-ahead log on the host yet.")
            labels = {"stream": self.stream.name(), "first": names[0], "last": names[-1]}
            received = str(self.records.state().get("received_at", ""))
            labels |= {"received": received} if received else {}
            partial = os.path.join(self.stream.directory(), f"{names[-1]}.partial")
            unfinished = os.path.exists(partial)
            saved = self.repository("postgres").save("wal", labels, [self.stream.directory()])
            # Whole in the meantime, it has another name: restic may have looked for it under each at the wrong moment.
            if not unfinished or os.path.exists(partial):
                break
        return saved, names, received

    def _forget_wal(self) -> None:
        needed = [each["first_segment"] for each in self.bases() if each["stream"] == self.stream.name()]
        if needed:
            self.stream.forget(min(needed), self.settings.wal_hours * 3600)

    def _base(self) -> Done:
        directory = os.path.join(self.settings.database_directory, "base")
        self._clear(directory)
        began, stream = self.now(), self.stream.name()
        name = f"{began:{_STAMP}}"
        part, inside = os.path.join(directory, f".{name}.part"), f"{_BACKUPS}/base/.{name}.part/pgdata"
        self._program(
            "base",
            [
                *("pg_basebackup", f"--pgdata={inside}", "--wal-method=stream", "--checkpoint=fast"),
                *("--manifest-checksums=SHA256", "--username=postgres", "--no-password"),
            ],
            "The base backup failed",
        )
        ended = self.now()
        if self.stream.name() != stream:
            raise FlowauditError("Another line of the log was begun meanwhile, for which this base backup is none.")
        self._verify("base", inside)
        facts = {
            **_base_facts(os.path.join(part, "pgdata", "backup_manifest")),
            "name": name,
            "stream": stream,
            "began_at": stamp(began),
            "ended_at": stamp(ended),
            "rows": self.server.all_rows(self.settings.seconds),
        }
        write_json(os.path.join(part, "base.json"), facts, mode=0o640)
        os.rename(part, os.path.join(directory, name))
        sync_directory(directory)
        for each in self.bases()[:-_BASES]:
            self._drop(directory, each["name"])
        kept = ("name", "stream", "first_segment", "last_segment", "timeline", "ended_at")
        labels = {key: str(facts[key]) for key in kept}
        saved = self.repository("postgres").save("base", labels, [os.path.join(directory, name)])
        for each in self.bases():
            if each["name"] != name:
                self._drop(directory, each["name"])
        return Done(saved.size, {"name": name, "added": saved.added})

    def bases(self) -> list[dict[str, t.Any]]:
        """The base backups on the host, the oldest first."""
        directory = os.path.join(self.settings.database_directory, "base")
        found = []
        for name in sorted(os.listdir(directory) if os.path.isdir(directory) else []):
            text = None if name.startswith(".") else read_file(os.path.join(directory, name, "base.json"))
            if text is not None:
                found.append(json.loads(text))
        return found

    def _dump(self) -> Done:
        directory = os.path.join(self.settings.database_directory, "dump")
        self._clear(directory)
        name = f"{self.now():{_STAMP}}"
        part, inside = os.path.join(directory, f".{name}.part"), f"{_BACKUPS}/dump/.{name}.part"
        os.mkdir(part, 0o700)
        shutil.chown(part, *_owner(directory))
        self._program(
            "dump",
            ["pg_dumpall", "--roles-only", "--no-role-passwords", f"--file={inside}/roles.sql", "--username=postgres"],
            "The roles could not be dumped",
        )
        tables = 0
        for database in self.settings.databases:
            self._program(
                "dump",
                ["pg_dump", "--format=custom", f"--file={inside}/{database}.dump", "--username=postgres", database],
                f"The dump of {database} failed",
            )
            listed = self._program(
                "dump", ["pg_restore", "--list", f"{inside}/{database}.dump"], f"The dump of {database} cannot be read"
            )
            tables += sum(" TABLE DATA " in line for line in listed.splitlines())
        os.rename(part, os.path.join(directory, name))
        sync_directory(directory)
        saved = self.repository("postgres").save("dump", {"name": name}, [os.path.join(directory, name)])
        kept = self.now() - datetime.timedelta(days=self.settings.dump_days)
        there = sorted(each for each in os.listdir(directory) if not each.startswith("."))
        for old in [each for each in there if each < min(name, f"{kept:{_STAMP}}")][:_DUMPS_AT_ONCE]:
            self._drop(directory, old)
        return Done(saved.size, {"name": name, "tables": tables, "added": saved.added})

    def _verify(self, job: str, inside: str) -> None:
        what = f"The base backup in {inside} is not what its manifest says"
        self._program(job, ["pg_verifybackup", "--quiet", inside], what)

    def _program(self, job: str, command: Sequence[str], what: str) -> str:
        """Run one of PostgreSQL's programs, of the server's own version; its output."""
        return self.engine.once(self.settings.compose_file, job, command, self.settings.seconds, what)

    @staticmethod
    def _drop(directory: str, name: str) -> None:
        """Remove a backup; the half of it that is left by a kill must not look like one."""
        part = os.path.join(directory, f".{name}.part")
        os.rename(os.path.join(directory, name), part)
        shutil.rmtree(part)

    @staticmethod
    def _clear(directory: str) -> None:
        """Remove what a job that was killed has left."""
        for name in os.listdir(directory):
            if name.startswith(".") and name.endswith(".part"):
                shutil.rmtree(os.path.join(directory, name))

    # ── Chroma ──

    def _chroma(self) -> Done:
        """Copied while nobody writes, proved in a Chroma of its own, saved."""
        staging = self.settings.chroma_staging
        with self.records.lock("chroma-staging", self.settings.lock_wait, {"since": stamp(self.now())}):
            with self._still_chroma(counts=True) as counted:
                self._copy_directory(self.settings.chroma_directory, staging)
            proved = self._prove_chroma()
            if proved != counted:
                raise FlowauditError(
                    f"The copy of Chroma has {sum(proved.values())} vectors in {len(proved)} collections, Chroma had "
                    f"{sum(counted.values())} in {len(counted)}; it was not taken."
                )
            labels = {"vectors": str(sum(counted.values()))}
            saved = self.repository("chroma").save("chroma", labels, [staging])
        return Done(saved.size, {"collections": counted, "added": saved.added})

    def _writers(self, releases: ReleaseRecords) -> dict[str, list[str]]:
        """Compose file → the services that are running now and write to Chroma."""
        current = releases.current()
        if current is None:
            return {}
        project = f"{self.settings.project}-{current.colour}"
        found = self.engine.containers(project, self.settings.pause_services)
        running = [service for service, container in found.items() if not container.stopped]
        file = os.path.join(self.settings.project_directory, project, "compose.yaml")
        return {file: running} if running else {}

    def resume_abandoned(self) -> None:
        """Have run again what a copy stopped that was killed; what one is at right now is left to it."""
        with self.records.lock_if_free(_PAUSE) as free:
            # A deployment knows itself what has to run.
            if free and self.records.paused() and not ReleaseRecords(self.settings.release_directory).locked():
                with self._no_deployment(0):
                    self.resume()

    def resume(self) -> None:
        """Have everything run again that was stopped for a copy; for who holds the lock of it."""
        place = self.settings.chroma_directory
        if not os.path.exists(place) and os.path.exists(f"{place}.next"):
            # A restore was killed between its two renames.
            os.rename(f"{place}.next", place)
        problems: list[str] = []
        left = self._without_other_colours(self.records.paused())
        for file, services in reversed(list(left.items())):
            # A stop that a killed run has begun goes on in the engine: one that is started before that ends, is ended.
            told = _told(functools.partial(self.engine.stop, file, services, self.settings.grace))
            told += _told(functools.partial(self.engine.up, file, services, 300))
            problems += told
            if not told:
                # It is not stopped again because another one does not come up.
                del left[file]
                self.records.pause(left)
        if problems:
            raise FlowauditError(" ".join(problems))
        self.records.resumed()

    def _without_other_colours(self, paused: Mapping[str, t.Any]) -> dict[str, t.Any]:
        """What was stopped, but for a colour that does not serve any more."""
        current = ReleaseRecords(self.settings.release_directory).current()
        others = {f"{self.settings.project}-{each}" for each in COLOURS if current and each != current.colour}
        return {file: each for file, each in paused.items() if os.path.basename(os.path.dirname(file)) not in others}

    def stage_chroma(self, repository: Repository, snapshot: Snapshot) -> dict[str, int]:
        """Bring a snapshot to where copies are proved, and prove it; its collections."""
        staging = self.settings.chroma_staging
        with self.records.lock("chroma-staging", self.settings.lock_wait, {"since": stamp(self.now())}):
            for name in os.listdir(staging):
                path = os.path.join(staging, name)
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
            repository.restore(snapshot, snapshot.paths[0], staging)
            return self._prove_chroma()

    def restore_chroma(self, repository: Repository, snapshot: Snapshot) -> tuple[dict[str, int], str]:
        """Have Chroma serve a snapshot, once that is proved; its collections, and where what it had is kept.

        Raises:
            FlowauditError: it does not; it serves what it had.
        """
        counted = self.stage_chroma(repository, snapshot)
        saved = int(snapshot.labels.get("vectors", "0"))
        if sum(counted.values()) != saved:
            raise FlowauditError(f"{sum(counted.values())} vectors came back, {saved} were saved; nothing was changed.")
        place = self.settings.chroma_directory
        kept = f"{place}.before-{self.now():{_STAMP}}"
        self._copy_directory(self.settings.chroma_staging, f"{place}.next")
        # One that is broken tells nothing.
        with self._still_chroma(counts=False):
            os.rename(place, kept)
            os.rename(f"{place}.next", place)
        return counted, kept

    def _copy_directory(self, source: str, into: str) -> None:
        result = self._run(["rsync", "--archive", "--delete", f"{source}/", f"{into}/"], self.settings.seconds, {})
        if result.status != 0:
            raise FlowauditError(f"{source} could not be copied to {into}: {result.said}")

    @contextlib.contextmanager
    def _still_chroma(self, *, counts: bool) -> Iterator[dict[str, int]]:
        """Nobody writes to Chroma, and it does not run; its collections before that, if they are wanted."""
        wait = self.settings.lock_wait
        with self.records.lock(_PAUSE, wait, {"since": stamp(self.now())}), self._no_deployment(wait):
            if counts:
                self.resume()
            writers = self._writers(ReleaseRecords(self.settings.release_directory))
            chroma = {self.settings.chroma_compose_file: [self.settings.chroma_service]}
            self.records.pause({**self.records.paused(), **writers, **chroma})
            try:
                for file, services in writers.items():
                    self.engine.stop(file, services, self.settings.grace)
                counted = vectors.counts(self._chroma_address(self.settings.chroma_project)) if counts else {}
                self.engine.stop(self.settings.chroma_compose_file, [self.settings.chroma_service], 60)
                yield counted
            finally:
                self.resume()

    def _no_deployment(self, wait: float) -> contextlib.AbstractContextManager[int]:
        who = {"action": "backup", "release_id": "Chroma", "actor": "flowaudit-backup", "since": stamp(self.now())}
        return ReleaseRecords(self.settings.release_directory).lock(wait, who)

    def _prove_chroma(self) -> dict[str, int]:
        """The collections of the copy, asked of a Chroma of its own."""
        self.engine.up(self.settings.compose_file, ["chroma"], 300)
        try:
            return vectors.counts(self._chroma_address(self.settings.backup_project))
        finally:
            self.engine.remove(self.settings.compose_file, ["chroma"])

    def _chroma_address(self, project: str) -> str:
        service = self.settings.chroma_service if project == self.settings.chroma_project else "chroma"
        container = self.engine.containers(project, [service]).get(service)
        addresses = [each for each in container.addresses.values() if each] if container else []
        if not addresses:
            raise FlowauditError(f"Chroma does not run in {project}, so it cannot say what it has.")
        return addresses[0]

    # ── The application ──

    def application(self) -> str:
        """The Compose file of the colour that serves; empty where it has no container, as on a bare host."""
        current = ReleaseRecords(self.settings.release_directory).current()
        if current is None:
            return ""
        project = f"{self.settings.project}-{current.colour}"
        file = os.path.join(self.settings.project_directory, project, "compose.yaml")
        found = self.engine.containers(project, self.settings.database_clients)
        return file if found and os.path.exists(file) else ""

    def tell_application(self, *what: str) -> None:
        """Have the application forget, or do again, what no longer fits what was restored.

        Args:
            what: ``database``, or ``vectors`` and the time of the backup.

        Raises:
            FlowauditError: it could not be told.
        """
        file = self.application()
        if file and self.settings.restored_command:
            command = [*self.settings.restored_command, *what]
            said = f"What was restored is back, but {command[0]} of the application failed"
            self.engine.once(file, self.settings.restored_service, command, self.settings.seconds, said)

    # ── Files ──

    def _uploads(self) -> Done:
        return self._save_files("uploads", self.settings.uploads, ())

    def _config(self) -> Done:
        return self._save_files("config", self.settings.config, self.settings.config_exclude)

    def _save_files(self, name: str, paths: Sequence[str], exclude: Sequence[str]) -> Done:
        missing = [path for path in paths if not os.path.exists(path)]
        if missing:
            raise FlowauditError(f"{', '.join(missing)} is not there, so it cannot be saved.")
        saved = self.repository(name).save(name, {}, paths, exclude)
        return Done(saved.size, {"files": saved.files, "added": saved.added})

    # ── Beyond the first target, and whether all of it can be trusted ──

    def _copy(self) -> Done:
        for number in range(1, len(self.settings.targets)):
            for name in REPOSITORIES:
                self.repository(name, number).copy_from(self.repository(name))
        return Done(0, {"targets": [each.name for each in self.settings.targets[1:]]})

    def _check(self) -> Done:
        """Everything is looked at, whatever is found on the way; a quarter of the data a week, all of it in four."""
        problems = []
        part = f"{self.now().isocalendar().week % 4 + 1}/4"
        for repository in self.repositories():
            problems += _told(functools.partial(repository.check, part))
        for each in self.bases():
            inside = f"{_BACKUPS}/base/{each['name']}/pgdata"
            problems += _told(functools.partial(self._verify, "check", inside))
        problems += _told(self._check_wal)
        self.records.prove("check", self.now(), {"part": part, "problems": problems})
        if problems:
            raise FlowauditError(" ".join(problems))
        return Done(0, {"part": part})

    def _check_wal(self) -> None:
        names = self.stream.segments()
        missing = wal.gaps(names)
        if missing:
            raise FlowauditError(f"The write-ahead log on the host lacks {', '.join(missing)}.")
        whole = [name for name in names if os.path.exists(os.path.join(self.stream.directory(), name))]
        if whole:
            self._program(
                "check",
                ["pg_waldump", "--quiet", f"--path={_WAL}/{self.stream.name()}", whole[0], whole[-1]],
                "The write-ahead log on the host cannot be read",
            )

    def _drill(self) -> Done:
        """Everything is restored beside the live system, from the target alone."""
        shown = Drill(self, self._run, self._drill_password_file).make()
        if shown["problems"]:
            raise FlowauditError(" ".join(shown["problems"]))
        return Done(0, {name: value for name, value in shown.items() if name != "problems"})

    # ── Each minute ──

    def tick(self) -> None:
        """Write a heartbeat, start again what a killed copy has left stopped, tell the figures.

        Raises:
            FlowauditError: the heartbeat could not be written, or the receiver does not have it.
        """
        self.records.prepare()
        try:
            self.resume_abandoned()
            self.beat()
        finally:
            self.write_metrics()

    def beat(self, seconds: float = 10) -> None:
        """Write a heartbeat, and note it once the receiver has it.

        Raises:
            FlowauditError: it could not be written, or the receiver does not have it within so many seconds.
        """
        at = self.server.beat()
        if not self.server.received(seconds):
            raise FlowauditError("The receiver of the write-ahead log does not have the last heartbeat.")
        self.records.note(received_at=stamp(at))

    # ── What is told ──

    def status(self) -> dict[str, t.Any]:
        """How old everything is, and what is overdue."""
        now = self.now()
        jobs = {name: self._job_status(name, now) for name in self.names}
        log = self.records.job("wal")
        received = moment(str(self.records.state().get("received_at", "")))
        drills = [values for values in self.records.proofs().values() if values.get("kind") == "drill"]
        return {
            "system": self.settings.system,
            "jobs": jobs,
            "overdue": [name for name, each in jobs.items() if each["overdue"]],
            "rpo_host": _age(received, now),
            "rpo_site": _age(moment(str(log.details.get("received", ""))) or moment(log.succeeded_at), now),
            "gaps": int(self.records.state().get("gaps", 0)),
            "drill": drills[-1] if drills else {},
            "records": self.records.directory,
            "unrecorded": self.records.unrecorded(),
            "targets": [each.name for each in self.settings.targets],
        }

    def _job_status(self, name: str, now: datetime.datetime) -> dict[str, t.Any]:
        record = self.records.job(name)
        age = _age(moment(record.succeeded_at), now)
        due = float(self.settings.due.get(name, 0))
        return {
            "succeeded_at": record.succeeded_at,
            "age": age,
            "due": due,
            # One from the future was made by a clock that was wrong: it says nothing.
            "overdue": bool(due) and (age is None or not -60 <= age <= due),
            "error": record.error,
            "seconds": record.seconds,
            "size": record.size,
        }

    def write_metrics(self) -> None:
        if not self.settings.metrics_file:
            return
        os.makedirs(os.path.dirname(self.settings.metrics_file), mode=0o755, exist_ok=True)
        metrics.write(self.settings.metrics_file, self.status(), self._slot())

    def _slot(self) -> Slot | None:
        with contextlib.suppress(FlowauditError):
            return self.server.slot()
        return None


def _base_facts(manifest: str) -> dict[str, t.Any]:
    """Where a base backup begins and ends in the log, by its manifest (PostgreSQL manual, "Backup Manifest Format")."""
    with open(manifest, encoding="utf-8") as stream:
        ranges = json.load(stream)["WAL-Ranges"]
    first, last = ranges[0], ranges[-1]
    return {
        "timeline": last["Timeline"],
        "start_lsn": first["Start-LSN"],
        "end_lsn": last["End-LSN"],
        "first_segment": wal.segment_of(first["Start-LSN"], first["Timeline"]),
        "last_segment": wal.segment_of(last["End-LSN"], last["Timeline"]),
    }


def _owner(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_uid, found.st_gid


def _told(check: Callable[[], t.Any]) -> list[str]:
    try:
        check()
    except (FlowauditError, OSError) as error:
        return [str(error)]
    return []


def _age(then: datetime.datetime | None, now: datetime.datetime) -> float | None:
    return None if then is None else round((now - then).total_seconds(), 3)
