# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host with backups: its programs are made up, its files are real. A program can fail, or a run be killed in it."""

from __future__ import annotations

import datetime
import json
import pathlib
import shutil
import typing as t
from collections.abc import Mapping, Sequence

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.backup import jobs as jobs_module
from ansible_collections.flowaudit.ops.plugins.module_utils.backup import settings, vectors
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.jobs import Jobs
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.settings import Settings, Target
from ansible_collections.flowaudit.ops.plugins.module_utils.engine import Result
from ansible_collections.flowaudit.ops.plugins.module_utils.release import records as release_records

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
SYSTEM = "7000000000000000001"
SEGMENT = "00000001000000000000000{}"


class Killed(BaseException):
    """SIGKILL: nothing of ours runs any more."""


class Host:
    """What the jobs meet.

    Attributes:
        snapshots: repository → what it holds, as restic tells it.
        broken: part of a command → what it says when it fails.
        killed: part of a command in which the run is killed.
        ran: every command.
        slot: the replication slot's status and whether the receiver is connected; None without a slot.
        chroma: collection → vectors, of the Chroma that runs.
        running: services by Compose file.
        stopped: those that have a container and do not run.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.snapshots: dict[str, list[dict[str, t.Any]]] = {name: [] for name in settings.REPOSITORIES}
        self.broken: dict[str, str] = {}
        self.killed = ""
        self.ran: list[str] = []
        self.slot: tuple[str, bool] | None = ("reserved", True)
        self.server = True
        self.received = True
        self.in_server: set[str] = set()
        self.chroma = {"default_database/documents": 5}
        self.copied: dict[str, int] | None = None
        self.running: dict[str, set[str]] = {}
        self.stopped: dict[str, set[str]] = {}
        self.volume = "flowaudit_pgdata_1"
        self.volumes = {self.volume}
        self.recovery_says: list[Result] = []
        self.rows = {"public.documents": 3}
        self.clock = NOON
        #: Seconds that pass whenever somebody looks at it.
        self.ticks = 0.0
        # The directory of the records is missing, as on a fresh host.
        for name in ("wal", "base", "dump", "staging", "uploads", "chroma", "release/releases", "blue"):
            (directory / name).mkdir(parents=True)
        (directory / "uploads" / "a").write_text("a")
        (directory / "blue").rmdir()
        (directory / "projects" / "flowaudit-blue").mkdir(parents=True)
        (directory / "projects" / "flowaudit-blue" / "compose.yaml").write_text("blue")
        (directory / "stack.yaml").write_text("volumes: {flowaudit_pgdata_1: {external: true}}\n")
        (directory / "switch").mkdir()
        (directory / "switch" / "switch.yml").write_text("before")
        (directory / "release" / "current").write_text('{"release_id": "1.0.0", "colour": "blue"}')
        self.running[str(self.blue)] = {"backend", "worker"}
        self.running[str(directory / "stack.yaml")] = {"db", "chroma"}

    @property
    def blue(self) -> pathlib.Path:
        return self.directory / "projects" / "flowaudit-blue" / "compose.yaml"

    def settings(self, **more: t.Any) -> Settings:
        at = str(self.directory)
        values: dict[str, t.Any] = {
            "system": "nuc1",
            "targets": [Target("nas")],
            "state_directory": f"{at}/state",
            "secrets_directory": f"{at}/secrets",
            "cache_directory": f"{at}/cache",
            "connect_program": "/connect",
            "metrics_file": f"{at}/metrics/backup.prom",
            "backup_project": "flowaudit-backup",
            "compose_file": f"{at}/backup.yaml",
            "database_container": "flowaudit-db-1",
            "databases": ["flowaudit"],
            "heartbeat_database": "postgres",
            "wal_directory": f"{at}/wal",
            "database_directory": at,
            "dump_days": 30,
            "wal_hours": 48,
            "database_project": "flowaudit",
            "database_compose_file": f"{at}/stack.yaml",
            "database_service": "db",
            "database_image": "postgres@sha256:0",
            "database_user": 0,
            "database_memory": "1G",
            "database_clients": ["backend", "worker"],
            "volume_prefix": "flowaudit_pgdata_",
            "volume_file": f"{at}/database_volume",
            "engine_directory": at,
            "restore_directory": f"{at}/restore",
            "switch_file": f"{at}/switch/switch.yml",
            "public": {"backend": 8000},
            "chroma_project": "flowaudit",
            "chroma_compose_file": f"{at}/stack.yaml",
            "chroma_service": "chroma",
            "chroma_directory": f"{at}/chroma",
            "chroma_staging": f"{at}/staging",
            "release_directory": f"{at}/release",
            "project_directory": f"{at}/projects",
            "project": "flowaudit",
            "pause_services": ["worker"],
            "grace": 1,
            "restored_service": "worker",
            "restored_command": ["restored"],
            "uploads": [f"{at}/uploads"],
            "config": [f"{at}/release"],
            "config_exclude": ["*.lock"],
            "due": {"wal": 900, "base": 108000},
            "seconds": 5,
            "lock_wait": 0,
        }
        return Settings(**{**values, **more})

    def jobs(self, **more: t.Any) -> Jobs:
        return Jobs(self.settings(**more), self.run, self._now)

    def _now(self) -> datetime.datetime:
        self.passes(self.ticks)
        return self.clock

    def passes(self, seconds: float) -> None:
        self.clock += datetime.timedelta(seconds=seconds)

    def line(self) -> pathlib.Path:
        return self.directory / "wal" / (self.directory / "wal" / "stream").read_text().strip()

    def write_segments(self, *numbers: int, partial: bool = True) -> None:
        self.line().mkdir(parents=True, exist_ok=True)
        for number in numbers:
            end = ".partial" if partial and number == numbers[-1] else ""
            (self.line() / (SEGMENT.format(number) + end)).write_text("log")

    # ── Programs ──

    def run(self, command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> Result:
        words = list(command)
        text = " ".join(words)
        self.ran.append(text)
        if self.killed and self.killed in text:
            self.killed = ""
            raise Killed
        for part, said in self.broken.items():
            if part in text:
                return Result(1, "", said)
        if words[0] == "restic":
            return self._restic(words)
        if words[0] == "cp":
            shutil.copytree(words[-2], words[-1])
        if words[0] in ("rsync", "cp"):
            return Result(0, ">f+++++++++ a\n*deleting   b\n" if "--itemize-changes" in words else "", "")
        return self._docker(words, text)

    def _restic(self, words: list[str]) -> Result:
        name = words[words.index("--repo") + 1].rpartition("/")[2]
        held = self.snapshots[name]
        rest = words[words.index("rclone.args=serve restic --stdio") + 1 :]
        if rest[0] == "backup":
            paths = rest[rest.index("--") + 1 :]
            count = sum(1 for path in paths for each in pathlib.Path(path).rglob("*") if each.is_file())
            held.append(
                {
                    "id": f"{name}{len(held)}",
                    "hostname": rest[rest.index("--host") + 1],
                    "time": self.clock.isoformat(),
                    "tags": rest[rest.index("--tag") + 1].split(","),
                    "paths": paths,
                    "summary": {"total_bytes_processed": 10, "total_files_processed": count},
                }
            )
            told = {"snapshot_id": held[-1]["id"], "total_files_processed": count}
            told |= {"total_bytes_processed": 10, "data_added": 4, "message_type": "summary"}
            return Result(0, json.dumps(told), "")
        if rest[0] == "snapshots":
            return Result(0, json.dumps(held), "")
        if rest[0] == "restore":
            self._restore(rest, held)
        if rest[0] == "dump":
            return Result(0, pathlib.Path(rest[2]).read_text(), "")
        return Result(0, "", "")

    def _restore(self, rest: list[str], held: list[dict[str, t.Any]]) -> None:
        snapshot, _colon, below = rest[1].partition(":")
        into = pathlib.Path(rest[rest.index("--target") + 1])
        into.mkdir(parents=True, exist_ok=True)
        paths = next(each["paths"] for each in held if each["id"] == snapshot)
        only = next((word.removeprefix("--include=/") for word in rest if word.startswith("--include=")), "")
        for path in map(pathlib.Path, paths):
            for file in [each for each in path.rglob("*") if each.is_file()]:
                if not file.is_relative_to(below):
                    continue
                inside = file.relative_to(below)
                if not only or inside.parts[0] == only:
                    (into / inside).parent.mkdir(parents=True, exist_ok=True)
                    (into / inside).write_text(file.read_text())

    def _docker(self, words: list[str], text: str) -> Result:
        if "psql" in words:
            return self._psql(words)
        if words[1:3] == ["compose", "--progress"]:
            return self._compose(words[words.index("--file") + 1], words[words.index("--file") + 2 :])
        if words[1:3] == ["container", "inspect"]:
            return self._inspect(words[3:])
        if words[1:3] == ["volume", "create"]:
            self.volumes.add(words[3])
            (self.directory / "volumes" / words[3]).mkdir(parents=True, exist_ok=True)
        if words[1:3] == ["volume", "rm"]:
            if words[-1] == self.volume:
                return Result(1, "", "volume is in use")
            self.volumes.discard(words[-1])
            shutil.rmtree(self.directory / "volumes" / words[-1], ignore_errors=True)
        if words[1:3] == ["volume", "inspect"]:
            there = words[-1] in self.volumes
            return Result(
                0 if there else 1, str(self.directory / "volumes" / words[-1]), "" if there else "no such volume"
            )
        if words[1] == "inspect":
            if "State.Running" in text:
                return self.recovery_says.pop(0) if self.recovery_says else Result(0, "true", "")
            return Result(0, f"{self.volume}\n", "")
        return Result(0, "", "")

    def _psql(self, words: list[str]) -> Result:
        recovery = words[2].endswith("-recovery")
        if not self.server and not recovery:
            return Result(2, "", "could not connect")
        question = words[-1].removeprefix("--command=")
        status, active = self.slot or ("", False)
        answers: list[tuple[str, str]] = [
            ("pg_is_in_recovery", "f"),
            ("pg_control_system", SYSTEM),
            ("wal_status", f"{status},{'t' if active else 'f'},0,1000" if self.slot else ""),
            ("pg_ls_waldir", "1" if any(name in question for name in self.in_server) else ""),
            ("pg_current_wal_flush_lsn()", "0/3000028"),
            ("pg_stat_replication", "1" if self.received else "0"),
            ("to_regclass", "flowaudit_heartbeat"),
            ("extract(epoch FROM at)", str(self.clock.timestamp())),
            ("datallowconn", "flowaudit"),
            ("pg_extension", ""),
            ("relkind", "\n".join(self.rows)),
            ("count(*) FROM public", "\n".join(f"{name},{count}" for name, count in self.rows.items())),
        ]
        if "pg_drop_replication_slot" in question:
            self.slot = None
        return Result(0, next((answer for part, answer in answers if part in question), ""), "")

    def _compose(self, file: str, rest: list[str]) -> Result:
        services = self.running.setdefault(file, set())
        named = [word for word in rest[1:] if not word.startswith("-") and not word.isdigit()]
        stopped = self.stopped.setdefault(file, set())
        if rest[0] == "up":
            services |= set(named)
            stopped -= set(named)
            if "receiver" in named:
                self.slot = ("reserved", True)
                self.write_segments(2)
            if "db" in named:
                self.volume = next(name for name in self.volumes if name in pathlib.Path(file).read_text())
                self.server = True
        if rest[0] == "stop":
            stopped |= services & set(named)
        if rest[0] == "rm":
            stopped -= set(named)
        if rest[0] in ("stop", "rm"):
            services -= set(named)
        if rest[0] == "run":
            self._once(rest)
        return Result(0, "", "")

    def _once(self, rest: list[str]) -> None:
        pgdata = next((word.partition("=")[2] for word in rest if word.startswith("--pgdata=/backups")), "")
        if pgdata:
            place = self.directory / pathlib.Path(pgdata).relative_to("/backups")
            place.mkdir(parents=True)
            ranges = [{"Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100"}]
            (place / "backup_manifest").write_text(json.dumps({"WAL-Ranges": ranges}))
        file = next((word.partition("=")[2] for word in rest if word.startswith("--file=/backups")), "")
        if file:
            (self.directory / pathlib.Path(file).relative_to("/backups")).write_text("dump")

    def _inspect(self, names: list[str]) -> Result:
        found = []
        for file, services in self.running.items():
            project = {str(self.blue): "flowaudit-blue", f"{self.directory}/stack.yaml": "flowaudit"}.get(
                file, "flowaudit-backup"
            )
            for service in services | self.stopped.get(file, set()):
                name = f"{project}-{service}-1"
                if name in names:
                    told: dict[str, t.Any] = {"Name": f"/{name}", "Config": {"Image": "x"}}
                    told["State"] = {"Status": "exited"}
                    if service in services:
                        told["State"] = {"Status": "running", "Health": {"Status": "healthy"}}
                    told["NetworkSettings"] = {"Networks": {"n": {"IPAddress": project}}}
                    found.append(told)
        return Result(0, json.dumps(found), "")

    def counts(self, address: str) -> dict[str, int]:
        if address == "flowaudit-backup" and self.copied is not None:
            return self.copied
        return dict(self.chroma)


def fake_host(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose log is followed, with two segments of it."""
    host = Host(directory)
    monkeypatch.setattr(vectors, "counts", host.counts)
    monkeypatch.setattr(release_records.os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(jobs_module.time, "sleep", lambda seconds: None)
    host.jobs().follow()
    host.write_segments(2, 3)
    return host
