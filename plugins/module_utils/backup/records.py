# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host knows of its earlier backups.

::

    /var/lib/flowaudit/backup/jobs/<job>.json   the last run, and the last one that succeeded
    /var/lib/flowaudit/backup/<job>.lock        who is at it
    /var/lib/flowaudit/backup/paused.json       what was stopped for a copy and has to run again
    /var/lib/flowaudit/backup/state.json        the heartbeat that was received last, the gaps there were
    /var/lib/flowaudit/backup/restore.json      the restore under way, and the step it is at
    /var/lib/flowaudit/backup/retired.json      volumes that restores have replaced
    /var/lib/flowaudit/backup/proofs/           integrity checks and drills, each one
    /var/lib/flowaudit/backup/proofs/recorded/  the names of those that are in the trail
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import typing as t
from collections.abc import Iterator, Mapping

from ..errors import FlowauditError
from ..files import Lock, read_file, write_json


@dataclasses.dataclass(frozen=True)
class Record:
    """A job's last run, and its last success.

    Attributes:
        began_at: when the last run began (RFC 3339, UTC); empty before the first.
        error: why it failed; empty when it did not.
        succeeded_at: when the last one that succeeded began.
        seconds: how long that one took.
        size: bytes of what it saved.
        details: what else it says of itself.
    """

    began_at: str = ""
    error: str = ""
    succeeded_at: str = ""
    seconds: float = 0
    size: int = 0
    details: Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


class BusyError(FlowauditError):
    """Another one is at it."""


class Records:
    def __init__(self, directory: str) -> None:
        self.directory = directory

    def prepare(self) -> None:
        for name in ("jobs", "proofs", "proofs/recorded"):
            os.makedirs(os.path.join(self.directory, name), mode=0o750, exist_ok=True)

    def job(self, name: str) -> Record:
        """What is known of a job; what cannot be read is as if it never ran, and so overdue."""
        try:
            return Record(**json.loads(read_file(self._job(name)) or "{}"))
        except (ValueError, TypeError):
            return Record()

    def began(self, name: str, moment: datetime.datetime) -> None:
        """Note a run before anything else: one that is killed has not succeeded."""
        known = self.job(name)
        self._keep(name, dataclasses.replace(known, began_at=stamp(moment), error="It was ended before its end."))

    def failed(self, name: str, error: str) -> None:
        self._keep(name, dataclasses.replace(self.job(name), error=error))

    def succeeded(self, name: str, seconds: float, size: int, details: Mapping[str, t.Any]) -> None:
        began = self.job(name).began_at
        self._keep(name, Record(began, "", began, round(seconds, 3), size, dict(details)))

    def lock(self, name: str, wait: float, who: Mapping[str, t.Any]) -> contextlib.AbstractContextManager[int]:
        """Be the only one at a job.

        Raises:
            BusyError: another one still is after ``wait`` seconds.
        """
        lock = self._lock(name)

        def busy() -> BusyError:
            since, pid = (lock.holder().get(key, "unknown") for key in ("since", "pid"))
            return BusyError(f"The job {name} is under way since {since} (process {pid}); wait for its end.")

        return lock.hold(wait, who, busy)

    @contextlib.contextmanager
    def lock_if_free(self, name: str) -> Iterator[bool]:
        """Be the only one at a job unless another one is; whether that came to be."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.lock(name, 0, {}))
            except BusyError:
                yield False
                return
            yield True

    def locked(self, name: str) -> bool:
        return self._lock(name).held()

    def state(self) -> dict[str, t.Any]:
        return self._read("state.json")

    def note(self, **values: t.Any) -> None:
        self.prepare()
        with self.lock("state", 60, {}):
            write_json(os.path.join(self.directory, "state.json"), {**self.state(), **values}, mode=0o640)

    def paused(self) -> dict[str, t.Any]:
        """What was stopped for a copy: {"compose_file": [services]}; nothing when all runs."""
        return self._read("paused.json")

    def pause(self, services: Mapping[str, t.Any]) -> None:
        write_json(os.path.join(self.directory, "paused.json"), services, mode=0o640)

    def resumed(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.directory, "paused.json"))

    def journal(self) -> dict[str, t.Any]:
        """The restore that has begun and not ended; nothing when there is none."""
        return self._read("restore.json")

    def write_journal(self, **values: t.Any) -> None:
        write_json(os.path.join(self.directory, "restore.json"), values, mode=0o640)

    def close_journal(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(self.directory, "restore.json"))

    def retired(self) -> dict[str, t.Any]:
        """Volume of a database that a restore replaced → when."""
        return self._read("retired.json")

    def retire(self, volume: str, at: datetime.datetime) -> None:
        write_json(os.path.join(self.directory, "retired.json"), {**self.retired(), volume: stamp(at)}, mode=0o640)

    def forget_retired(self, volume: str) -> None:
        left = {name: at for name, at in self.retired().items() if name != volume}
        write_json(os.path.join(self.directory, "retired.json"), left, mode=0o640)

    def prove(self, kind: str, moment: datetime.datetime, values: Mapping[str, t.Any]) -> None:
        """Keep what an integrity check or a drill has shown, for the trail."""
        name = f"{moment:%Y%m%dT%H%M%SZ}-{kind}.json"
        write_json(
            os.path.join(self.directory, "proofs", name), {"kind": kind, "at": stamp(moment), **values}, mode=0o640
        )

    def proofs(self) -> dict[str, dict[str, t.Any]]:
        """File name → what was shown, the oldest first."""
        directory = os.path.join(self.directory, "proofs")
        with contextlib.suppress(FileNotFoundError):
            names = sorted(name for name in os.listdir(directory) if name.endswith(".json") and name[0] != ".")
            return {name: self._read(os.path.join("proofs", name)) for name in names}
        return {}

    def unrecorded(self) -> list[dict[str, t.Any]]:
        """What was shown and is not in the trail yet, the oldest first, each with its ``name``.

        The trail is on the control node, and a timer on the host does not reach it: a playbook brings them there.
        """
        recorded = os.path.join(self.directory, "proofs", "recorded")
        return [
            {"name": name, **values}
            for name, values in self.proofs().items()
            if not os.path.exists(os.path.join(recorded, name))
        ]

    def _read(self, name: str) -> dict[str, t.Any]:
        with contextlib.suppress(ValueError):
            values = json.loads(read_file(os.path.join(self.directory, name)) or "{}")
            return values if isinstance(values, dict) else {}
        return {}

    def _keep(self, name: str, record: Record) -> None:
        write_json(self._job(name), dataclasses.asdict(record), mode=0o640)

    def _job(self, name: str) -> str:
        return os.path.join(self.directory, "jobs", f"{name}.json")

    def _lock(self, name: str) -> Lock:
        return Lock(os.path.join(self.directory, f"{name}.lock"))


def stamp(moment: datetime.datetime) -> str:
    """A time in UTC (RFC 3339)."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def moment(text: str) -> datetime.datetime | None:
    """The time :func:`stamp` wrote; None for an empty text."""
    return datetime.datetime.fromisoformat(text) if text else None
