# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host as a change of release meets it: an engine with containers, a database with a schema, an edge that follows the
switch file. Everything but the files is made up; a run can be killed at every command and every write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import typing as t
from collections.abc import Iterator, Mapping, Sequence

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils import files
from ansible_collections.flowaudit.ops.plugins.module_utils.engine import Engine, Result
from ansible_collections.flowaudit.ops.plugins.module_utils.release import records, sequence, smoke, switch
from ansible_collections.flowaudit.ops.plugins.module_utils.release.records import Records
from ansible_collections.flowaudit.ops.plugins.module_utils.release.request import (
    Application,
    Host,
    Outcome,
    Request,
    Terms,
    Tests,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.release.smoke import Check, Place

PORTAL = Place("https://portal.example.org", "127.0.0.1")
PUBLIC = {"backend": 8000, "frontend": 8080}


class Kill(BaseException):
    """SIGKILL: nothing of ours runs any more."""


@dataclasses.dataclass(frozen=True)
class Release:
    """What an image would be.

    Attributes:
        works_on: the revisions of the database it can work with.
        healthy: whether its containers become healthy.
    """

    release_id: str
    migrations: str
    works_on: tuple[str, ...]
    healthy: bool = True

    @property
    def images(self) -> dict[str, str]:
        return {name: f"registry:5000/{name}@sha256:{self.digest(name)}" for name in PUBLIC}

    def digest(self, name: str) -> str:
        return f"{name}-{self.release_id}".encode().hex().ljust(64, "0")[:64]

    @property
    def commit(self) -> str:
        return self.release_id.encode().hex()

    @property
    def labels(self) -> dict[str, str]:
        return {
            "org.opencontainers.image.version": self.release_id,
            "org.opencontainers.image.revision": self.commit,
            "ops.flowaudit.migrations": self.migrations,
        }

    @property
    def revisions(self) -> list[str]:
        return [each.partition("=")[0] for each in self.migrations.split(",")]


RELEASES = {
    each.release_id: each
    for each in (
        Release("1.0.0", "0001=none", ("0001", "0002")),
        Release("1.1.0", "0001=none,0002=expand", ("0002",)),
        Release("1.1.1", "0001=none,0002=expand", ("0002",)),
        Release("1.2.0", "0001=none,0002=expand,0003=breaking", ("0003",)),
        Release("1.3.0", "0001=none,0002=expand,0003=breaking", ("0003",), healthy=False),
        Release("2.0.0", "0001=none,0002=expand,0003=contract", ("0003",)),
        Release("2.0.1", "0001=none,0002=expand,0003=contract", ("0003",)),
    )
}


@dataclasses.dataclass
class FakeHost:
    directory: pathlib.Path
    schema: str = "0001"
    pulled: set[str] = dataclasses.field(default_factory=set)
    #: container → (image, running)
    containers: dict[str, tuple[str, bool]] = dataclasses.field(default_factory=dict)
    #: containers that have become unhealthy, and stay so until they are made anew
    ill: set[str] = dataclasses.field(default_factory=set)
    #: containers that the engine starts again and again
    restarting: set[str] = dataclasses.field(default_factory=set)
    #: words of a command → what it says when it fails
    failing: dict[str, str] = dataclasses.field(default_factory=dict)
    commands: list[str] = dataclasses.field(default_factory=list)
    restore_points: list[str] = dataclasses.field(default_factory=list)
    #: how many more commands and writes come through before the kill; None for all
    lives: int | None = None
    #: what has happened at the edge: (release, service) of everything that could have been answered
    served: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        for each in ("state", "projects", "edge/dynamic", "incidents"):
            (self.directory / each).mkdir(parents=True)
        self.records = Records(str(self.directory / "state"))
        self.switch_file = self.directory / "edge/dynamic/switch.yml"
        self.access_log = self.directory / "access.log"
        self.host = Host(
            project="app",
            project_directory=str(self.directory / "projects"),
            switch_file=str(self.switch_file),
            access_log=str(self.access_log),
            edge_network="edge",
            incident_directory=str(self.directory / "incidents"),
            engine_directory=str(self.directory),
        )
        self.terms = Terms(
            wait=1,
            settle=0,
            watch=0,
            error_ratio=0.02,
            errors_least=5,
            warm=60,
            keep=3,
            lock_wait=0,
            pull=1,
            migrate=1,
            grace=1,
            free_disk=0,
            free_memory=0,
            accept=["healthy", "degraded"],
        )

    # ── What a test does ──

    def install(self, release_id: str) -> None:
        """What provisioning does."""
        release = RELEASES[release_id]
        self.pulled.update(release.images.values())
        self.schema = release.revisions[-1]
        write(self.host.compose_file("blue"), compose_file(release, "blue"))
        for service in (*PUBLIC, "worker"):
            self.containers[f"app-blue-{service}-1"] = (image_of(release, service), True)
        self.switch_file.write_text(switch.text("app", "blue", PUBLIC))
        self.change("record", release_id, colour="blue")

    def change(self, action: str, release_id: str = "", **more: t.Any) -> Outcome:
        """Change the release, as the module does."""
        current = self.records.current()
        spare = "green" if current is None or current.colour == "blue" else "blue"
        previous, journal = self.records.previous(), self.records.journal()
        begun = journal.target.release_id if journal and journal.action == "rollback" else ""
        wanted = release_id or begun or (previous.release_id if previous else "")
        values: dict[str, t.Any] = {
            "action": action,
            "release_id": release_id,
            "colour": spare,
            "compose_file": compose_file(RELEASES[wanted], spare) if wanted in RELEASES else "",
            "images": RELEASES[wanted].images if wanted in RELEASES else {},
            "migrations": None,
            "accept_interruption": False,
            "actor": "ada",
            "change_id": "CHG-1",
        }
        request = Request(**{**values, **more})
        with self.records.lock(0, {"action": action, "release_id": wanted, "actor": "ada", "since": "now"}):
            change = sequence.Change(
                self.records, Engine(self.run), self.host, self.application, self.terms, self.tests, self.command
            )
            return change.adopt(request) if action == "record" else change.make(request)

    @property
    def application(self) -> Application:
        return Application(
            public=PUBLIC,
            background=["worker"],
            migration="migrate",
            upgrade=["upgrade"],
            downgrade=["downgrade"],
            schema=["schema"],
            restore_point=["restore-point", "{name}"],
        )

    @property
    def tests(self) -> Tests:
        return Tests(
            health="/api/health",
            health_service="backend",
            direct=[Check("/api/health", "backend"), Check("/healthz", "frontend")],
            edge=[Check("/")],
            portal=PORTAL,
            command=["smoke-test"],
        )

    # ── What a test looks at ──

    @property
    def serving(self) -> str:
        """The release users meet; empty when it is none that works, or the maintenance page."""
        content = self.switch_file.read_text()
        if switch.is_maintenance(content):
            return ""
        return self.running(switch.colour_of(content))

    def running(self, colour: str) -> str:
        images = {service: self.containers.get(f"app-{colour}-{service}-1", ("", False)) for service in PUBLIC}
        releases = {release_of(image) for image, running in images.values() if running}
        if len(releases) != 1 or not all(running for _image, running in images.values()):
            return ""
        release = RELEASES[releases.pop()]
        return release.release_id if self.schema in release.works_on else ""

    @property
    def workers(self) -> list[str]:
        return sorted(
            release_of(image) for name, (image, running) in self.containers.items() if running and "-worker-" in name
        )

    # ── What the host does ──

    def live(self) -> None:
        if self.lives is not None:
            if self.lives == 0:
                raise Kill
            self.lives -= 1

    def run(self, command: Sequence[str], seconds: float) -> Result:
        self.live()
        words = [*command]
        line = " ".join(words)
        self.commands.append(line)
        for part, said in self.failing.items():
            if part in line:
                return Result(1, "", said)
        result = self._docker(words[1:])
        self.live()
        return result

    def command(self, command: Sequence[str], variables: Mapping[str, str]) -> tuple[int, str]:
        self.live()
        self.commands.append(" ".join(command))
        if command[0] in self.failing:
            return 1, self.failing[command[0]]
        if command[0] == "restore-point":
            self.restore_points.append(command[1])
        return 0, ""

    def _docker(self, words: list[str]) -> Result:
        match words:
            case ["image", "inspect", "--format", _form, *references]:
                here = [each for each in references if each in self.pulled]
                images = [{"digests": [each], "labels": RELEASES[release_of(each)].labels} for each in here]
                missing = "\n" * (len(references) - len(here))
                return Result(bool(missing), missing + "\n".join(json.dumps(each) for each in images), "")
            case ["pull", *_, reference]:
                if release_of(reference) not in RELEASES:
                    return Result(1, "", "manifest unknown")
                self.pulled.add(reference)
                return Result(0, "", "")
            case ["image", "rm", reference]:
                self.pulled.discard(reference)
                return Result(0, "", "")
            case ["rm", "--force", _name]:
                return Result(0, "", "")
            case ["ps", *_]:
                return Result(0, "\n".join(image for image, _running in self.containers.values()), "")
            case ["container", "inspect", *names]:
                here = [self._inspected(name) for name in names if name in self.containers]
                missing = "".join(
                    f"Error: No such container: {name}\n" for name in names if name not in self.containers
                )
                return Result(bool(missing), json.dumps(here), missing)
            case ["compose", *_]:
                return self._compose(words[words.index("--file") + 1], words[words.index("--file") + 2 :])
        raise AssertionError(words)

    def _compose(self, file: str, words: list[str]) -> Result:
        path = pathlib.Path(file)
        colour = path.parent.name.rpartition("-")[2]
        release = RELEASES[path.read_text().split()[0]]
        match words:
            case ["up", *options]:
                anew = "--force-recreate" in options
                services = [
                    each for each in options[options.index("--wait-timeout") + 2 :] if not each.startswith("--")
                ]
                for service in services:
                    if not anew and f"app-{colour}-{service}-1" in self.ill:
                        return Result(1, "", f"container app-{colour}-{service}-1 is unhealthy")
                    self.ill.discard(f"app-{colour}-{service}-1")
                    self.containers[f"app-{colour}-{service}-1"] = (image_of(release, service), True)
                    self.live()
                if not release.healthy or self.schema not in release.works_on:
                    return Result(1, "", "container is unhealthy")
                return Result(0, "", "")
            case ["stop", "--timeout", _grace, *services]:
                for service in services:
                    name = f"app-{colour}-{service}-1"
                    if name in self.containers:
                        self.containers[name] = (self.containers[name][0], False)
                        self.live()
                return Result(0, "", "")
            case ["run", *_, "schema"]:
                return Result(0, f"{self.schema} (head)\n", "")
            case ["run", *_, "upgrade"]:
                # One transaction each; a kill may come between two.
                for revision in release.revisions[release.revisions.index(self.schema) + 1 :]:
                    self.schema = revision
                    self.live()
                return Result(0, "", "")
            case ["run", *_, "downgrade", revision]:
                if self.schema not in release.revisions:
                    return Result(1, "", f"Can't locate revision {self.schema}")
                self.schema = revision
                return Result(0, "", "")
            case ["logs", *_]:
                return Result(0, "backend-1  | it says something\n", "")
        raise AssertionError(words)

    def _inspected(self, name: str) -> dict[str, t.Any]:
        image, running = self.containers[name]
        release = RELEASES[release_of(image)]
        well = release.healthy and self.schema in release.works_on and name not in self.ill
        return {
            "Name": f"/{name}",
            "State": {
                "Status": "restarting" if name in self.restarting else "running" if running else "exited",
                "Health": {"Status": "healthy" if well else "unhealthy"},
            },
            "Config": {"Image": image},
            "NetworkSettings": {"Networks": {"edge": {"IPAddress": name.split("-")[1]}}},
        }

    def ask(self, place: Place, check: Check) -> smoke.Answer:
        """An answer of the portal, or of a colour's container."""
        if place is PORTAL:
            release = self.serving
            self.served.append(release)
            if not release:
                return smoke.Answer(503, b"maintenance", 0.01)
        else:
            release = self.running(place.address)
        if not release or not RELEASES[release].healthy:
            raise ConnectionRefusedError("nobody there")
        document = {"status": "healthy", "version": release, "services": {}}
        return smoke.Answer(200, json.dumps(document).encode(), 0.01)


def release_of(image: str) -> str:
    """The release an image reference is of."""
    text = bytes.fromhex(image.rpartition("sha256:")[2]).rstrip(b"\0").decode()
    return text.partition("-")[2]


def image_of(release: Release, service: str) -> str:
    return release.images["frontend" if service == "frontend" else "backend"]


def compose_file(release: Release, colour: str) -> str:
    return f"{release.release_id} in {colour}\n"


def write(path: str, text: str) -> None:
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)


@contextlib.contextmanager
def fake_host(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHost]:
    host = FakeHost(directory)
    moments = iter(f"2026-01-31T12:{number // 60:02}:{number % 60:02}Z" for number in range(3600))
    with monkeypatch.context() as patch:
        patch.setattr(smoke, "ask", host.ask)
        patch.setattr(sequence, "now", lambda: next(moments))
        patch.setattr(sequence.time, "sleep", lambda seconds: None)
        patch.setattr(sequence, "_CONFIRM_SECONDS", 0)
        original = files.write_file

        def write_file(path: str, text: str, **more: t.Any) -> None:
            host.live()
            original(path, text, **more)
            host.live()

        # What a power failure leaves is not to be seen here, and it is what takes the time.
        patch.setattr(files.os, "fsync", lambda descriptor: None)
        for module in (files, records, sequence):
            patch.setattr(module, "write_file", write_file)
        yield host
