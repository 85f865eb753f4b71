# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A repository with a protected inventory, persons with keys, and a trail; Git and ssh-keygen are the real ones."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t
from collections.abc import Iterator

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.change import (
    authorization,
    gate,
    gate_file,
    lifecycle,
    model,
    repository,
    signature,
    tree,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry, home, sqlite

# An hour ahead: what is recorded by the real clock is never later, however long the tests before took.
NOW = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
MINUTE, DAY = datetime.timedelta(minutes=1), datetime.timedelta(days=1)
PROGRAMS = ("git", "ssh-keygen")
PEOPLE = ("alice", "bob", "carol", "dave")
POLICY: dict[str, t.Any] = {
    "approvals": {"low": {"count": 1}, "medium": {"count": 2}, "high": {"count": 2, "roles": ["security"]}},
    "emergency": {"count": 1},
    "roles": {"security": ["carol@example.org"]},
    "windows": [],
    "freezes": [],
    "maximum_age_days": 30,
    "standard": ["routine.yml"],
}
WANTED: dict[str, t.Any] = {
    "title": "Touch it",
    "reason": "It has to be touched.",
    "kind": "normal",
    "risk": "medium",
    "ticket": "OPS-17",
    "strategy": "rolling",
    "governance": "change board",
    "rollback": "Touch it back.",
    "rollback_playbook": "back.yml",
    "release": "",
    "digests": [],
    "staging_run": "",
    "valid_days": 14,
    "scope": {"hosts": ["h1", "h2"], "playbooks": ["play.yml"], "variables": {}, "tags": [], "skip_tags": []},
}


@dataclasses.dataclass
class Project:
    """A repository, its changes, and the trail of a control node; each person has a key."""

    directory: pathlib.Path
    keys: pathlib.Path

    @property
    def top(self) -> pathlib.Path:
        return self.directory / "repository"

    @property
    def gate_path(self) -> pathlib.Path:
        return self.top / "inventories" / "production" / "gate.yml"

    @property
    def trail(self) -> pathlib.Path:
        return self.directory / "trail"

    def place(self, change_id: str) -> pathlib.Path:
        return self.top / "changes" / "production" / change_id

    # ── The repository ───────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, name: str, content: t.Any) -> pathlib.Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return path

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.top), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "Change something")

    def write_gate(self, policy: dict[str, t.Any] | None = None, **more: t.Any) -> None:
        value = {"plugin": gate_file.PLUGIN, "name": "production", "policy": {**POLICY, **(policy or {})}, **more}
        self.write("inventories/production/gate.yml", value)

    def gate(self) -> gate.Gate:
        return gate_file.load(self.gate_path)

    # ── The changes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def person(self, name: str) -> lifecycle.Person:
        return lifecycle.Person(f"{name}@example.org", str(self.keys / name))

    def sign(self, document: bytes, name: str, namespace: str) -> bytes:
        return signature.sign(document, str(self.keys / name), namespace)

    def requested(
        self, by: str = "alice", now: datetime.datetime = NOW, proof: bytes = b"", **more: t.Any
    ) -> model.Change:
        scope = {**WANTED["scope"], **more.pop("scope", {})}
        wanted = {**WANTED, **more, "scope": scope}
        change, step = lifecycle.request(self.gate(), wanted, ["h1", "h2", "h3"], self.person(by), now, proof)
        self.put(step)
        return change

    def approved(self, *people: str, **more: t.Any) -> model.Change:
        change = self.requested(**more)
        for name in people or ("bob", "carol"):
            signed = self.sign(change.document, name, signature.APPROVAL)
            self.file(change, f"approvals/{name}@example.org.sig", signed)
        return change

    def put(self, step: lifecycle.Step) -> None:
        for path, content in step.files.items():
            repository.write(path, content)

    def file(self, change: model.Change, name: str, content: bytes) -> pathlib.Path:
        return repository.write(self.place(change.id) / name, content)

    def state(self, of: model.Change, name: str, by: str = "bob", **more: t.Any) -> None:
        """Say something of a change as somebody does who does not ask."""
        namespace = {"revocation": signature.REVOCATION, "review": signature.REVIEW}[name]
        value = {
            "id": of.id,
            "change": digest(of),
            "principal": f"{by}@example.org",
            "reason": "Because.",
            "at": entry.timestamp(),
        }
        document = json.dumps({**value, **more}).encode()
        self.file(of, f"{name}.json", document)
        self.file(of, f"{name}.sig", self.sign(document, by, namespace))

    def standing(self, change: model.Change, log: sqlite.SqliteLog | None = None) -> gate.Standing:
        return gate.stand(self.gate(), change.id, log)


