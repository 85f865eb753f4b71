# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Repositories on a target that lets this host add and nothing else: restic over SSH, through rclone on the other side.

The target's key runs one command whatever is asked for, ``rclone serve restic --stdio --append-only`` (rclone manual,
"rclone serve restic"; restic manual, "Other Services via rclone").
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import typing as t
from collections.abc import Mapping, Sequence

from ..engine import Result
from ..errors import FlowauditError
from .settings import Settings, Target

#: restic's exit statuses (restic manual, "Scripting").
_INCOMPLETE, _NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD = 3, 10, 11, 12
#: Of ``timeout``
_TOO_LONG = 124
_LOCK_WAIT = "5m"
#: Seconds for what reads or writes a few small files, once it has the lock.
_SHORT = 600.0

#: Runs a program: its arguments, seconds until it is ended, environment to add → its result.
Runner = t.Callable[[Sequence[str], float, Mapping[str, str]], Result]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a repository holds of one moment.

    Attributes:
        snapshot_id: restic's.
        time: when it was begun (UTC).
        kind: what it is of, such as base or wal.
        labels: what else it says of itself.
        paths: what was saved.
        size: its bytes.
        files: how many files it has.
    """

    snapshot_id: str
    time: datetime.datetime
    kind: str
    labels: Mapping[str, str]
    paths: Sequence[str]
    size: int = 0
    files: int = 0


@dataclasses.dataclass(frozen=True)
class Saved:
    """A snapshot that was made.

    Attributes:
        snapshot_id: restic's.
        files: how many files it has.
        size: their bytes.
        added: bytes that the repository grew by.
    """

    snapshot_id: str
    files: int
    size: int
    added: int


class Repository:
    """One repository on one target."""

    def __init__(self, run: Runner, settings: Settings, target: Target, name: str, *, password_file: str = "") -> None:
        self._run = run
        self._settings = settings
        self.target = target
        self.name = name
        self._password_file = password_file or os.path.join(settings.secrets_directory, "password")

    def __str__(self) -> str:
        return f"{self.name} on {self.target.name}"

    # ── Set up ──

    def key_names(self) -> list[str] | None:
        """Whom its keys belong to; None when there is no repository.

        Raises:
            FlowauditError: the target cannot be reached, or the password is another.
        """
        result = self._read(["key", "list", "--json"], _SHORT)
        if result.status == _NO_REPOSITORY:
            return None
        self._require(result, "cannot be opened")
        return [each["userName"] for each in json.loads(result.output)]

    def create(self, like: Repository | None = None) -> None:
        """Make it; in the form of another one, so that copies between them share what is the same."""
        more = ["--from-repo", like.address, *like.secret("from-"), "--copy-chunker-params"] if like else []
        self._require(self._restic(["init", *more], _SHORT), "cannot be made")

    def add_key(self, password_file: str, name: str) -> None:
        """Let another password open it, too."""
        command = ["key", "add", "--new-password-file", password_file, "--user", name, "--host", self._settings.system]
        self._require(self._restic(command, _SHORT), "takes no other key")

    # ── Save ──

    def save(self, kind: str, labels: Mapping[str, str], paths: Sequence[str], exclude: Sequence[str] = ()) -> Saved:
        """Add what is at these paths.

        Raises:
            FlowauditError: it is not there, as a whole.
        """
        tags = ",".join([kind, *(f"{name}={value}" for name, value in labels.items())])
        command = ["backup", "--json", "--host", self._settings.system, "--tag", tags]
        command += [f"--exclude={each}" for each in exclude]
        result = self._restic([*command, "--", *paths], self._settings.seconds)
        if result.status == _LOCKED:
            # By a run that was killed: restic removes such locks only when told to.
            self._restic(["unlock"], _SHORT)
            result = self._restic([*command, "--", *paths], self._settings.seconds)
        if result.status == _INCOMPLETE:
            # A file that went while it was being read.
            result = self._restic([*command, "--", *paths], self._settings.seconds)
        self._require(result, "did not take the backup")
        return _summary(result.output, str(self))

    def copy_from(self, other: Repository) -> None:
        """Add all snapshots of another repository that are not here yet."""
        command = ["copy", "--from-repo", other.address, *other.secret("from-")]
        self._require(self._restic(command, self._settings.seconds), f"did not take the copy of {other}")

    # ── Read ──

    def snapshots(self) -> list[Snapshot]:
        """All snapshots of this system, the oldest first.

        Raises:
            FlowauditError: the repository belongs to another system.
        """
        told = json.loads(self._asked(["snapshots", "--json"])) or []
        own = [each for each in told if each["hostname"] == self._settings.system]
        others = sorted({each["hostname"] for each in told} - {self._settings.system})
        # A single one of another name among ours must not keep us from ours.
        if others and not own:
            raise FlowauditError(
                f"The repository {self} holds backups of {', '.join(others)}, not of {self._settings.system} alone; "
                "every system needs repositories of its own (backup_system)."
            )
        return sorted((_snapshot(each) for each in own), key=lambda each: each.time)

    def restore(
        self, snapshot: Snapshot, directory: str, into: str, *, include: str = "", verify: bool = False
    ) -> None:
        """Bring a directory of a snapshot back, its files straight below ``into``.

        Args:
            snapshot: the snapshot.
            directory: the directory in it.
            into: the directory on this host.
            include: only what has this name there.
            verify: read all of it again afterwards.

        Raises:
            FlowauditError: it did not come back as a whole.
        """
        command = ["restore", f"{snapshot.snapshot_id}:{directory}", "--target", into, "--overwrite", "if-changed"]
        command += [f"--include=/{_literal(include)}"] if include else []
        command += ["--verify"] if verify else []
        self._require(self._read(command, self._settings.seconds), "did not give the backup back")

    def read(self, snapshot: Snapshot, path: str) -> str:
        """The text of one file of a snapshot."""
        return self._asked(["dump", snapshot.snapshot_id, path])

    def check(self, part: str) -> None:
        """Read a part of its data, such as ``1/4``, and its structure.

        Raises:
            FlowauditError: something is missing or damaged.
        """
        # Without a lock: what others add meanwhile is no damage, and they need not wait for hours.
        command = ["check", "--no-lock", f"--read-data-subset={part}"]
        self._require(self._restic(command, self._settings.seconds), "is damaged")

    # ── The command line ──

    @property
    def address(self) -> str:
        return f"rclone:{self.target.name}/{self.name}"

    def secret(self, prefix: str = "") -> list[str]:
        return [f"--{prefix}password-file", self._password_file]

    def _asked(self, command: Sequence[str]) -> str:
        result = self._read(command, _SHORT)
        self._require(result, "cannot be read")
        return result.output

    def _read(self, command: Sequence[str], seconds: float) -> Result:
        """Read with a lock, which keeps the pruning away; without one from a target that has no room for it."""
        result = self._restic(command, seconds)
        if result.status in (0, _NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD, _TOO_LONG):
            return result
        again = self._restic([*command, "--no-lock"], seconds)
        return again if again.status == 0 else result

    def _restic(self, command: Sequence[str], seconds: float) -> Result:
        words = [
            *("restic", "--repo", self.address, *self.secret(), "--retry-lock", _LOCK_WAIT),
            *("--cache-dir", self._settings.cache_directory, "--cleanup-cache"),
            # It finds the target in the address: two of them may be asked at once.
            *("-o", f"rclone.program={self._settings.connect_program}", "-o", "rclone.args=serve restic --stdio"),
        ]
        # Lines of progress are no news, and would be the last ones when it fails.
        return self._run([*words, *command], seconds, {"RESTIC_PROGRESS_FPS": "0.01"})

    def _require(self, result: Result, what: str) -> None:
        if result.status == 0:
            return
        reasons = {
            _NO_REPOSITORY: "there is none; run the playbook flowaudit.ops.site, which makes it",
            _LOCKED: "somebody else has it locked, such as the pruning of the target; try again later",
            _WRONG_PASSWORD: "the password is another one (backup_secrets.repository_password)",
        }
        raise FlowauditError(f"The repository {self} {what}: {reasons.get(result.status) or reason(result)}.")


def reason(result: Result) -> str:
    """What restic says of a failure: the message of its last line in JSON, or its last lines."""
    for line in reversed([*result.output.splitlines(), *result.errors.splitlines()]):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            told = json.loads(line)
            if told["message_type"] in ("exit_error", "error"):
                return str(told.get("message") or told["error"]["message"]).strip().rstrip(".")
    return result.said.rstrip(".")


def _literal(name: str) -> str:
    """A name as a pattern that means nothing else (restic manual, "Excluding Files")."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", name)


def _summary(output: str, repository: str) -> Saved:
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            if told.get("message_type") == "summary":
                return Saved(
                    str(told["snapshot_id"]),
                    int(told["total_files_processed"]),
                    int(told["total_bytes_processed"]),
                    int(told["data_added"]),
                )
    raise FlowauditError(f"The repository {repository} does not say what it has taken; nothing is proved by that.")


def _snapshot(told: Mapping[str, t.Any]) -> Snapshot:
    tags = list(told.get("tags") or [""])
    labels = dict(each.split("=", 1) for each in tags[1:] if "=" in each)
    time = datetime.datetime.fromisoformat(told["time"]).astimezone(datetime.UTC)
    summary = told.get("summary") or {}
    size, files = (int(summary.get(f"total_{what}_processed", 0)) for what in ("bytes", "files"))
    return Snapshot(told["id"], time, tags[0], labels, list(told["paths"]), size, files)
