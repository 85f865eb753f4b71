# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The database brought back to a moment: every step, in order, and what a run that was stopped leaves.

Until the recovered database has been proved, the one that serves goes on. Then users meet the maintenance page, the
server is started on the new volume, and the application comes back. The old volume stays until somebody confirms the
restore. Whoever comes after a kill, at the latest the tick a minute later, finds the journal and has one of the two
serve.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
import typing as t
from collections.abc import Iterator

from ..errors import FlowauditError
from ..files import read_file, write_file
from ..release import switch
from ..release.records import Records as ReleaseRecords
from . import choice
from .jobs import Jobs
from .records import stamp
from .recovery import Recovered, Recovery, container_name, mountpoint, remove_volume
from .restic import Runner

STEPS = ("choose", "save", "recover", "stop", "switch", "follow", "start", "save_again")
_LOCK = "restore"
_START_SECONDS = 300.0


@dataclasses.dataclass
class Outcome:
    """What a restore did.

    Attributes:
        goal: the moment that was wanted.
        volume: the volume the database is in now.
        previous_volume: the one before, which stays until the restore is confirmed.
        state_before: restore point of the state that was left; empty when the server did not answer.
        recovered: what was recovered and proved.
        interrupted: seconds without the application.
        seconds: of the whole.
        resumed_at: the step of a run that was stopped, which this one went on from; empty for none.
        timings: step → seconds.
    """

    goal: str = ""
    volume: str = ""
    previous_volume: str = ""
    state_before: str = ""
    recovered: Recovered | None = None
    interrupted: float = 0
    seconds: float = 0
    resumed_at: str = ""
    timings: dict[str, float] = dataclasses.field(default_factory=dict)


