# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A protected inventory of real ssh servers, a repository with its changes, and persons with keys."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.change import (
    gate_file,
    lifecycle,
    model,
    repository,
    signature,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, sqlite

CHECKOUT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
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
REQUEST: dict[str, t.Any] = {
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
TOUCH = {"name": "Touch", "ansible.builtin.raw": "true", "changed_when": True}


@dataclasses.dataclass
class Target:
    """An ssh server that writes down who comes."""

    name: str
    port: int
    log: pathlib.Path

    def visits(self) -> int:
        """How often somebody has logged in."""
        return self.log.read_text().count("Accepted publickey") if self.log.exists() else 0

    def certificates(self) -> list[str]:
        """The key ids of the certificates that somebody has logged in with."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.partition(" ID ")[2].partition(" (serial")[0] for line in lines if "Accepted publickey" in line]


@dataclasses.dataclass
class Site:
    """A control node: a repository with a protected inventory, its changes, a trail."""

    directory: pathlib.Path
    keys: pathlib.Path
    targets: list[Target]
    environment: dict[str, str]

    @property
    def top(self) -> pathlib.Path:
        return self.directory / "repository"

    @property
    def gate_path(self) -> pathlib.Path:
        return self.top / "inventories" / "production" / "gate.yml"

    @property
    def changes(self) -> pathlib.Path:
        return self.top / "changes" / "production"

    # ── The repository ───────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, name: str, content: t.Any) -> pathlib.Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            textwrap.dedent(content) if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        )
        return path

    def playbook(self, name: str, *tasks: t.Any, **play: t.Any) -> pathlib.Path:
        return self.write(name, [{"name": "Test", "hosts": "all", "gather_facts": False, **play, "tasks": list(tasks)}])

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.top), *words], check=True, capture_output=True, text=True, env=self.environment
        ).stdout

    def commit(self, message: str = "Change something") -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def gate(self, policy: dict[str, t.Any] | None = None, **more: t.Any) -> None:
        hosts = {target.name: {"ansible_port": target.port} for target in self.targets}
        shared = {
            "ansible_host": "127.0.0.1",
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.keys / "operator"),
            "ansible_ssh_common_args": "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no",
        }
        value = {
            "plugin": gate_file.PLUGIN,
            "name": "production",
            "policy": {**POLICY, **(policy or {})},
            "inventory": {"all": {"children": {"nuc": {"hosts": hosts}}, "vars": shared}},
            **more,
        }
        self.write("inventories/production/gate.yml", value)

    # ── The changes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def key(self, person: str) -> str:
        return str(self.keys / person)

    def person(self, name: str) -> lifecycle.Person:
        return lifecycle.Person(f"{name}@example.org", self.key(name))

    def request(
        self, by: str = "alice", now: datetime.datetime | None = None, proof: bytes = b"", **more: t.Any
    ) -> str:
        scope = {**REQUEST["scope"], **more.pop("scope", {})}
        moment = now or datetime.datetime.now(datetime.UTC)
        wanted = {**REQUEST, **more, "scope": scope}
        names = [target.name for target in self.targets]
        change, step = lifecycle.request(gate_file.load(self.gate_path), wanted, names, self.person(by), moment, proof)
        for path, content in step.files.items():
            repository.write(path, content)
        return change.id

    def approve(self, change_id: str, *people: str, namespace: str = signature.APPROVAL) -> None:
        for name in people:
            self.sign(change_id, name, self.key(name), namespace)

    def sign(self, change_id: str, name: str, key: str, namespace: str = signature.APPROVAL) -> None:
        place = self.changes / change_id
        signed = signature.sign((place / "change.json").read_bytes(), key, namespace)
        repository.write(place / "approvals" / f"{name}@example.org.sig", signed)

    def approved(self, *people: str, **more: t.Any) -> str:
        """The id of a change that two have approved."""
        change_id = self.request(**more)
        self.approve(change_id, *(people or ("bob", "carol")))
        return change_id

    # ── Running ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self, *words: str, tool: str = "ansible-playbook", inventory: str = "inventories/production", **more: t.Any
    ) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / tool), *(["-i", inventory] if inventory else []), *words]
        environment = self.environment | more.pop("env", {})
        return subprocess.run(
            command,
            check=False,
            env=environment,
            cwd=more.pop("cwd", self.top),
            stdin=subprocess.DEVNULL if "input" not in more else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            **more,
        )

    def visits(self) -> dict[str, int]:
        return {target.name: target.visits() for target in self.targets}

    def log(self) -> sqlite.SqliteLog:
        return sqlite.SqliteLog(home.Home(self.directory / "trail"))

    def entries(self, kind: str) -> list[dict[str, t.Any]]:
        if not (self.directory / "trail" / "trail.sqlite3").exists():
            return []
        log = self.log()
        try:
            values = [json.loads(row.line) for row in log.rows() if row.line is not None]
        finally:
            log.close()
        return [value for value in values if value["type"] == kind]

    def change(self, change_id: str) -> model.Change:
        return model.read((self.changes / change_id / "change.json").read_bytes())


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_keys(directory: pathlib.Path) -> pathlib.Path:
    """The keys of the persons, of the operator's connections and of the servers."""
    for name in (*PEOPLE, "mallory", "operator", "server", "second"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)], check=True
        )
    return directory


