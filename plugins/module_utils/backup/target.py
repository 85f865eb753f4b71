# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command ``flowaudit-backup-target`` on the machine that keeps the backups.

::

    flowaudit-backup-target serve <system>    what an SSH key of that system runs, whatever it asks for
    flowaudit-backup-target prune <system>    forget what is older than it has to be kept, by this machine's clock
    flowaudit-backup-target forget <system> --since <time> | --id <snapshot> …   by hand, as after an intrusion
    flowaudit-backup-target watch             free space and quotas; exit status 1 when something is short

How old a snapshot is, says the time its file came here (the modification time), never the snapshot: a host that was
taken over can write any time into one. It can also add an index that says of good packs that others have the same in
them, so that pruning takes the good ones for superfluous. So what pruning removes stays for some time, beside the
repository and out of reach of every key, and goes only when this machine has read all that is left and misses nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from .. import webhook
from ..errors import FlowauditError
from ..files import read_file

PATH = "/etc/flowaudit-backup/target.json"
PASSWORDS = "/etc/flowaudit-backup/prune"
_DAY = 86400.0
_ASKED = re.compile(r"serve restic --stdio (?:--\S+ )*(?:[\w.-]+/)?(?P<repository>[a-z]+)")
#: What a repository needs to be written for a restore, too.
_LOCKS = "locks"
#: Repository → the kinds of snapshots it is there for; of the others that of its own name.
_KINDS = {"postgres": ("base", "wal", "dump")}
#: Below the directory of a system: what pruning has removed, by repository and day.
_REMOVED = ".removed"
_STAMP = "%Y%m%dT%H%M%SZ"
#: Days from one time everything is read to the next.
_READ_DAYS = 30


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A snapshot, as this machine knows it: restic's id, what it is of, when it came (Unix time)."""

    snapshot_id: str
    kind: str
    came: float


@dataclasses.dataclass(frozen=True)
class Target:
    """The settings.

    Attributes:
        directory: below it, ``<system>/<repository>``.
        user: the account that owns the repositories.
        keep_days: repository → days its snapshots stay; 0 for ever.
        removed_days: days for which what pruning has removed is kept at least; a month more at most.
        quotas: system → bytes it may have; 0 without a limit.
        free: bytes of the file system that have to be left.
        alarm_url: where shortage is told; empty for nowhere.
    """

    directory: str
    user: str
    keep_days: Mapping[str, float]
    removed_days: float
    quotas: Mapping[str, int]
    free: int
    alarm_url: str = ""

    def repository(self, system: str, name: str) -> str:
        return os.path.join(self.directory, system, name)


