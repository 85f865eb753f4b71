# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The change of a release on one host, blue-green: every step, in order, under one lock, and the way back from each.

The current release serves until its successor has proved itself. Each step is noted in the journal before it begins,
and can be done again: whoever comes after a kill finds the journal, and goes on or takes it back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gzip
import http.client
import os
import shutil
import time
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from .. import health_document
from ..engine import Container, Engine
from ..errors import FlowauditError
from ..files import read_file, write_file, write_json
from . import manifest, plan, smoke, switch, watch
from .manifest import Manifest
from .plan import Way
from .records import Journal, Pointer, Records
from .request import Application, Host, Outcome, Request, Terms, Tests
from .smoke import Check, Place

#: Answers in a row that count as a switch that has been seen.
_CONFIRMATIONS = 3
_CONFIRM_SECONDS = 15.0
#: How far back the errors of the old colour count.
_BASELINE = datetime.timedelta(minutes=15)
#: Collected logs of that many releases stay on the host.
_INCIDENTS = 20

STEPS = (
    "check",
    "pull",
    "prepare",
    "restore_point",
    "interrupt",
    "migrate",
    "start",
    "settle",
    "flip",
    "confirm",
    "watch",
    "hand_over",
    "record",
    "tidy",
)


class Change:
    """One change of release, under the lock of ``records``."""

    def __init__(
        self,
        records: Records,
        engine: Engine,
        host: Host,
        application: Application,
        terms: Terms,
        tests: Tests,
        run: t.Callable[[Sequence[str], Mapping[str, str]], tuple[int, str]],
    ) -> None:
        self.records = records
        self.engine = engine
        self.host = host
        self.application = application
        self.terms = terms
        self.tests = tests
        self.run = run
        self.outcome = Outcome()
        self.began = time.monotonic()
        self.journal: Journal | None = None
        # The containers of the colour that is wanted, where a rollback finds them running.
        self._warm: Mapping[str, Container] = {}

    # ── The whole of it ──

    def make(self, request: Request) -> Outcome:
        """Bring the release to serve.

        Raises:
            FlowauditError: it does not; what served before goes on, or the sentence says what else.
        """
        self.began = time.monotonic()
        current = self._current()
        self._served(current, changed=False)
        interrupted = self.records.journal()
        if interrupted is not None and current == interrupted.target:
            # It serves and is recorded; what was left is to tidy up.
            self.outcome.resumed_at = interrupted.step
            self._tidy(interrupted)
        elif interrupted is not None:
            unnamed = (request.action, request.release_id) == ("rollback", "")
            if (unnamed and interrupted.action == "deploy") or request.release_id == current.release_id:
                # That is what is meant by taking it back.
                self._take_back(current, interrupted)
                return self._served(current, changed=True)
            named = request.release_id or interrupted.target.release_id
            same = (request.action, named) == (interrupted.action, interrupted.target.release_id)
            if same and unnamed:
                # A rollback that is begun again leads where it led.
                request = dataclasses.replace(request, release_id=named)
            if same or (request.action == "deploy" and interrupted.migration_class == "contract"):
                # What a migration has removed cannot be taken back, only gone on from: by any release that works on it.
                self.outcome.resumed_at = interrupted.step
                self.journal = interrupted
            else:
                self._take_back(current, interrupted)
        wanted = request.release_id or self._previous().release_id
        if wanted == current.release_id:
            self._require_same_images(request, current)
            return self._served(current, changed=False)
        if request.colour == current.colour:
            raise FlowauditError(
                f"Another release came to serve in {current.colour} while this run was preparing; run it again."
            )
        target, way = self._target(request, wanted, current)
        self._change(request, current, target, way)
        return self.outcome

    def predict(self, request: Request) -> Outcome:
        """What :meth:`make` would do, as far as that shows without doing it.

        Raises:
            FlowauditError: it would be refused.
        """
        current = self._current()
        interrupted = self.records.journal()
        if interrupted is not None and current != interrupted.target:
            self.outcome.taken_back = interrupted.describe()
            if request.release_id in ("", current.release_id):
                return self._served(current, changed=True)
        wanted = request.release_id or self._previous().release_id
        if wanted == current.release_id:
            return self._served(current, changed=False)
        if request.action == "rollback":
            _target, way = self._earlier(request, wanted, current)
            self.outcome.migration_class = way.kind
        else:
            manifest.check_id(wanted)
            manifest.check_images(wanted, request.images)
            self._require_room()
        self._served(Pointer(wanted, request.colour), changed=True)
        self.outcome.previous_id = current.release_id
        return self.outcome

    def adopt(self, request: Request, *, predict: bool = False) -> Outcome:
        """Record the release that serves, where provisioning brought it; the first one, or one whose record is gone.

        Raises:
            FlowauditError: another release serves, or its images do not say what they are.
        """
        current = self.records.current()
        if current is not None and current != Pointer(request.release_id, request.colour):
            raise FlowauditError(
                f"This host runs {current.release_id} in {current.colour}; that is changed by deploying."
            )
        try:
            known = self.records.manifest(request.release_id)
        except FlowauditError:
            known = None
        if predict and len(self.engine.image_labels(list(request.images.values()))) < len(set(request.images.values())):
            return self._served(Pointer(request.release_id, request.colour), changed=True)
        described = dataclasses.replace(self._pulled(request, request.release_id), deployed_at=now())
        if known is not None:
            # What its deployment found out stays.
            described = dataclasses.replace(
                known,
                colour=request.colour,
                images=described.images,
                git_commit=described.git_commit,
                migrations=described.migrations,
            )
        changed = current is None or known != described
        if changed and not predict:
            self.records.prepare()
            self.records.serve(described)
        self._describe(described)
        return self._served(Pointer(request.release_id, request.colour), changed=changed)

    def _require_same_images(self, request: Request, current: Pointer) -> None:
        running = self.records.manifest(current.release_id)
        if request.action == "deploy" and running is not None and dict(request.images) != dict(running.images):
            raise FlowauditError(
                f"{current.release_id} serves with other images than those that are locked for it now; a release is "
                "what it is: give the new images a release of their own."
            )

    def _current(self) -> Pointer:
        current = self.records.current()
        if current is None:
            raise FlowauditError("This host runs no release yet; the playbook flowaudit.ops.site brings the first one.")
        return current

    def _previous(self) -> Pointer:
        previous = self.records.previous()
        if previous is None:
            raise FlowauditError(
                "There is no previous release on this host; name one of those that flowaudit.ops.release_list shows, "
                "such as -e release_id=1.0.0."
            )
        return previous

    def _served(self, current: Pointer, *, changed: bool) -> Outcome:
        self.outcome.changed = changed
        self.outcome.release_id, self.outcome.colour = current.release_id, current.colour
        return self.outcome

    # ── What is to serve, and the way to it ──

    def _target(self, request: Request, release_id: str, current: Pointer) -> tuple[Manifest, Way]:
        if request.action == "rollback":
            return self._earlier(request, release_id, current)
        with self._step("check"):
            manifest.check_id(release_id)
            manifest.check_images(release_id, request.images)
            self._require_room()
        with self._step("pull"):
            target = self._pulled(request, release_id)
        with self._step("prepare"):
            # Beside the colour's own file, which says what its containers were made from.
            file = self.host.compose_file(target.colour, "compose.next.yaml")
            self._write_compose_file(file, request.compose_file)
            try:
                way = plan.way_there(target, self._schema(file))
            finally:
                os.remove(file)
            if way.interrupts and not request.accept_interruption:
                raise FlowauditError(
                    f"Release {release_id} has the migration {', '.join(way.revisions)} ({way.kind}), on which "
                    f"{current.release_id} cannot work: users will meet the maintenance page. Repeat it with "
                    "-e accept_interruption=true, in a maintenance window."
                )
        return target, way

    def _pulled(self, request: Request, release_id: str) -> Manifest:
        """The release as its images describe it, fetched where they are not here yet."""
        references = list(request.images.values())
        here = self.engine.image_labels(references)
        for reference in references:
            if reference not in here:
                self.engine.pull(reference, self.terms.pull)
        here = self.engine.image_labels(references)
        labels: dict[str, str] = {}
        for name, reference in request.images.items():
            found = here.get(reference, {})
            version = found.get(manifest.LABEL_VERSION, release_id)
            if version != release_id:
                raise FlowauditError(
                    f"The image {name} that is locked for release {release_id} says it is {version}; lock the release "
                    "again with the playbook flowaudit.ops.images."
                )
            labels |= {name: text for name, text in found.items() if name not in labels}
        migrations = request.migrations
        if migrations is None:
            migrations = manifest.migrations_of(labels, release_id)
        if migrations is None:
            raise FlowauditError(
                f"No image of release {release_id} says which migrations it has; give it the label "
                f"{manifest.LABEL_MIGRATIONS}, or set app_release_migrations (docs/app-contract.md)."
            )
        return Manifest(
            release_id=release_id,
            colour=request.colour,
            images=dict(request.images),
            git_commit=manifest.commit_of(labels),
            migrations=tuple(migrations),
            change_id=request.change_id,
            actor=request.actor,
        )

    def _earlier(self, request: Request, release_id: str, current: Pointer) -> tuple[Manifest, Way]:
        """An earlier release, from its record; nothing is fetched."""
        with self._step("check"):
            target, running = self.records.manifest(release_id), self.records.manifest(current.release_id)
            if target is None:
                raise FlowauditError(
                    f"Release {release_id} has no record on this host, so nothing of it is kept; deploy it "
                    f"(flowaudit.ops.deploy -e release_id={release_id}), or take one of flowaudit.ops.release_list."
                )
            if running is None:
                raise FlowauditError(
                    f"The record of the current release {current.release_id} is missing, so what its migrations did is "
                    "not known; run the playbook flowaudit.ops.site, which writes it again."
                )
            if request.images and dict(request.images) != dict(target.images):
                raise FlowauditError(
                    f"The images lock and this host disagree about the images of release {release_id}; compare "
                    f"{self.records.releases}/{release_id}.json with it before anything goes back to them."
                )
            target = dataclasses.replace(target, colour=request.colour)
            self._warm = self._running_already(request, target)
            # What runs is here: users may be waiting, and each question to the engine takes a third of a second.
            known = {each.image for each in self._warm.values()}
            unknown = [each for each in target.images.values() if each not in known]
            known |= set(self.engine.image_labels(unknown)) if unknown else set()
            for name, reference in target.images.items():
                if reference not in known:
                    raise FlowauditError(
                        f"The image {name} of release {release_id} is not on this host any more; deploy that release "
                        f"instead: flowaudit.ops.deploy -e release_id={release_id}."
                    )
            way = plan.way_back(running, target)
            if way.interrupts and self._schema(self.host.compose_file(current.colour)) not in (
                running.schema_head,
                way.downgrade_to,
            ):
                raise FlowauditError(
                    f"The database is ahead of what {current.release_id} knows, which therefore cannot take it back; "
                    "deploy the release that brought it there, and roll back from that."
                )
            if way.interrupts and not request.accept_interruption:
                raise FlowauditError(
                    f"Going back to {release_id} takes back the migration {', '.join(way.revisions)} and what was "
                    f"stored in it since, behind the maintenance page. Repeat it with -e accept_interruption=true."
                )
        return target, way

    def _require_room(self) -> None:
        for path in (self.host.engine_directory, self.records.directory):
            free = shutil.disk_usage(path).free
            if free < self.terms.free_disk:
                raise FlowauditError(
                    f"{path} has {free / 2**30:.1f} GB left, a release needs {self.terms.free_disk / 2**30:.1f}; "
                    "make room before deploying."
                )
        available = _memory_available()
        if available < self.terms.free_memory:
            raise FlowauditError(
                f"The host has {available / 2**30:.1f} GB of memory left, a second colour needs "
                f"{self.terms.free_memory / 2**30:.1f}; end what uses it, or lower the services' reservations."
            )

    def _schema(self, file: str) -> str:
        """The database's revision, by a release's own migration tool; empty before the first migration."""
        output = self.engine.once(
            file,
            self.application.migration,
            self.application.schema,
            self.terms.migrate,
            "The database's revision cannot be read",
        )
        words = output.split()
        return words[0] if words else ""

    # ── The change ──

    def _change(self, request: Request, current: Pointer, target: Manifest, way: Way) -> None:
        self._begin(request, current, target, way)
        log = watch.AccessLog(self.host.access_log)
        lately = (_moment() - _BASELINE).isoformat(timespec="seconds")[:19]
        before = watch.count(log.tail(), self._servers(current.colour), since=lately)
        try:
            self._write_compose_file(self.host.compose_file(target.colour), request.compose_file)
            if request.action == "deploy":
                target = self._bring_schema_there(current, target, way)
            else:
                self._bring_schema_back(current, way)
            self._start(target)
            self._flip(target)
            if request.action == "deploy":
                self._watch(target, log, before)
            self._hand_over(current, target)
        except Exception as error:  # whatever it is, users must not stay where it happened
            raise self._gone_wrong(error, current) from error
        self._record(request, target)

    def _bring_schema_there(self, current: Pointer, target: Manifest, way: Way) -> Manifest:
        journal = self._journal
        target = dataclasses.replace(
            target,
            schema_before=journal.schema_before,
            migration_class=journal.migration_class,
            restore_point=journal.restore_point,
        )
        if not way.revisions:
            return target
        if not target.restore_point:
            with self._step("restore_point"):
                target = dataclasses.replace(target, restore_point=self._make_restore_point(target.release_id))
                self._note(restore_point=target.restore_point)
        if journal.interrupts:
            self._interrupt(current)
        with self._step("migrate"):
            self.engine.once(
                self.host.compose_file(target.colour),
                self.application.migration,
                self.application.upgrade,
                self.terms.migrate,
                f"The migrations of {target.release_id} failed",
            )
        return target

    def _bring_schema_back(self, current: Pointer, way: Way) -> None:
        if not way.downgrade_to:
            return
        self._interrupt(current)
        with self._step("migrate"):
            self._downgrade(current.colour, way.downgrade_to)

    def _downgrade(self, colour: str, revision: str) -> None:
        """Take the schema back, with the image that knows how: the newer one's."""
        self.engine.once(
            self.host.compose_file(colour),
            self.application.migration,
            [*self.application.downgrade, revision],
            self.terms.migrate,
            f"The schema could not be taken back to {revision}",
        )

    def _make_restore_point(self, release_id: str) -> str:
        if not self.application.restore_point:
            return ""
        name = f"pre-{release_id}-{_moment():%Y%m%dT%H%M%SZ}"
        command = [part.replace("{name}", name) for part in self.application.restore_point]
        status, said = self.run(command, {})
        if status != 0:
            raise FlowauditError(f"PostgreSQL made no restore point: {said}")
        return name

    def _interrupt(self, current: Pointer) -> None:
        """Nobody works on the old schema any more: the maintenance page, and no worker."""
        with self._step("interrupt"):
            self._write_switch(current.colour, maintenance=True)
            self._stop_background(current.colour)

    def _start(self, target: Manifest) -> None:
        with self._step("start"):
            self.records.keep_running()
            self.outcome.warm = bool(self._warm)
            if not self._warm:
                ill = any(each.running and not each.well for each in self._containers(target.colour).values())
                file, services = self.host.compose_file(target.colour), list(self.application.public)
                self.engine.up(file, services, self.terms.wait, recreate=ill)
        with self._step("settle"):
            # One that is gone back to has settled when it was deployed, and users are waiting.
            deadline = time.monotonic() + (0 if self._journal.action == "rollback" else self.terms.settle)
            containers = self._warm or self._containers(target.colour)
            while True:
                self._require_health(containers, target)
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.5)
            for check in self.tests.direct:
                smoke.require(self._direct(containers, check.service), check)

    def _running_already(self, request: Request, target: Manifest) -> Mapping[str, Container]:
        """The colour's containers, where a rollback finds it running just as it is wanted; else none.

        A run that goes on from another asks Compose in any case: that one may have written the file and not got to its
        containers. So does a deployment.
        """
        if self.outcome.resumed_at or read_file(self.host.compose_file(target.colour)) != request.compose_file:
            return {}
        containers = self._containers(target.colour)
        images = set(target.images.values())
        warm = len(containers) == len(self.application.public) and all(
            each.well and each.image in images for each in containers.values()
        )
        return containers if warm else {}

    def _flip(self, target: Manifest) -> None:
        with self._step("flip"):
            self._write_switch(target.colour)
        with self._step("confirm"):
            self._confirm(target.release_id)
            self.outcome.confirmed_after = round(time.monotonic() - self.began, 3)
            if self.tests.portal is not None:
                for check in self.tests.edge:
                    smoke.require(self.tests.portal, check)
            if self.tests.command:
                status, said = self.run(
                    self.tests.command, {"RELEASE_ID": target.release_id, "RELEASE_COLOUR": target.colour}
                )
                if status != 0:
                    raise FlowauditError(f"The smoke test {self.tests.command[0]} failed: {said}")

    def _watch(self, target: Manifest, log: watch.AccessLog, before: watch.Count) -> None:
        with self._step("watch"):
            after, deadline = watch.Count(), time.monotonic() + self.terms.watch
            while True:
                found = watch.count(log.read(), self._servers(target.colour))
                after.answers, after.errors = after.answers + found.answers, after.errors + found.errors
                if watch.rises(before, after, ratio=self.terms.error_ratio, least=self.terms.errors_least):
                    raise FlowauditError(
                        f"Errors rise since the switch: {after.errors} of {after.answers} answers ({after.ratio:.1%}), "
                        f"{before.ratio:.1%} before"
                    )
                ill = [each.name for each in self._containers(target.colour).values() if not each.well]
                if ill:
                    raise FlowauditError(f"After the switch, {', '.join(ill)} is not healthy any more")
                if time.monotonic() >= deadline:
                    return
                time.sleep(1)

    def _hand_over(self, current: Pointer, target: Manifest) -> None:
        with self._step("hand_over"):
            self._stop_background(current.colour)
            self._start_background(target.colour)

    def _record(self, request: Request, target: Manifest) -> None:
        with self._step("record"):
            if request.action == "deploy":
                target = dataclasses.replace(target, deployed_at=now(), timings=dict(self.outcome.timings))
            self.records.serve(target)
        try:
            with self._step("tidy"):
                self._tidy(self._journal)
        except (FlowauditError, OSError) as error:
            raise FlowauditError(
                f"{target.release_id} serves, but tidying up after it failed: {str(error).rstrip('.')}; run it again."
            ) from error
        self._served(Pointer(target.release_id, target.colour), changed=True)
        self.outcome.previous_id = self._journal.origin.release_id
        self._describe(target)

    def _describe(self, target: Manifest) -> None:
        for name in ("images", "git_commit", "migration_class", "schema_before", "restore_point"):
            setattr(self.outcome, name, getattr(target, name))

    def _tidy(self, journal: Journal) -> None:
        """What is left once the release serves and is recorded."""
        origin = journal.origin
        if journal.action == "deploy":
            self.records.came_after(origin)
        else:
            self.records.came_after(self._deployed_before(journal.target))
            self.outcome.incident = self._collect(origin, f"rolled back to {journal.target.release_id}")
            found = [self.records.manifest(each.release_id) for each in (journal.target, origin)]
            self.outcome.rolled_back_commits = tuple(each.git_commit if each else "" for each in found)
        # On another schema than its own it is of no use to anybody.
        self.records.keep_warm(origin.colour, 0 if journal.interrupts else self.terms.warm)
        self._prune()
        self.records.close()

    def _deployed_before(self, target: Pointer) -> Pointer | None:
        """Where one more rollback leads; never to the release this one takes back."""
        found, _problems = self.records.manifests()
        now = next(each for each in found if each.release_id == target.release_id)
        earlier = plan.before(found, now)
        return Pointer(earlier.release_id, earlier.colour) if earlier else None

    # ── The way back ──

    def _gone_wrong(self, error: Exception, current: Pointer) -> FlowauditError:
        """Take it back; what to say of it."""
        step = self._journal.step
        said = str(error).rstrip(".")
        try:
            self._take_back(current, self._journal)
        except Exception as second:
            return FlowauditError(
                f"{said} (step {step}). Going back to {current.release_id} failed, too: {str(second).rstrip('.')}. "
                "Run the playbook flowaudit.ops.rollback, which takes up from here."
            )
        evidence = f"; its logs are in {self.outcome.incident}" if self.outcome.incident else ""
        return FlowauditError(f"{said} (step {step}). {current.release_id} serves as before{evidence}.")

    def _take_back(self, current: Pointer, journal: Journal) -> None:
        """Bring the release that was current back to what it was, from whatever step."""
        self.outcome.taken_back = journal.describe()
        other = journal.target.colour
        reached = STEPS.index(journal.step)
        if reached > STEPS.index("pull"):
            with contextlib.suppress(FlowauditError, OSError):
                self.outcome.incident = self._collect(journal.target, f"taken back at {journal.step}")
        if journal.interrupts and reached >= STEPS.index("interrupt"):
            # Nobody works on the schema while it changes, wherever the switch leads by now.
            self._write_switch(current.colour, maintenance=True)
            self._stop_background(other)
            self._take_schema_back(current, journal)
        serving = self._containers(current.colour)
        if len(serving) < len(self.application.public) or not all(each.running for each in serving.values()):
            self.engine.up(self.host.compose_file(current.colour), list(self.application.public), self.terms.wait)
        self._write_switch(current.colour)
        if reached >= STEPS.index("interrupt"):
            # However well it is: that is how it was.
            self._confirm(current.release_id, accept=health_document.STATES)
        if reached >= STEPS.index("hand_over"):
            self._stop_background(other)
        if reached >= STEPS.index("interrupt"):
            self._start_background(current.colour)
        if reached >= STEPS.index("start"):
            self.engine.stop(self.host.compose_file(other), list(self.application.public), self.terms.grace)
        self.records.close()

    def _take_schema_back(self, current: Pointer, journal: Journal) -> None:
        """Bring the database back to what the release that was current needs."""
        newer = self.host.compose_file((current if journal.action == "rollback" else journal.target).colour)
        if self._schema(newer) == journal.schema_before:
            return
        if journal.action == "rollback":
            self.engine.once(
                newer,
                self.application.migration,
                self.application.upgrade,
                self.terms.migrate,
                f"The schema could not be brought back to {current.release_id}",
            )
        else:
            if journal.migration_class == "contract":
                raise FlowauditError(
                    f"The migrations of {journal.target.release_id} removed what {current.release_id} needs; deploy a "
                    "release that works on the new schema, or bring the database back: flowaudit.ops.restore_database "
                    f"-e restore_time={journal.restore_point}"
                )
            self._downgrade(journal.target.colour, journal.schema_before)

    def _collect(self, release: Pointer, why: str) -> str:
        """Keep what a release has written, for whoever looks into it; the directory."""
        directory = os.path.join(
            self.host.incident_directory, f"{_moment():%Y-%m-%dT%H%M%SZ}-release-{release.release_id}"
        )
        os.makedirs(directory, mode=0o750, exist_ok=True)
        collected = sorted(name for name in os.listdir(self.host.incident_directory) if "-release-" in name)
        for name in collected[:-_INCIDENTS]:
            shutil.rmtree(os.path.join(self.host.incident_directory, name))
        services = [*self.application.public, *self.application.background]
        logs = self.engine.logs(self.host.compose_file(release.colour), services)
        handle = os.open(os.path.join(directory, "containers.log.gz"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        with open(handle, "wb") as stream:
            stream.write(gzip.compress(logs.encode()))
        containers = self._containers(release.colour, services)
        about = {
            "release_id": release.release_id,
            "colour": release.colour,
            "why": why,
            "at": now(),
            "containers": {name: dataclasses.asdict(each) for name, each in containers.items()},
        }
        write_json(os.path.join(directory, "release.json"), about, mode=0o640)
        return directory

    def _prune(self) -> None:
        """Forget releases beyond those that are kept, and the images nothing else needs."""
        found, _problems = self.records.manifests()
        needed = [each.release_id for each in (self.records.current(), self.records.previous()) if each]
        gone = plan.superfluous(found, self.terms.keep, needed)
        if not gone:
            return
        kept = {reference for each in found if each not in gone for reference in each.images.values()}
        used = kept | self.engine.images_in_use()
        for each in gone:
            for reference in set(each.images.values()) - used:
                self.engine.remove_image(reference)
            self.records.forget(each.release_id)
            self.outcome.pruned.append(each.release_id)

    # ── Small things ──

    @property
    def _journal(self) -> Journal:
        if self.journal is None:
            raise AssertionError("a change of release without a journal")
        return self.journal

    def _begin(self, request: Request, current: Pointer, target: Manifest, way: Way) -> None:
        """Open the journal, or take up that of the run before; what that one has done to the schema stays said."""
        pointer = Pointer(target.release_id, target.colour)
        if self.journal is None:
            self.journal = Journal(request.action, current, pointer, "prepare", request.actor, now(), way.schema)
        self._note(
            target=pointer,
            interrupts=self._journal.interrupts or way.interrupts,
            migration_class=max(self._journal.migration_class, way.kind, key=manifest.CLASSES.index),
        )

    def _note(self, **changes: t.Any) -> None:
        self.journal = dataclasses.replace(self._journal, **changes)
        self.records.note(self.journal)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """A step; once the journal is open, it says so before it begins, and keeps the furthest."""
        if self.journal is not None and STEPS.index(name) > STEPS.index(self.journal.step):
            self._note(step=name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.outcome.timings[name] = round(self.outcome.timings.get(name, 0) + time.monotonic() - started, 3)

    def _write_compose_file(self, path: str, text: str) -> None:
        if not text:
            raise FlowauditError("compose_file is empty; give the Compose file of the colour the release comes to.")
        if read_file(path) != text:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            write_file(path, text)

    def _write_switch(self, colour: str, *, maintenance: bool = False) -> None:
        text = switch.text(self.host.project, colour, self.application.public, maintenance=maintenance)
        if read_file(self.host.switch_file) != text:
            # Traefik watches the directory, and must not read a file that is half there.
            directory = os.path.dirname(os.path.dirname(self.host.switch_file))
            write_file(self.host.switch_file, text, beside=directory)

    def _containers(self, colour: str, services: Sequence[str] = ()) -> dict[str, Container]:
        return self.engine.containers(f"{self.host.project}-{colour}", list(services or self.application.public))

    def _servers(self, colour: str) -> str:
        """How the addresses of a colour's servers begin, in the edge's log."""
        return f"{self.host.project}-{colour}-"

    def _stop_background(self, colour: str) -> None:
        containers = self._containers(colour, self.application.background)
        active = [service for service, each in containers.items() if not each.stopped]
        if active:
            self.engine.stop(self.host.compose_file(colour), active, self.terms.grace)

    def _start_background(self, colour: str) -> None:
        if self.application.background:
            self.engine.up(self.host.compose_file(colour), list(self.application.background), self.terms.wait)

    def _direct(self, containers: Mapping[str, Container], service: str) -> Place:
        container = containers.get(service)
        address = container.addresses.get(self.host.edge_network, "") if container else ""
        if not address:
            raise FlowauditError(f"{service} does not run, or has no address on {self.host.edge_network}")
        return Place(f"http://{address}:{self.application.public[service]}", address)

    def _require_health(self, containers: Mapping[str, Container], target: Manifest) -> None:
        """Ask the colour itself."""
        place = self._direct(containers, self.tests.health_service)
        found = self._health(place)
        if not health_document.accepted(found, list(self.terms.accept), target.release_id):
            reason = f" ({found.reason})" if found.reason else ""
            raise FlowauditError(
                f"Release {target.release_id} is {found.status}{reason}"
                + (f" and says it is {found.version}" if found.version not in ("", target.release_id) else "")
            )

    def _confirm(self, release_id: str, accept: Sequence[str] = ()) -> None:
        """Wait until the edge leads to the release: what it answers proves more than what it has been told."""
        if self.tests.portal is None:
            return
        deadline, seen = time.monotonic() + _CONFIRM_SECONDS, 0
        while seen < _CONFIRMATIONS:
            found = self._health(self.tests.portal)
            accepted = health_document.accepted(found, list(accept or self.terms.accept), release_id)
            seen = seen + 1 if accepted else 0
            if not seen:
                if time.monotonic() >= deadline:
                    raise FlowauditError(
                        f"Through the edge, {found.version or 'nothing'} answers ({found.status}), not {release_id}"
                    )
                time.sleep(0.05)

    def _health(self, place: Place) -> health_document.Health:
        try:
            answer = smoke.ask(place, Check(self.tests.health))
        except (OSError, http.client.HTTPException) as error:
            return health_document.unreachable(f"{type(error).__name__}: {error}")
        return health_document.parse(answer.status, answer.body)


def _memory_available() -> int:
    """Bytes of memory that programs can have (proc(5), MemAvailable)."""
    with open("/proc/meminfo", encoding="ascii") as stream:
        for line in stream:
            name, _colon, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    return 0


def now() -> str:
    """The time (RFC 3339, UTC)."""
    return _moment().isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
