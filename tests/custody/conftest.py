# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A control node in custody: a service of its own user, an operator without privileges, hosts that trust one CA."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import typing as t

import pytest
import yaml

from ansible_collections.flowaudit.ops.plugins.module_utils.custody import certificate, client
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, run, sqlite, verify

from ..gate.conftest import BIN, CHECKOUT, PEOPLE, TOUCH, Site, Target, environment, make_keys, ssh_servers

# Accounts that every Debian has and nobody uses: tests leave none behind.
CUSTODIAN, OPERATOR, OTHER = "backup", "games", "news"


def _python() -> tuple[str, str]:
    """An interpreter that others may run, and what it needs in PYTHONPATH to be that of these tests."""
    own = pathlib.Path(sys.executable).resolve()
    if all(directory.stat().st_mode & 0o001 for directory in own.parents):
        return sys.executable, ""
    system = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    return system, sysconfig.get_path("purelib")


PYTHON, PYTHONPATH = _python()


def _closed() -> str:
    """Why another account could not run this checkout; empty when it can."""
    if os.geteuid() != 0:
        return "Only root runs things as other accounts."
    if not os.access(PYTHON, os.X_OK):
        return f"{sys.executable} is for its owner alone, and there is no {PYTHON}."
    site = pathlib.Path(sysconfig.get_path("purelib"))
    closed = [place for place in (site, *site.parents, CHECKOUT, *CHECKOUT.parents) if not place.stat().st_mode & 0o001]
    return f"{closed[0]} is closed to other accounts." if closed else ""


SERVE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], "--configuration", sys.argv[3], "serve"])
"""
MAIN = """
import sys
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import service
sys.exit(service.main())
"""
# A client of somebody's own making: says what it likes, shows what comes back.
ASK = """
import json, socket, sys
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client, protocol
custody = client.Custody(sys.argv[1])
for message in json.loads(sys.argv[2]):
    try:
        protocol.send(custody._connection, message)
        print(json.dumps(protocol.receive(custody._connection)), flush=True)
    except client.FlowauditError as error:
        print(json.dumps({"gone": str(error)}), flush=True)
        break
"""


@dataclasses.dataclass
class Custodian:
    """The service, and what only its user may read."""

    directory: pathlib.Path
    configuration: pathlib.Path
    path: pathlib.Path
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        descriptor = self.listener.fileno()
        with (self.directory.parent / "custody.log").open("ab") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-c", SERVE, str(descriptor), MAIN, str(self.configuration)],
                pass_fds=[descriptor],
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": PYTHONPATH},
                cwd="/",
                stderr=log,
                **as_user(CUSTODIAN),
            )
        # The socket is there before the service, so an answer says that it is.
        try:
            with self.connected() as custody:
                custody.ask({"do": "checkpoint"})
        except client.FlowauditError as error:
            pytest.fail(f"{error} {self.said()}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(40)

    def said(self) -> str:
        return (self.directory.parent / "custody.log").read_text()

    @contextlib.contextmanager
    def connected(self) -> t.Iterator[client.Custody]:
        custody = client.Custody(str(self.path))
        try:
            yield custody
        finally:
            custody.close()

    def authority(self, inventory: str = "production") -> str:
        """What the hosts of an inventory have to trust."""
        with self.connected() as custody:
            return str(custody.ask({"do": "status"})["inventories"][inventory]["authority"])

    def log(self) -> sqlite.SqliteLog:
        return sqlite.SqliteLog(home.Home(self.directory / "trail"))

    def entries(self, kind: str = "") -> list[dict[str, t.Any]]:
        with contextlib.closing(self.log()) as log:
            values = [json.loads(row.line) for row in log.rows() if row.line is not None]
        return [value for value in values if not kind or value["type"] == kind]

    def verified(self) -> verify.Report:
        with contextlib.closing(self.log()) as log:
            return verify.verify(log.origin, log.rows(), log.checkpoints())

    def all_ended(self) -> bool:
        with contextlib.closing(self.log()) as log:
            return run.unended(log) == []


@dataclasses.dataclass
class Node(Site):
    """The control node: a site whose operator has no privileges."""

    custodian: Custodian = dataclasses.field(kw_only=True)
    account: str = OPERATOR
    started: list[subprocess.Popen[str]] = dataclasses.field(default_factory=list)

    def run(
        self, *words: str, tool: str = "ansible-playbook", inventory: str = "inventories/production", **more: t.Any
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, tool=tool, inventory=inventory, **more)
        output, _nothing = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start(
        self, *words: str, tool: str = "ansible-playbook", inventory: str = "inventories/production", **more: t.Any
    ) -> subprocess.Popen[str]:
        command = [PYTHON, str(BIN / tool), *(["-i", inventory] if inventory else []), *words]
        process = subprocess.Popen(
            command,
            env=self.environment | more.pop("env", {}),
            cwd=more.pop("cwd", self.top),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **as_user(more.pop("account", self.account)),
            **more,
        )
        self.started.append(process)
        return process

    def python(self, source: str, *words: str, account: str = OPERATOR) -> subprocess.CompletedProcess[str]:
        """What somebody does by hand."""
        return subprocess.run(
            [PYTHON, "-c", source, *words],
            check=False,
            cwd="/",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            **as_user(account),
        )

    def ask(self, *messages: dict[str, t.Any], account: str = OPERATOR) -> list[dict[str, t.Any]]:
        """The service's answers to messages that somebody sends over one connection."""
        done = self.python(ASK, str(self.custodian.path), json.dumps(messages), account=account)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wish(self, approved: str, /, **more: t.Any) -> dict[str, t.Any]:
        """The message that asks whether a command may begin; ``more`` is what somebody would rather have."""
        command = {
            "program": "ansible-playbook",
            "playbooks": ["play.yml"],
            "change_id": approved,
            "hosts": ["h1", "h2"],
            "variables": [],
            "tags": [],
            "skip_tags": [],
            "check": False,
            "problems": [],
        }
        public = (self.keys / "second.pub").read_text()
        return {
            "do": "authorize",
            "inventory": "production",
            "inventory_hosts": ["h1", "h2", "h3"],
            "public_key": public,
            "command": command | more,
        }

    def ssh(self, host: Target, *options: str, account: str = OPERATOR) -> subprocess.CompletedProcess[str]:
        """A plain login, by hand."""
        return subprocess.run(
            [
                *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile=/dev/null"),
                *("-o", "StrictHostKeyChecking=no", "-p", str(host.port), *options, "root@127.0.0.1", "true"),
            ],
            check=False,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            **as_user(account),
        )

    def own(self) -> None:
        """What is written by the test belongs to the operator."""
        for path in (self.directory, *self.directory.rglob("*")):
            if not path.is_relative_to(self.custodian.directory):
                os.lchown(path, pwd.getpwnam(self.account).pw_uid, -1)

    def commit(self, message: str = "Change something") -> None:
        super().commit(message)
        self.own()

    def entries(self, kind: str) -> list[dict[str, t.Any]]:
        return self.custodian.entries(kind)

    def approved(self, *people: str, **more: t.Any) -> str:
        change_id = super().approved(*people, **more)
        self.own()
        return change_id


