# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host knows of its releases, and who may change it: records, a journal, a lock.

::

    /var/lib/flowaudit/current              the release that serves: {"release_id": …, "colour": …}
    /var/lib/flowaudit/previous             the one that was deployed before it
    /var/lib/flowaudit/releases/<id>.json   its record
    /var/lib/flowaudit/release.journal      the deployment under way, and the step it is at
    /var/lib/flowaudit/release.lock         who is at it
    /var/lib/flowaudit/release.warm         the colour that is kept running for a while, and until when
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import typing as t
from collections.abc import Mapping

from ..errors import FlowauditError
from ..files import Lock, read_file, write_file, write_json
from . import manifest
from .manifest import Manifest


@dataclasses.dataclass(frozen=True)
class Pointer:
    """A release and the colour it has."""

    release_id: str
    colour: str


@dataclasses.dataclass(frozen=True)
class Journal:
    """A change of release that has begun and not ended.

    Attributes:
        action: deploy or rollback.
        origin: the release that served when it began, and its colour.
        target: the release that is to serve, and its colour.
        step: the furthest step it has begun.
        actor: who began it.
        started_at: when (RFC 3339, UTC).
        schema_before: the database's revision when it began, empty as long as it has not been asked for.
        migration_class: the worst class on the way.
        restore_point: PostgreSQL's restore point before the migrations.
        interrupts: whether the releases cannot serve side by side, so that the schema has to go back, too.
    """

    action: str
    origin: Pointer
    target: Pointer
    step: str
    actor: str
    started_at: str
    schema_before: str = ""
    migration_class: str = "none"
    restore_point: str = ""
    interrupts: bool = False

    def describe(self) -> str:
        return (
            f"{self.action} of {self.target.release_id} by {self.actor}, since {self.started_at}, at step {self.step}"
        )


class Records:
    """The records below one directory. Every file is replaced as a whole, and is on the disk before that."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.releases = os.path.join(directory, "releases")

    def prepare(self) -> None:
        os.makedirs(self.releases, mode=0o755, exist_ok=True)

    # ── Which release serves ──

    def current(self) -> Pointer | None:
        return self._pointer("current")

    def previous(self) -> Pointer | None:
        return self._pointer("previous")

    def serve(self, target: Manifest) -> None:
        """Make a release the current one. Its record is there before anything points to it."""
        self.save(target)
        self._write_json("current", dataclasses.asdict(Pointer(target.release_id, target.colour)))

    def came_after(self, previous: Pointer | None) -> None:
        """Name the previous release; None when there was none."""
        if previous is not None:
            self._write_json("previous", dataclasses.asdict(previous))
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.directory, "previous"))

    # ── The releases ──

    def manifest(self, release_id: str) -> Manifest | None:
        """A release's record, None when there is none.

        Raises:
            FlowauditError: it was changed, or cannot be read.
        """
        path = self._manifest_path(release_id)
        text = read_file(path)
        if text is None:
            return None
        found = manifest.load(text, path)
        if found.release_id != release_id:
            raise FlowauditError(f"{path} is the record of release {found.release_id}; move it away and deploy again.")
        return found

    def save(self, target: Manifest) -> bool:
        """Write a release's record; whether that changed something."""
        path = self._manifest_path(target.release_id)
        text = manifest.dump(target)
        if read_file(path) == text:
            return False
        write_file(path, text)
        return True

    def manifests(self) -> tuple[list[Manifest], list[str]]:
        """Every release that has a record, and a sentence for each record that is none."""
        found, problems = [], []
        try:
            names = sorted(os.listdir(self.releases))
        except FileNotFoundError:
            names = []
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                try:
                    release = self.manifest(name.removesuffix(".json"))
                except FlowauditError as error:
                    problems.append(str(error))
                else:
                    found += [release] if release else []
        return found, problems

    def forget(self, release_id: str) -> None:
        os.remove(self._manifest_path(release_id))

    # ── What is under way ──

    def journal(self) -> Journal | None:
        text = read_file(os.path.join(self.directory, "release.journal"))
        if text is None:
            return None
        try:
            values = json.loads(text)
            pointers = {name: Pointer(**values[name]) for name in ("origin", "target")}
            return Journal(**{**values, **pointers})
        except (ValueError, KeyError, TypeError) as error:
            raise FlowauditError(f"{self.directory}/release.journal cannot be read: {error}.") from error

    def note(self, journal: Journal) -> None:
        self._write_json("release.journal", dataclasses.asdict(journal))

    def close(self) -> None:
        """The change of release has ended, whichever way."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.directory, "release.journal"))

    def keep_warm(self, colour: str, seconds: float) -> None:
        """Have ``colour`` stopped in so many seconds, by the timer flowaudit-release-cool."""
        write_file(os.path.join(self.directory, "release.warm"), f"{colour} {int(time.time() + seconds)}\n")

    def kept_warm(self) -> str:
        """The colour the timer is going to stop; empty for none."""
        return (read_file(os.path.join(self.directory, "release.warm")) or "").partition(" ")[0]

    def keep_running(self) -> None:
        """Take back :meth:`keep_warm`."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.directory, "release.warm"))

    # ── Who may ──

    def holder(self) -> str:
        """Who holds the lock, or held it last."""
        try:
            values = self._lock.holder()
            what = f"{values['action']} of {values['release_id']} by {values['actor']}"
            return f"{what} since {values['since']} (process {values['pid']})"
        except KeyError:
            return "somebody who left no name"

    def locked(self) -> bool:
        """Whether a change of release is being made right now."""
        return self._lock.held()

    def lock(self, wait: float, who: Mapping[str, t.Any]) -> contextlib.AbstractContextManager[int]:
        """Be the only one who changes the release here; yields the descriptor that holds the lock.

        Raises:
            FlowauditError: another one is at it, and still is after ``wait`` seconds.
        """
        return self._lock.hold(wait, who, self._busy)

    def _busy(self) -> FlowauditError:
        return FlowauditError(f"The release is being changed by somebody else: {self.holder()}; wait for its end.")

    @property
    def _lock(self) -> Lock:
        return Lock(os.path.join(self.directory, "release.lock"))

    def _manifest_path(self, release_id: str) -> str:
        manifest.check_id(release_id)
        return os.path.join(self.releases, f"{release_id}.json")

    def _pointer(self, name: str) -> Pointer | None:
        path = os.path.join(self.directory, name)
        text = read_file(path)
        if text is None:
            return None
        try:
            values = json.loads(text)
            return Pointer(values["release_id"], values["colour"])
        except (ValueError, KeyError, TypeError) as error:
            raise FlowauditError(f"{path} does not name a release; see docs/runbooks/rollback.md.") from error

    def _write_json(self, name: str, values: Mapping[str, t.Any]) -> None:
        write_json(os.path.join(self.directory, name), values)