class Restore:
    def __init__(self, jobs: Jobs, run: Runner) -> None:
        self._jobs = jobs
        self._run = run
        self._settings = jobs.settings
        self._records = jobs.records
        self._engine = jobs.engine
        self._untold = ""
        self.outcome = Outcome()

    # ── The whole of it ──

    def make(self, text: str, *, actor: str, from_target: bool, accept_differences: bool) -> Outcome:
        """Bring the database back to a moment (:func:`choice.goal`).

        Args:
            actor: who asks for it.
            from_target: take nothing from this host.
            accept_differences: go on though tables that had rows are empty.

        Raises:
            FlowauditError: it was not; what served before serves.
        """
        began = time.monotonic()
        goal = choice.goal(text)
        self._records.prepare()
        with self._locked(actor, goal):
            journal = self._records.journal()
            if self._half_way(journal):
                self._have_one_serve(journal)
                self._start(ReleaseRecords(self._settings.release_directory))
            if self._half_way(journal) and self.volume() == journal["volume"]:
                self.outcome.resumed_at, self.outcome.goal = journal["step"], journal["goal"]
                if journal["step"] != "save_again":
                    self._follow()
                self._save_again(journal["volume"], journal["previous"])
                if journal["goal"] == str(goal):
                    return self._done(began)
            elif journal:
                # The old one serves, and people have worked on it since: what was recovered then does not replace it.
                self._forget(journal)
            self._anew(goal, actor, from_target, accept_differences)
        return self._done(began)

    def _anew(self, goal: choice.Goal, actor: str, from_target: bool, accept_differences: bool) -> None:
        self.outcome.goal = str(goal)
        way = self._choose(goal)
        previous = self.volume()
        volume = f"{self._settings.volume_prefix}{self._jobs.now():%Y%m%dT%H%M%SZ}"
        self._records.write_journal(
            goal=str(goal), volume=volume, previous=previous, actor=actor, at=stamp(self._jobs.now()), step="recover"
        )
        with self._step("recover"):
            repository = self._jobs.repository("postgres")
            recovery = Recovery(self._settings, self._run, self._jobs.stream, repository, volume, goal, way)
            self.outcome.recovered = recovery.make(from_target=from_target)
        problems = self.outcome.recovered.problems
        if problems and not accept_differences:
            recovery.discard()
            self._records.close_journal()
            raise FlowauditError(
                f"{' '.join(problems)} Nothing was changed. If that is what is wanted, repeat it with "
                "-e restore_accept_differences=true."
            )
        self._finish(volume, previous)

    def predict(self, text: str) -> Outcome:
        """What :meth:`make` would do.

        Raises:
            FlowauditError: it would be refused.
        """
        goal = choice.goal(text)
        self.outcome.goal = str(goal)
        now = self._jobs.now()
        found = self._jobs.repository("postgres").snapshots()
        # What is still to be saved counts as saved.
        choice.way(found, goal, now, line=self._jobs.stream.name(), reaches=now)
        self.outcome.previous_volume = self.volume()
        self.outcome.volume = f"{self._settings.volume_prefix}…"
        return self.outcome

    # ── Its steps ──

    def _choose(self, goal: choice.Goal) -> choice.Way:
        """Save the state that is left, then look for the way; refused before anything stops."""
        now, line = self._jobs.now(), self._jobs.stream.name()
        repository = self._jobs.repository("postgres")
        with self._step("choose"):
            choice.way(repository.snapshots(), goal, now, line=line, reaches=now)
        with self._step("save"):
            self._save_state()
        return choice.way(repository.snapshots(), goal, self._jobs.now(), line=line)

    def _save_state(self) -> None:
        """The state that is left can be gone back to, too; without a server there is what the receiver has of it."""
        name = f"before-restore-{self._jobs.now():%Y%m%dT%H%M%SZ}"
        try:
            self._jobs.server.ask(f"SELECT pg_create_restore_point('{name}')")
            self._jobs.server.received(10)
            self.outcome.state_before = name
        except FlowauditError:
            self.outcome.state_before = ""
        # A receiver without a server is no reason to stop; a target that does not take it is.
        if self._jobs.stream.name():  # a new host has nothing yet
            self._jobs.save_wal()

    def _finish(self, volume: str, previous: str) -> None:
        """From the proved volume to the application that works on it; every step can be done again."""
        releases = ReleaseRecords(self._settings.release_directory)
        who = {"action": "restore", "release_id": volume, "actor": "flowaudit-backup", "since": stamp(self._jobs.now())}
        with releases.lock(self._settings.lock_wait, who):
            began = time.monotonic()
            try:
                with self._step("stop"):
                    self._stop(releases)
                with self._step("save"):
                    # What was written while it was being recovered, too.
                    self._save_state()
                with self._step("switch"):
                    self._switch(volume, previous)
                self._follow()
                self._tell()
            finally:
                # Whichever of the two serves by now.
                self._start(releases)
                self.outcome.interrupted = round(time.monotonic() - began, 3)
        self._save_again(volume, previous)

    def _follow(self) -> None:
        with self._step("follow"):
            self._jobs.begin_line()

    def _save_again(self, volume: str, previous: str) -> None:
        """The new line is worth nothing without its base backup."""
        self.outcome.volume, self.outcome.previous_volume = volume, previous
        with self._step("save_again"):
            self._jobs.run("base")
            self._jobs.run("wal")
        self._records.retire(previous, self._jobs.now())
        self._records.close_journal()
        if self._untold:
            raise FlowauditError(self._untold)

    def _stop(self, releases: ReleaseRecords) -> None:
        current = releases.current()
        if current is None:
            return
        self._write_switch(current.colour, maintenance=True)
        file = self._jobs.application()
        if file:
            self._engine.stop(file, list(self._settings.database_clients), self._settings.grace)

    def _switch(self, volume: str, previous: str) -> None:
        """Start the server on the new volume; on the old one again when it does not come up."""
        mountpoint(self._run, volume)
        try:
            self._serve_from(volume)
        except FlowauditError as error:
            self._serve_from(previous)
            self._records.close_journal()
            remove_volume(self._run, volume)
            raise FlowauditError(f"{str(error).rstrip('.')}; {previous} serves as before.") from error

    def _serve_from(self, volume: str) -> None:
        file, service = self._settings.database_compose_file, self._settings.database_service
        self._engine.stop(file, [service], 120)
        text = read_file(file) or ""
        other = re.compile(re.escape(self._settings.volume_prefix) + r"[0-9A-Za-z]+")
        write_file(file, other.sub(volume, text))
        write_file(self._settings.volume_file, volume + "\n")
        self._engine.up(file, [service], _START_SECONDS, recreate=True)
        if self.volume() != volume:
            raise FlowauditError(f"The database came up in {self.volume()}, not in {volume}.")

    def _tell(self) -> None:
        """The application is stopped: whatever it keeps beside the database, it forgets before it starts."""
        try:
            self._jobs.tell_application("database")
        except FlowauditError as error:
            # It must not stay down for that.
            self._untold = str(error)

    def _start(self, releases: ReleaseRecords) -> None:
        current = releases.current()
        if current is None:
            return
        file = self._jobs.application()
        if file:
            with self._step("start"):
                self._engine.up(file, list(self._settings.database_clients), _START_SECONDS)
        self._write_switch(current.colour, maintenance=False)

    # ── What a run that was stopped has left ──

    def settle(self) -> bool:
        """Have a database and the application serve where a restore was stopped half way; whether one was.

        Raises:
            FlowauditError: it cannot be had.
        """
        if not self._half_way(self._records.journal()):
            return False
        releases = ReleaseRecords(self._settings.release_directory)
        with self._records.lock_if_free(_LOCK) as free:
            if not free or releases.locked() or not self._half_way(self._records.journal()):
                return False
            self._have_one_serve(self._records.journal())
            self._start(releases)
        return True

    def _have_one_serve(self, journal: dict[str, t.Any]) -> None:
        """The new one if it comes up, else the old one; and have that on record."""
        file, service = self._settings.database_compose_file, self._settings.database_service
        known = self._engine.containers(self._settings.database_project, [service])
        well = service in known and known[service].well
        try:
            self._engine.up(file, [service], _START_SECONDS, recreate=not well)
        except FlowauditError:
            self._serve_from(journal["previous"])
        write_file(self._settings.volume_file, self.volume() + "\n")

    @staticmethod
    def _half_way(journal: dict[str, t.Any]) -> bool:
        """Whether a restore was stopped after it had begun to touch what serves."""
        return journal.get("step") in STEPS[STEPS.index("stop") :]

    def _forget(self, journal: dict[str, t.Any]) -> None:
        """Remove the half of a recovery."""
        if journal["volume"] != self.volume():
            self._run(["docker", "rm", "--force", container_name(self._settings, journal["volume"])], 120, {})
            with contextlib.suppress(FlowauditError):
                remove_volume(self._run, journal["volume"])
        self._records.close_journal()

    def confirm(self) -> list[str]:
        """Remove the volumes that restores have left; their names.

        Raises:
            FlowauditError: a restore is under way, or one cannot be removed.
        """
        with self._locked("confirm", choice.Goal()):
            if self._records.journal():
                raise FlowauditError("A restore was stopped half way; begin it again before it is confirmed.")
            retired = [name for name in self._records.retired() if name != self.volume()]
            for name in retired:
                remove_volume(self._run, name)
                self._records.forget_retired(name)
        return retired

    # ── Small things ──

    def volume(self) -> str:
        """The volume the database's container has.

        Raises:
            FlowauditError: there is no such container.
        """
        form = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}}\n{{end}}{{end}}'
        told = self._run(["docker", "inspect", "--format", form, self._settings.database_container], 60, {})
        names = [name for name in told.output.split() if name.startswith(self._settings.volume_prefix)]
        if told.status != 0 or len(names) != 1:
            raise FlowauditError(
                f"The container {self._settings.database_container} is not there, or has no volume "
                f"{self._settings.volume_prefix}…; run the playbook flowaudit.ops.site."
            )
        return names[0]

    def _locked(self, actor: str, goal: choice.Goal) -> contextlib.AbstractContextManager[int]:
        who = {"since": stamp(self._jobs.now()), "actor": actor, "goal": str(goal)}
        return self._records.lock(_LOCK, self._settings.lock_wait, who)

    def _write_switch(self, colour: str, *, maintenance: bool) -> None:
        text = switch.text(self._settings.project, colour, self._settings.public, maintenance=maintenance)
        file = self._settings.switch_file
        if os.path.isdir(os.path.dirname(file)) and read_file(file) != text:
            write_file(file, text, beside=os.path.dirname(os.path.dirname(file)))

    def _done(self, began: float) -> Outcome:
        self.outcome.seconds = round(time.monotonic() - began, 3)
        return self.outcome

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        # Starting is done on every way out, and saving more than once; they are no step further.
        if self._records.journal() and name not in ("start", "save"):
            self._records.write_journal(**{**self._records.journal(), "step": name})
        began = time.monotonic()
        try:
            yield
        finally:
            self.outcome.timings[name] = round(time.monotonic() - began, 3)