def as_user(name: str) -> dict[str, t.Any]:
    account = pwd.getpwnam(name)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@pytest.fixture
def place() -> t.Iterator[pathlib.Path]:
    """A directory that others may go through; pytest's own are for one user."""
    if why := _closed():
        pytest.skip(why)
    made = pathlib.Path(tempfile.mkdtemp(prefix="flowaudit-custody-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def custodian(place: pathlib.Path) -> t.Iterator[Custodian]:
    """A running service with a trail and a CA of its own."""
    directory = place / "custody"
    directory.mkdir(0o700)
    os.chown(directory, pwd.getpwnam(CUSTODIAN).pw_uid, -1)
    configuration = place / "custody.yml"
    gate = place / "repository" / "inventories" / "production" / "gate.yml"
    value = {"directory": str(directory), "inventories": {"production": {"gate": str(gate)}}}
    configuration.write_text(yaml.safe_dump(value))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "custody.sock"))
    # As the role has it: operators, by their group.
    os.chown(place / "custody.sock", 0, grp.getgrnam(OPERATOR).gr_gid)
    (place / "custody.sock").chmod(0o660)
    listener.listen(128)
    made = Custodian(directory, configuration, place / "custody.sock", listener)
    with listener:
        made.start()
        yield made
        made.stop()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Keys of persons and servers."""
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def hosts(place: pathlib.Path, custodian: Custodian, keys: pathlib.Path) -> t.Iterator[list[Target]]:
    """Hosts that let in who has a certificate of the CA that names them, and nobody else."""
    (place / "ca.pub").write_text(custodian.authority())
    for name in ("h1", "h2", "h3"):
        (place / f"{name}.principals").write_text(f"{certificate.principal(name)}\n")

    def options(name: str) -> str:
        return (
            f"TrustedUserCAKeys {place}/ca.pub\nAuthorizedPrincipalsFile {place}/{name}.principals\n"
            "AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no"
        )

    with ssh_servers(place, keys, options) as found:
        yield found


@pytest.fixture
def node(place: pathlib.Path, custodian: Custodian, hosts: list[Target], keys: pathlib.Path) -> t.Iterator[Node]:
    """A control node whose production inventory root has adopted."""
    own = environment(place / "home") | {"PYTHONPATH": PYTHONPATH, "GIT_CONFIG_GLOBAL": str(place / "gitconfig")}
    for name in ("SSH_AUTH_SOCK", "TMPDIR"):
        own.pop(name, None)
    made = Node(place, keys, hosts, own, custodian=custodian)
    (place / "home").mkdir()
    # The tests' own Git, whose user is not the operator.
    (place / "gitconfig").write_text("[safe]\ndirectory = *\n")
    made.top.mkdir()
    made.git("init", "-q", "-b", "main")
    made.write(
        "ansible.cfg",
        f"""\
        [defaults]
        collections_path = {BIN.parent / "collections"}
        local_tmp = {place / "local"}
        remote_tmp = {place / "remote"}
        retry_files_enabled = false
        nocows = true
        [flowaudit_trail]
        custody = {custodian.path}
        [ssh_connection]
        ssh_args = -o ControlMaster=auto -o ControlPersist=10s
        """,
    )
    made.write("allowed_signers", "".join(f"{n}@example.org {(keys / f'{n}.pub').read_text()}" for n in PEOPLE))
    made.gate()
    for name in ("play.yml", "back.yml", "routine.yml"):
        made.playbook(name, TOUCH)
    made.commit("Begin")
    with custodian.connected() as custody:
        custody.ask({"do": "adopt", "inventory": "production"})
    yield made
    # What a test that failed has left running.
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()