def _ssh_server(
    sshd: str, name: str, directory: pathlib.Path, keys: pathlib.Path, options: str
) -> tuple[Target, subprocess.Popen[bytes]]:
    """One that listens, on a port that nobody took between the choice of it and its start."""
    configuration, log = directory / f"{name}.conf", directory / f"{name}.log"
    deadline = time.monotonic() + 20
    while True:
        target = Target(name, _free_port(), log)
        configuration.write_text(
            f"Port {target.port}\nListenAddress 127.0.0.1\nHostKey {keys}/server\nPidFile none\nStrictModes no\n"
            f"PermitRootLogin yes\nUsePAM no\nMaxStartups 200\nSubsystem sftp internal-sftp\n{options}\n"
        )
        process = subprocess.Popen([sshd, "-D", "-f", str(configuration), "-E", str(log)])
        # Whoever has the port would answer there, too; its own log does not.
        while process.poll() is None:
            if log.exists() and f"Server listening on 127.0.0.1 port {target.port}" in log.read_text():
                return target, process
            assert time.monotonic() < deadline, f"{name} does not listen."
            time.sleep(0.05)
        assert time.monotonic() < deadline, f"{name} does not start: {log.read_text()}"


@contextlib.contextmanager
def ssh_servers(
    directory: pathlib.Path, keys: pathlib.Path, options: t.Callable[[str], str]
) -> t.Iterator[list[Target]]:
    """Three hosts: h1 and h2 are usually in the change, h3 never is; ``options`` says whom each lets in."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd, "sshd is missing: tests/packages openssh-server installs it."
    pathlib.Path("/run/sshd").mkdir(exist_ok=True)
    started, found = [], []
    for name in ("h1", "h2", "h3"):
        target, process = _ssh_server(sshd, name, directory, keys, options(name))
        found.append(target)
        started.append(process)
    yield found
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def environment(home: pathlib.Path) -> dict[str, str]:
    """That of a person whose home is there, with nothing of Ansible's, Git's or a CI job's in it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "FLOWAUDIT_", "GIT_"))}
    kept.pop("CI", None)
    return kept | {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "Alice",
        "GIT_AUTHOR_EMAIL": "alice@example.org",
        "GIT_COMMITTER_NAME": "Alice",
        "GIT_COMMITTER_EMAIL": "alice@example.org",
    }


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Keys of persons and servers."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory, keys: pathlib.Path) -> t.Iterator[list[Target]]:
    """Hosts that let in the operator's key."""
    directory = tmp_path_factory.mktemp("targets")
    authorized = directory / "authorized_keys"
    authorized.write_text((keys / "operator.pub").read_text())
    with ssh_servers(directory, keys, lambda name: f"AuthorizedKeysFile {authorized}") as found:
        yield found


@pytest.fixture
def site(tmp_path: pathlib.Path, keys: pathlib.Path, targets: list[Target]) -> Site:
    """A protected inventory of three hosts, with a repository, and nothing requested."""
    made = Site(tmp_path, keys, targets, environment(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    made.top.mkdir()
    made.git("init", "-q", "-b", "main")
    made.write(
        "ansible.cfg",
        f"""\
        [defaults]
        collections_path = {BIN.parent / "collections"}
        local_tmp = {tmp_path / "local"}
        retry_files_enabled = false
        nocows = true
        forks = 5
        [flowaudit_trail]
        directory = {tmp_path / "trail"}
        accept_ephemeral = true
        [ssh_connection]
        control_path_dir = {tmp_path / "cp"}
        ssh_args = -o ControlMaster=no
        """,
    )
    signers = [f"{name}@example.org {(keys / f'{name}.pub').read_text()}" for name in PEOPLE]
    made.write("allowed_signers", "".join(signers))
    made.gate()
    made.playbook("play.yml", TOUCH)
    made.playbook("back.yml", TOUCH)
    made.playbook("routine.yml", TOUCH)
    made.commit("Begin")
    return made