def load(path: str) -> Target:
    """Read the settings.

    Raises:
        FlowauditError: there are none, or they are not what this version knows.
    """
    try:
        return Target(**json.loads(read_file(path) or ""))
    except (ValueError, TypeError) as error:
        raise FlowauditError(f"{path} is not what the role backup_target writes ({error}); run it again.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="flowaudit-backup-target", description="Keeps the backups of other hosts.")
    parser.add_argument("--settings", default=PATH)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("serve", "prune", "forget"):
        commands.add_parser(name).add_argument("system")
    which = commands.choices["forget"].add_mutually_exclusive_group(required=True)
    which.add_argument("--since", type=_moment, help="what came here since that time (with its zone)")
    which.add_argument("--id", nargs="+", default=[], help="these snapshots")
    commands.choices["forget"].add_argument(
        "--at-once", action="store_true", help="do not keep what goes for some time"
    )
    commands.add_parser("watch")
    told = parser.parse_args(arguments)
    try:
        target = load(told.settings)
        if told.command == "serve":
            serve(target, told.system, os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        elif told.command == "prune":
            for line in prune(target, told.system, _password(told.system)):
                sys.stdout.write(f"{line}\n")
        elif told.command == "forget":
            password = _password(told.system)
            for line in forget(target, told.system, password, since=told.since, ids=told.id, keep=not told.at_once):
                sys.stdout.write(f"{line}\n")
        else:
            return _watch(target)
    except (FlowauditError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        if told.command == "prune":
            _alarm(told.settings, f"Pruning the backups of {told.system} failed: {error}")
        return 1
    return 0


def _alarm(settings: str, text: str) -> None:
    with contextlib.suppress(FlowauditError):
        url = load(settings).alarm_url
        if url:
            webhook.post(url, {"text": text}, "backup_target_alarm_url")


def _password(system: str) -> str:
    text = read_file(os.path.join(PASSWORDS, system))
    if not text:
        raise FlowauditError(f"There is no password to prune {system} with (backup_target_prune_passwords).")
    return text.strip()


# ── Serve ──


def serve(target: Target, system: str, asked: str) -> t.NoReturn:
    """Become the server of one repository; nothing in it can be removed or overwritten through it.

    Raises:
        FlowauditError: something else is asked for.
    """
    match = _ASKED.fullmatch(asked)
    if match is None or match["repository"] not in target.keep_days:
        raise FlowauditError("This key serves backups, and nothing else.")
    path = target.repository(system, match["repository"])
    os.environ["RCLONE_CONFIG"] = os.devnull
    os.execvp("rclone", ["rclone", "serve", "restic", "--stdio", "--append-only", path])


# ── Prune ──


def prune(target: Target, system: str, password: str) -> list[str]:
    """Forget what has been here longer than it has to be kept; what was done, in lines.

    Raises:
        FlowauditError: a repository cannot be read or pruned, or too much would go.
    """
    said, problems = [], []
    now = datetime.datetime.now(datetime.UTC)
    for name, days in target.keep_days.items():
        path = target.repository(system, name)
        removed = os.path.join(target.directory, system, _REMOVED, name)
        if not days or not os.path.exists(os.path.join(path, "config")):
            continue
        try:
            restic = Restic(path, target.user, password)
            restic.unlock()
            gone = outdated(restic.arrivals(), days)
            for each in os.listdir(removed) if os.path.isdir(removed) else []:
                # A run that was killed has left links to all of it.
                _leave_removed(path, os.path.join(removed, each))
            _let_go(removed, now - datetime.timedelta(days=target.removed_days), restic)
            if gone:
                _remove(path, os.path.join(removed, f"{now:{_STAMP}}"), restic, gone)
                said.append(f"{system}/{name}: {len(gone)} snapshots were kept long enough and are gone.")
        except (FlowauditError, OSError) as error:
            problems.append(f"{system}/{name}: {error}")
    if problems:
        raise FlowauditError(" ".join(problems))
    return said


def forget(
    target: Target, system: str, password: str, *, since: datetime.datetime | None, ids: Sequence[str], keep: bool
) -> list[str]:
    """Forget what came here since a time, whatever time it gives itself, or single snapshots; what was done, in lines.

    Args:
        keep: what goes stays for some time where pruning leaves what it removes, and takes its room there.

    Raises:
        FlowauditError: a repository cannot be read, or nothing of what it is there for would be left.
    """
    said, problems = [], []
    now = datetime.datetime.now(datetime.UTC)
    for name in target.keep_days:
        path = target.repository(system, name)
        if not os.path.exists(os.path.join(path, "config")):
            continue
        restic = Restic(path, target.user, password)
        restic.unlock()
        arrivals = restic.arrivals()
        gone = [each for each in arrivals if _is_chosen(each, since, ids)]
        if not gone:
            continue
        left = {each.kind for each in arrivals if each not in gone}
        lost = sorted({each.kind for each in gone}.intersection(_KINDS.get(name, (name,))) - left)
        if lost:
            problems.append(f"{system}/{name} would have nothing of the kind {', '.join(lost)} left: not forgotten.")
            continue
        removed = os.path.join(target.directory, system, _REMOVED, name, f"{now:{_STAMP}}")
        _remove(path, removed if keep else "", restic, [each.snapshot_id for each in gone])
        said += [f"{system}/{name}: {each.kind} {each.snapshot_id} is gone." for each in gone]
    if problems:
        raise FlowauditError(" ".join([*problems, *said]))
    return said or [f"{system} has nothing of that; nothing was forgotten."]


def _is_chosen(arrival: Arrival, since: datetime.datetime | None, ids: Sequence[str]) -> bool:
    if since is not None:
        return arrival.came >= since.timestamp()
    return any(arrival.snapshot_id.startswith(each) for each in ids)


def _moment(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("without a zone")
    return found


def _remove(repository: str, removed: str, restic: Restic, snapshots: Sequence[str]) -> None:
    # One that is closed could not be pruned either.
    _close(repository, closed=False)
    with _kept(repository, removed) if removed else contextlib.nullcontext():
        restic.forget(snapshots)


@contextlib.contextmanager
def _kept(repository: str, place: str) -> Iterator[None]:
    """Have what is removed from a repository meanwhile in ``place``; files there have the names of their content."""
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    shutil.copytree(repository, place, copy_function=os.link, ignore=shutil.ignore_patterns(_LOCKS))
    try:
        yield
    finally:
        _leave_removed(repository, place)


def _leave_removed(repository: str, place: str) -> None:
    """Leave in ``place`` what the repository does not have any more."""
    for directory, _names, files in os.walk(place, topdown=False):
        beside = os.path.join(repository, os.path.relpath(directory, place))
        for name in files:
            if os.path.exists(os.path.join(beside, name)):
                os.remove(os.path.join(directory, name))
        with contextlib.suppress(OSError):
            os.rmdir(directory)  # unless something stays in it


def _let_go(removed: str, before: datetime.datetime, restic: Restic) -> None:
    """Delete what was removed before a time, once a month and only if nothing is missing without it.

    Raises:
        FlowauditError: something is missing or damaged; all of it stays.
    """
    found = sorted(os.listdir(removed)) if os.path.isdir(removed) else []
    old = [name for name in found if name < f"{before:{_STAMP}}"]
    if old and old[0] < f"{before - datetime.timedelta(days=_READ_DAYS):{_STAMP}}":
        restic.check()
        for name in old:
            shutil.rmtree(os.path.join(removed, name))


def outdated(arrivals: Sequence[Arrival], days: float) -> list[str]:
    """The ids of the snapshots that came more than so many days before the newest of their kind.

    Before the newest, not before now: where nothing comes any more, nothing goes.

    Raises:
        FlowauditError: more than half of a kind would go, as when a clock was wrong.
    """
    gone = []
    for kind in sorted({each.kind for each in arrivals}):
        of_kind = [each for each in arrivals if each.kind == kind]
        newest = max(each.came for each in of_kind)
        old = [each.snapshot_id for each in of_kind if each.came < newest - days * _DAY]
        if len(old) * 2 > len(of_kind):
            raise FlowauditError(
                f"{len(old)} of {len(of_kind)} snapshots of the kind {kind} would go at once, so nothing does: look "
                "whether this machine's clock was wrong, and forget them by hand if it was not."
            )
        gone += old
    return gone


class Restic:
    """One repository, on this machine's own disk, as the account that owns it.

    The password is in root's file and reaches restic by its environment: the account that others log in to by SSH has
    no file to read it from.
    """

    def __init__(self, path: str, user: str, password: str) -> None:
        self._path = path
        self._user = user
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "RESTIC_PASSWORD": password,
        }

    def arrivals(self) -> list[Arrival]:
        found = []
        for told in json.loads(self._run(["snapshots", "--json"])) or []:
            came = os.stat(os.path.join(self._path, "snapshots", told["id"])).st_mtime
            found.append(Arrival(told["id"], (told.get("tags") or [""])[0], came))
        return found

    def unlock(self) -> None:
        """Remove the locks that killed runs have left."""
        self._run(["unlock"])

    def forget(self, snapshots: Sequence[str]) -> None:
        """Forget snapshots, and remove what nothing else needs.

        Raises:
            FlowauditError: it could not be done.
        """
        self._run(["forget", "--prune", *snapshots])

    def check(self) -> None:
        """Read all of it.

        Raises:
            FlowauditError: something is missing or damaged.
        """
        # Without a lock: what is added meanwhile need not wait for hours.
        self._run(["check", "--no-lock", "--read-data"])

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            ["restic", "--repo", self._path, "--retry-lock", "30m", "--no-cache", *command],
            user=self._user,
            group=self._user,
            extra_groups=[],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise FlowauditError(" / ".join((done.stderr or done.stdout).strip().splitlines()[-2:]))
        return done.stdout


# ── Watch ──


def _watch(target: Target) -> int:
    short = shortages(target)
    for line in short:
        sys.stderr.write(f"{line}\n")
    if short and target.alarm_url:
        webhook.post(target.alarm_url, {"text": "\n".join(short)}, "backup_target_alarm_url")
    return 1 if short else 0


def shortages(target: Target) -> list[str]:
    """What is short, in sentences. A system beyond its quota cannot add any more, until it is below it again."""
    said = []
    free = shutil.disk_usage(target.directory).free
    if free < target.free:
        said.append(f"{target.directory} has {_gigabytes(free)} GB left, {_gigabytes(target.free)} GB are wanted.")
    for system, quota in target.quotas.items():
        path = os.path.join(target.directory, system)
        used = _used(path)
        beyond = bool(quota) and used > quota
        if beyond:
            said.append(
                f"{system} has {_gigabytes(used)} GB of backups, {_gigabytes(quota)} GB are its quota: it is closed."
            )
        for name in target.keep_days:
            _close(os.path.join(path, name), closed=beyond)
    return said


def _close(repository: str, *, closed: bool) -> None:
    """Let nothing be added to a repository, or let it again; it can be read in any case."""
    for directory, names, _files in os.walk(repository):
        if directory == repository:
            names[:] = [name for name in names if name != _LOCKS]
            continue
        mode = os.stat(directory).st_mode & 0o7777
        wanted = mode & ~0o222 if closed else mode | 0o200
        if mode != wanted:
            os.chmod(directory, wanted)


def _used(path: str) -> int:
    used = {}
    for directory, _names, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # a lock comes and goes
                found = os.lstat(os.path.join(directory, name))
                # While it is pruned, a file has two names.
                used[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(used.values())


def _gigabytes(number: float) -> str:
    return f"{number / 2**30:.1f}"
