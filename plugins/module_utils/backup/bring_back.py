# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files and vectors brought back. What is there now is kept beside, so that a restore can itself be taken back."""

from __future__ import annotations

import dataclasses
import os
import shutil

from ..errors import FlowauditError
from . import choice
from .drill import latest
from .jobs import Jobs
from .records import stamp
from .restic import Repository, Runner, Snapshot

#: rsync's letters for a file that is sent and for one that is removed (rsync(1), --itemize-changes).
_SENT, _REMOVED = (">f", "cL"), "*deleting"


@dataclasses.dataclass
class Outcome:
    """What was brought back.

    Attributes:
        taken_at: when the backup was taken (RFC 3339, UTC).
        kept: directory with what is there no more; empty for none.
        files: the files that were written, below the path.
        removed: the files that were removed, with ``exact``.
        vectors: collection → vectors.
    """

    taken_at: str = ""
    kept: str = ""
    files: list[str] = dataclasses.field(default_factory=list)
    removed: list[str] = dataclasses.field(default_factory=list)
    vectors: dict[str, int] = dataclasses.field(default_factory=dict)


def files(jobs: Jobs, run: Runner, path: str, time: str, *, exact: bool, predict: bool) -> Outcome:
    """Bring a file or directory back to how it was.

    Args:
        path: what is wanted, below one of the directories that are saved.
        time: ``latest`` or a time with its zone.
        exact: also remove what was not there then.
        predict: only say what would be done.

    Raises:
        FlowauditError: it was not; what is there is as it was, or a part of the files is back already.
    """
    goal = choice.goal(time)
    if goal.point:
        raise FlowauditError(f"'{time}' is a restore point of the database; files need a time, or latest.")
    path = os.path.normpath(path)
    repository, kind = _holder(jobs, path)
    workspace = os.path.join(jobs.settings.restore_directory, f"files-{jobs.now():%Y%m%dT%H%M%SZ}")
    with jobs.records.lock("restore_files", jobs.settings.lock_wait, {"since": stamp(jobs.now())}):
        snapshot = latest(repository, kind, goal.time)
        outcome = Outcome(taken_at=stamp(snapshot.time))
        _clear(jobs.settings.restore_directory)
        try:
            is_directory = _fetch(repository, snapshot, path, workspace)
            kept = os.path.join(jobs.settings.restore_directory, f"kept-{os.path.basename(workspace)}")
            command = ["rsync", "--archive", "--checksum", "--itemize-changes", "--mkpath"]
            command += ["--backup", f"--backup-dir={kept}"]
            command += ["--delete"] if exact and is_directory else []
            command += ["--dry-run"] if predict else []
            end = "/" if is_directory else ""
            done = run(
                [*command, "--", os.path.join(workspace, os.path.basename(path)) + end, path + end],
                jobs.settings.seconds,
                {},
            )
            if done.status != 0:
                raise FlowauditError(f"{path} could not be written: {done.said}")
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
    _note(outcome, done.output)
    outcome.kept = kept if os.path.isdir(kept) else ""
    return outcome


def vectors(jobs: Jobs, time: str, *, predict: bool) -> Outcome:
    """Bring Chroma back to how it was, once the copy has been proved, and have newer documents indexed again.

    Raises:
        FlowauditError: it was not; Chroma serves what it had.
    """
    if not jobs.settings.chroma_service:
        raise FlowauditError("This system has no Chroma (backup_chroma_service).")
    goal = choice.goal(time)
    if goal.point:
        raise FlowauditError(f"'{time}' is a restore point of the database; vectors need a time, or latest.")
    repository = jobs.repository("chroma")
    snapshot = latest(repository, "chroma", goal.time)
    outcome = Outcome(taken_at=stamp(snapshot.time))
    if predict:
        return outcome
    outcome.vectors, outcome.kept = jobs.restore_chroma(repository, snapshot)
    jobs.tell_application("vectors", outcome.taken_at)
    return outcome


def _holder(jobs: Jobs, path: str) -> tuple[Repository, str]:
    """The repository that has a path, and the kind of its snapshots."""
    for name, roots in (("uploads", jobs.settings.uploads), ("config", jobs.settings.config)):
        if any(path == root or path.startswith(f"{root}/") for root in roots):
            return jobs.repository(name), name
    saved = ", ".join([*jobs.settings.uploads, *jobs.settings.config])
    raise FlowauditError(f"restore_path {path} is not among what is saved: {saved}.")


def _fetch(repository: Repository, snapshot: Snapshot, path: str, workspace: str) -> bool:
    """Bring it into the workspace, under its own name; whether it is a directory."""
    os.makedirs(workspace, mode=0o700)
    above, name = os.path.split(path)
    try:
        repository.restore(snapshot, above, workspace, include=name)
    except FlowauditError as error:
        raise FlowauditError(f"The backup of {stamp(snapshot.time)} does not have {path}: {error}") from error
    found = os.path.join(workspace, name)
    if not os.path.lexists(found):
        raise FlowauditError(f"The backup of {stamp(snapshot.time)} does not have {path}; choose another restore_time.")
    return os.path.isdir(found) and not os.path.islink(found)


def _clear(directory: str) -> None:
    """Remove the workspaces of runs that were killed."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    for name in os.listdir(directory):
        if name.startswith("files-"):
            shutil.rmtree(os.path.join(directory, name))


def _note(outcome: Outcome, itemized: str) -> None:
    for line in itemized.splitlines():
        what, _space, name = line.partition(" ")
        if what.startswith(_SENT):
            outcome.files.append(name.strip())
        elif what == _REMOVED:
            outcome.removed.append(name.strip())
