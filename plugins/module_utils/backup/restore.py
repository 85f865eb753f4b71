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
from .records import moment, stamp
from .recovery import Recovered, Recovery, container_name, mountpoint, remove_volume
from .restic import Runner

#: What the journal says a restore is at. Up to ``recover`` nothing that serves was touched; up to ``switch`` the old
#: database is as good as the new one; from ``follow`` on it is the new one that serves, from ``start`` on to people.
STEPS = ("recover", "stop", "switch", "follow", "start", "save_again")
_HALF_WAY = STEPS[1:]
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
        warnings: what was not as it should be, in sentences.
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
    warnings: list[str] = dataclasses.field(default_factory=list)


class _NotServed(FlowauditError):
    """No database comes up."""


class Restore:
    def __init__(self, jobs: Jobs, run: Runner) -> None:
        self._jobs = jobs
        self._run = run
        self._settings = jobs.settings
        self._records = jobs.records
        self._engine = jobs.engine
        self._releases = ReleaseRecords(jobs.settings.release_directory)
        self._without_saving = False
        self._unsaved = False
        self._untold = ""
        self.outcome = Outcome()

    # ── The whole of it ──

    def make(
        self, text: str, *, actor: str, from_target: bool, accept_differences: bool, without_saving: bool = False
    ) -> Outcome:
        """Bring the database back to a moment (:func:`choice.goal`).

        Args:
            actor: who asks for it.
            from_target: take nothing from this host.
            accept_differences: go on though tables that had rows are empty.
            without_saving: go on though the target takes neither the state that is left nor the new one.

        Raises:
            FlowauditError: it was not; what served before serves.
        """
        began = time.monotonic()
        goal = choice.goal(text)
        self._without_saving = without_saving
        self._records.prepare()
        with self._locked(actor, goal):
            if not self._gone_on(goal):
                self._anew(goal, actor, from_target, accept_differences)
        return self._done(began)

    def _gone_on(self, goal: choice.Goal) -> bool:
        """Bring a restore to its end that was stopped; whether that is what is wanted now."""
        journal = self._records.journal()
        if journal.get("step") not in _HALF_WAY:
            self._abandon(journal)
            return False
        try:
            with self._changing(journal["volume"]):
                self._settle(journal)
        except _NotServed as error:
            self._give_up(journal, str(error))
            return False
        if not self._records.journal():
            return False
        self.outcome.resumed_at, self.outcome.goal = journal["step"], journal["goal"]
        same = bool(journal["goal"] == str(goal))
        try:
            self._save_again()
        except FlowauditError as error:
            # Only another moment can do without what is not saved.
            if same or goal.time is None:
                raise
            self._give_up(journal, str(error))
            return False
        if self._records.journal():
            # It could not be saved, and that was said not to matter.
            if not same:
                self._give_up(journal, "what it serves is not saved")
            return same
        # The same moment again would take away what people have done since; the end of what there is would not.
        return same and (goal.time is not None or journal["step"] != STEPS[-1])

    def _give_up(self, journal: dict[str, t.Any], why: str) -> None:
        """Let another restore take the place of one that was stopped; both of its volumes stay until a confirmation.

        Its journal stays, too, until the other one begins: the tick goes on with it otherwise.
        """
        self._warn(f"The restore to {journal['goal']} that was stopped could not be brought to its end: {why}")
        for volume in {journal["volume"], journal["previous"]} - {self.volume()}:
            self._records.retire(volume, self._jobs.now())

    def _anew(self, goal: choice.Goal, actor: str, from_target: bool, accept_differences: bool) -> None:
        self.outcome.goal = str(goal)
        before = self._records.journal()
        way = self._choose(goal, from_target)
        previous = self.volume()
        volume = f"{self._settings.volume_prefix}{self._jobs.now():%Y%m%dT%H%M%SZ}"
        self._records.write_journal(
            goal=str(goal), volume=volume, previous=previous, actor=actor, at=stamp(self._jobs.now()), step="recover"
        )
        with self._timed("recover"):
            repository = self._jobs.repository("postgres")
            recovery = Recovery(self._settings, self._run, self._jobs.stream, repository, volume, goal, way)
            try:
                self.outcome.recovered = recovery.make(from_target=from_target, thorough=False)
            except (FlowauditError, OSError):
                self._put_back(before)
                raise
        self.outcome.warnings += self.outcome.recovered.warnings
        problems = self.outcome.recovered.problems
        if problems and not accept_differences:
            recovery.discard()
            self._put_back(before)
            raise FlowauditError(
                f"{' '.join(problems)} Nothing was changed. If that is what is wanted, repeat it with "
                "-e restore_accept_differences=true."
            )
        self._finish(volume, previous)

    def _put_back(self, journal: dict[str, t.Any]) -> None:
        """The journal of a restore whose place another one did not take."""
        if journal:
            self._records.write_journal(**journal)
        else:
            self._records.close_journal()

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

    def _choose(self, goal: choice.Goal, from_target: bool) -> choice.Way:
        """Save the state that is left, then look for the way; refused before anything stops."""
        now, line = self._jobs.now(), self._jobs.stream.name()
        repository = self._jobs.repository("postgres")
        with self._timed("choose"):
            choice.way(repository.snapshots(), goal, now, line=line, reaches=now)
        with self._timed("save"):
            self._save_state()
        # What the target did not take is on the host.
        received = moment(str(self._records.state().get("received_at", ""))) if not from_target else None
        reaches = received if self._unsaved else None
        return choice.way(repository.snapshots(), goal, self._jobs.now(), line=line, reaches=reaches)

    def _save_state(self) -> None:
        """The state that is left can be gone back to, too; without a server there is what the receiver has of it."""
        if not self._jobs.stream.name():
            # A new host has nothing yet.
            return
        name = f"before-restore-{self._jobs.now():%Y%m%dT%H%M%SZ}"
        try:
            self._jobs.server.ask(f"SELECT pg_create_restore_point('{name}')")
            self._jobs.beat()
            self.outcome.state_before = name
        except FlowauditError as error:
            self.outcome.state_before = ""
            self._warn(
                "What was committed last may be in the previous volume alone, which stays until the restore is "
                f"confirmed ({error})."
            )
        if self._unsaved:
            # Users are waiting by now, and the target would not take it this time either.
            return
        # A receiver without a server is no reason to stop; a target that does not take it is.
        try:
            self._jobs.save_wal()
        except (FlowauditError, OSError) as error:
            if not self._without_saving:
                raise FlowauditError(
                    f"The state that is left could not be saved: {str(error).rstrip('.')}. To leave it in its volume "
                    "alone, repeat this with -e restore_without_saving=true."
                ) from error
            self._unsaved = True
            self._warn(f"The state that is left could not be saved, and is in its volume alone: {error}")

    def _finish(self, volume: str, previous: str) -> None:
        """From the proved volume to the application that works on it; every step can be done again."""
        with self._changing(volume), self._jobs.hold_line():
            began = time.monotonic()
            try:
                self._reach("stop")
                with self._timed("stop"):
                    self._stop()
                with self._timed("save"):
                    # What was written while it was being recovered, too.
                    self._save_state()
                self._reach("switch")
                with self._timed("switch"):
                    self._switch(volume, previous)
                self._follow()
            finally:
                # Whichever of the two serves by now.
                self._start_again()
                self.outcome.interrupted = round(time.monotonic() - began, 3)
        self._save_again()

    def _follow(self) -> None:
        """For who holds the line."""
        self._reach("follow")
        with self._timed("follow"):
            self._jobs.begin_line()
        self._tell()
        self._reach("start")

    def _save_again(self) -> None:
        """The new line is worth nothing without its base backup. One that fails here is made up for by the timers."""
        journal = self._records.journal()
        self.outcome.volume, self.outcome.previous_volume = journal["volume"], journal["previous"]
        with self._timed("save_again"):
            try:
                self._jobs.run("base")
                self._jobs.run("wal")
                self._complete(journal)
            except (FlowauditError, OSError) as error:
                said = f"The database serves, but is not saved yet, which its timers go on trying: {error}"
                if not self._without_saving:
                    raise FlowauditError(said) from error
                self._warn(said)
        if self._untold:
            raise FlowauditError(self._untold)

    def _complete(self, journal: dict[str, t.Any]) -> None:
        self._records.retire(journal["previous"], self._jobs.now())
        self._records.close_journal()

    def _stop(self) -> None:
        current = self._releases.current()
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
        except (FlowauditError, OSError) as error:
            self._serve_from(previous)
            self._records.close_journal()
            remove_volume(self._run, volume)
            raise FlowauditError(f"{str(error).rstrip('.')}; {previous} serves as before.") from error

    def _serve_from(self, volume: str) -> None:
        file, service = self._settings.database_compose_file, self._settings.database_service
        # Before anything stops: a disk may be full. The Compose file last, as it says what comes up.
        self._note_volume(volume)
        text = read_file(file) or ""
        wanted = re.sub(re.escape(self._settings.volume_prefix) + r"[0-9A-Za-z]+", volume, text)
        if wanted != text:
            write_file(file, wanted)
        self._engine.stop(file, [service], 120)
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

    def _start_again(self) -> None:
        """Have the application run. One that does not come up needs help of its own: the database is back."""
        try:
            self._start()
        finally:
            if self._records.journal().get("step") == "start":
                self._reach("save_again")

    def _start(self) -> None:
        current = self._releases.current()
        if current is None:
            return
        file = self._jobs.application()
        if file:
            with self._timed("start"):
                self._engine.up(file, list(self._settings.database_clients), _START_SECONDS)
        self._write_switch(current.colour, maintenance=False)

    # ── What a run that was stopped has left ──

    def settle(self) -> bool:
        """Have a database and the application serve where a restore was stopped half way; whether one was.

        What is saved after it is the timers' affair; once it is, the restore has ended.

        Raises:
            FlowauditError: it cannot be had.
        """
        if self._records.journal().get("step") not in _HALF_WAY:
            return False
        with self._records.lock_if_free(_LOCK) as free:
            journal = self._records.journal()
            if not free or self._releases.locked() or journal.get("step") not in _HALF_WAY:
                return False
            if journal["step"] == STEPS[-1]:
                if self._saved():
                    self._complete(journal)
                return False
            with self._changing(journal["volume"], wait=0):
                self._settle(journal)
        return True

    def _settle(self, journal: dict[str, t.Any]) -> None:
        """Have one of the two databases serve, and the application on it; where it is the old one, that was it.

        For who holds the locks of restores and of releases.
        """
        if journal["step"] == STEPS[-1]:
            return
        with self._jobs.hold_line():
            self._have_one_serve(journal)
            replaced = self.volume() == journal["volume"]
            try:
                self._note_volume(self.volume())
                if replaced and journal["step"] != "start":
                    self._follow()
            finally:
                self._start_again()
        if not replaced:
            # People go on with the old one: what was recovered does not replace it any more.
            self._abandon(journal)

    def _have_one_serve(self, journal: dict[str, t.Any]) -> None:
        """The new one if it comes up, else the old one unless people have worked on the new one.

        Raises:
            _NotServed: neither does.
        """
        file, service = self._settings.database_compose_file, self._settings.database_service
        known = self._engine.containers(self._settings.database_project, [service])
        try:
            # Compose gives up at once on one that is unhealthy; one that is starting may be recovering from a crash.
            sick = service in known and known[service].health == "unhealthy"
            self._engine.up(file, [service], _START_SECONDS, recreate=sick)
        except FlowauditError as error:
            if journal["step"] not in ("stop", "switch"):
                raise _NotServed(str(error)) from error
            try:
                self._serve_from(journal["previous"])
            except FlowauditError as neither:
                raise _NotServed(f"{error} {neither}") from neither

    def _saved(self) -> bool:
        """Whether the line that is followed has a base backup and a log after it on the target."""
        base, log = (self._records.job(name) for name in ("base", "wal"))
        name = base.details.get("name")
        here = any((each["name"], each["stream"]) == (name, self._jobs.stream.name()) for each in self._jobs.bases())
        return here and not base.error and not log.error and log.succeeded_at >= base.succeeded_at

    def _abandon(self, journal: dict[str, t.Any]) -> None:
        """End a restore whose volume does not serve. One that people may have worked on stays until a confirmation."""
        if journal and journal["volume"] != self.volume():
            if journal["step"] in ("recover", "stop", "switch"):
                self._run(["docker", "rm", "--force", container_name(self._settings, journal["volume"])], 120, {})
                with contextlib.suppress(FlowauditError):
                    remove_volume(self._run, journal["volume"])
            else:
                self._records.retire(journal["volume"], self._jobs.now())
        self._records.close_journal()

    def confirm(self) -> list[str]:
        """Remove the volumes that restores have left; their names.

        Raises:
            FlowauditError: a restore is under way, or one cannot be removed.
        """
        with self._locked("confirm", choice.Goal()):
            journal = self._records.journal()
            if journal.get("step") in _HALF_WAY:
                raise FlowauditError(
                    "The last restore has not ended: its new state is not saved yet, or it was stopped half way. "
                    "Look at flowaudit.ops.backup_status; it ends by itself once base backup and log succeed."
                )
            self._abandon(journal)
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

    def _changing(self, volume: str, wait: float | None = None) -> contextlib.AbstractContextManager[int]:
        """Be the only one who changes what serves; no deployment goes on meanwhile."""
        who = {"action": "restore", "release_id": volume, "actor": "flowaudit-backup", "since": stamp(self._jobs.now())}
        return self._releases.lock(self._settings.lock_wait if wait is None else wait, who)

    def _warn(self, sentence: str) -> None:
        if sentence not in self.outcome.warnings:
            self.outcome.warnings.append(sentence)

    def _note_volume(self, volume: str) -> None:
        if read_file(self._settings.volume_file) != f"{volume}\n":
            write_file(self._settings.volume_file, f"{volume}\n")

    def _write_switch(self, colour: str, *, maintenance: bool) -> None:
        text = switch.text(self._settings.project, colour, self._settings.public, maintenance=maintenance)
        file = self._settings.switch_file
        if os.path.isdir(os.path.dirname(file)) and read_file(file) != text:
            write_file(file, text, beside=os.path.dirname(os.path.dirname(file)))

    def _done(self, began: float) -> Outcome:
        self.outcome.seconds = round(time.monotonic() - began, 3)
        return self.outcome

    def _reach(self, step: str) -> None:
        self._records.write_journal(**{**self._records.journal(), "step": step})

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.outcome.timings[name] = round(time.monotonic() - began, 3)