def digest(change: model.Change) -> str:
    return hashlib.sha256(change.document).hexdigest()


def ran(
    log: sqlite.SqliteLog,
    change: model.Change,
    status: str = "ok",
    run: str = "run-1",
    at: datetime.datetime = NOW,
    **more: t.Any,
) -> None:
    """Record a run of a change; without a status it has not ended."""
    fields = {
        "playbooks": ["play.yml"],
        "hosts": ["h1", "h2"],
        "check": False,
        "rollback": False,
        "document": digest(change),
        "kind": str(change.kind),
        "inventory": change.inventory,
        "digests": [],
        "code": dataclasses.asdict(change.code),
    }
    of = {"run": run, "chg": change.id, "ts": entry.timestamp(at.timestamp())}
    log.append([{"type": entry.RUN_AUTHORIZED, **of, **fields, **more}])
    if status:
        log.append([{"type": entry.RUN_END, **of, "status": status}])


def entries(log: sqlite.SqliteLog, kind: str) -> list[dict[str, t.Any]]:
    values = [json.loads(row.line) for row in log.rows() if row.line is not None]
    return [value for value in values if value["type"] == kind]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The keys of the persons; mallory's is nobody's."""
    directory = tmp_path_factory.mktemp("keys")
    for name in (*PEOPLE, "mallory"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)]
        subprocess.run(command, check=True)
    return directory


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, keys: pathlib.Path) -> pathlib.Path:
    """The repository that each test gets a copy of."""
    directory = tmp_path_factory.mktemp("template")
    made = Project(directory, keys)
    made.top.mkdir()
    made.write(
        "allowed_signers", "".join(f"{name}@example.org {(keys / f'{name}.pub').read_text()}" for name in PEOPLE)
    )
    for name in ("play.yml", "back.yml", "routine.yml"):
        made.write(name, [{"name": "Test", "hosts": "all"}])
    made.write_gate()
    made.git("init", "-q", "-b", "main")
    for key, value in {"user.name": "Alice", "user.email": "alice@example.org", "gc.auto": "0"}.items():
        made.git("config", key, value)
    made.commit()
    return made.top


@pytest.fixture
def tools(tmp_path: pathlib.Path, guard: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the test start Git and ssh-keygen, and nothing else, with temporary files of its own."""
    strict = guard._violation

    def violation(event: str, arguments: tuple[t.Any, ...]) -> str | None:
        return (
            None
            if event == "subprocess.Popen" and pathlib.Path(os.fsdecode(arguments[0])).name in PROGRAMS
            else strict(event, arguments)
        )

    monkeypatch.setattr(guard, "_violation", violation)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    for name in [name for name in os.environ if name.startswith(("GIT_", "SSH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(place))
    # Where a directory is emptied by its descriptor, the guard takes names to be of the working directory.
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def collection() -> str:
    """The digest of this collection, once: somebody may be working on it."""
    return tree.collection_digest()


@pytest.fixture
def project(
    tmp_path: pathlib.Path,
    keys: pathlib.Path,
    template: pathlib.Path,
    collection: str,
    tools: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """A protected inventory, with nothing requested."""
    monkeypatch.setattr(tree, "collection_digest", lambda: collection)
    shutil.copytree(template, tmp_path / "repository")
    return Project(tmp_path, keys)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> Iterator[sqlite.SqliteLog]:
    """The trail of the control node, with its first entry."""
    made = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.3.0", "test")
    yield made
    made.close()


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nothing granted in this process, before and afterwards."""
    monkeypatch.setattr(authorization._Process, "granted", None)
    monkeypatch.setattr(authorization._Process, "by", "")
    monkeypatch.setattr(authorization._Process, "code", None)
