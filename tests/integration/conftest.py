"""Tests against a provisioned set of test hosts: the demo's, or Molecule's. FLOWAUDIT_STATE names the set."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import testinfra
import yaml
from playwright.sync_api import Browser, Playwright, sync_playwright

from .browser import chromium
from .oidc import HOST, PORT, Account, Client, IdentityProvider

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("FLOWAUDIT_STATE", CHECKOUT / ".state" / "demo"))
INVENTORY = CHECKOUT / "inventories" / "demo"
DOMAIN = "flowaudit.localhost"
#: The role edge alone, for tests that need no more of site than that.
EDGE_ALONE = str(CHECKOUT / "tests" / "integration" / "edge" / "edge.yml")
PROJECTS = ("flowaudit", "flowaudit-edge", "flowaudit-blue", "flowaudit-backup")


def wait_until(condition: Callable[[], t.Any], seconds: float, what: str) -> t.Any:
    """The first true value of ``condition``; fails the test when none came in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:g} s")
        time.sleep(0.5)


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: t.Any
    body: bytes

    @property
    def json(self) -> t.Any:
        return json.loads(self.body)


class Portal:
    """The portal as its users meet it: by name and over TLS, without a name server that would have to know it."""

    def __init__(self, ports: dict[str, int], ca: Path | None) -> None:
        self.ports = ports
        self.ca = ca

    def connect(self, scheme: str = "https") -> http.client.HTTPConnection:
        tls = scheme == "https"
        connection = http.client.HTTPConnection(DOMAIN, timeout=30)
        connection.sock = socket.create_connection(
            ("127.0.0.1", self.ports["nuc_443" if tls else "nuc_80"]), timeout=30
        )
        if tls:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=DOMAIN)
        return connection

    def request(
        self, path: str, data: bytes | None = None, *, scheme: str = "https", method: str = "", **headers: str
    ) -> Answer:
        with contextlib.closing(self.connect(scheme)) as connection:
            # A server that refuses a request may close while it is being sent; what it said is there to be read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                connection.request(method or ("POST" if data else "GET"), path, body=data, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str) -> Answer:
        return self.request(path)

    def upload(self, name: str, content: bytes, content_type: str = "text/plain") -> Answer:
        boundary = "flowaudit-test-boundary"
        body = (
            (
                f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                f"Content-Type: {content_type}\r\n\r\n"
            ).encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        return self.request(
            "/api/documents/upload", body, **{"Content-Type": f"multipart/form-data; boundary={boundary}"}
        )

    def healthy(self) -> bool:
        try:
            answer = self.get("/api/health")
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200 and answer.json["status"] == "healthy"


@dataclasses.dataclass
class Visitor:
    """Asks for a page all the time, over one connection or a new one each, and notes what fails."""

    portal: Portal
    path: str
    headers: dict[str, str]
    keep_alive: bool
    answers: int = 0
    connections: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    # How many answers there had been when one failed: failures in a row are one outage.
    outages: set[int] = dataclasses.field(default_factory=set)
    #: SHA-256 of every certificate that was served.
    certificates: set[str] = dataclasses.field(default_factory=set)

    def connect(self) -> http.client.HTTPConnection:
        connection = self.portal.connect()
        self.certificates.add(hashlib.sha256(connection.sock.getpeercert(True)).hexdigest())
        self.connections += 1
        return connection

    def failed(self, what: object) -> None:
        self.failures.append(f"{time.strftime('%T')} {what}")
        self.outages.add(self.answers)

    def run(self, stop: threading.Event) -> None:
        connection: http.client.HTTPConnection | None = None
        while not stop.wait(0.02):
            try:
                connection = connection or self.connect()
                connection.request("GET", self.path, headers=self.headers)
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    self.answers += 1
                else:
                    self.failed(response.status)
                keep = self.keep_alive and not response.will_close
            except (OSError, http.client.HTTPException) as error:
                self.failed(repr(error))
                keep = False
            if connection and not keep:
                connection.close()
                connection = None
        if connection:
            connection.close()


class Load:
    """Two clients of the portal, at work as long as the context lasts: one keeps its connection, one makes new ones."""

    def __init__(self, portal: Portal, path: str, **headers: str) -> None:
        self.kept, self.fresh = (Visitor(portal, path, headers, keep_alive) for keep_alive in (True, False))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=client.run, args=(self._stop,)) for client in (self.kept, self.fresh)]

    @property
    def failures(self) -> list[str]:
        return [*self.kept.failures, *self.fresh.failures]

    @property
    def answers(self) -> int:
        return self.kept.answers + self.fresh.answers

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    return t.cast("dict[str, int]", json.loads((STATE / "ports.json").read_text()))


@pytest.fixture(scope="session")
def portal(ports: dict[str, int]) -> Portal:
    return Portal(ports, STATE / "tls" / "ca.pem")


def host_by_ssh(name: str, ports: dict[str, int]) -> t.Any:
    config = STATE / "ssh" / f"config_{name}"
    config.write_text(
        f"Host {name}\n  HostName 127.0.0.1\n  User ops\n"
        f"  Port {ports[f'{name}_22']}\n  IdentityFile {STATE}/ssh/id_ed25519\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {STATE}/ssh/known_hosts\n"
        f"  ControlMaster auto\n  ControlPath {_control_path()}\n  ControlPersist 60\n"
    )
    return testinfra.get_host(f"ssh://{name}?sudo=true&ssh_config={config}")


@pytest.fixture(scope="session")
def nuc(ports: dict[str, int]) -> t.Any:
    """The nuc over SSH, as root by sudo."""
    return host_by_ssh("nuc", ports)


@pytest.fixture(scope="session")
def nas(ports: dict[str, int]) -> t.Any:
    """The nas over SSH, as root by sudo: to the nuc a stranger, with an address of its own."""
    return host_by_ssh("nas", ports)


@pytest.fixture(scope="session")
def open_ports(nas: t.Any) -> Callable[..., set[int]]:
    """The TCP ports of the nuc that answer another host, of all 65535 unless told otherwise."""
    if nas.run("which nmap").rc != 0:
        nas.check_output("apt-get update -qq && apt-get install -y -qq --no-install-recommends nmap")

    def scan(ports: str = "-") -> set[int]:
        report = nas.check_output(
            "nmap -Pn -n -sS -p %s --min-rate 20000 --max-retries 2 --host-timeout 60s -oG - nuc", ports
        )
        assert "Status: Up" in report, report
        return {int(port) for port in re.findall(r"(\d+)/open/", report)}

    return scan


def _control_path() -> str:
    # A socket's path may have 107 characters, a checkout's more.
    return f"/tmp/flowaudit-{hashlib.sha256(str(STATE).encode()).hexdigest()[:8]}-%C"


@pytest.fixture(scope="session")
def docker(nuc: t.Any) -> Callable[..., str]:
    """Run docker on the nuc; its output."""

    def run(*arguments: str) -> str:
        command = "docker " + " ".join("%s" for argument in arguments)
        return t.cast(str, nuc.check_output(command, *arguments))

    return run


@pytest.fixture
def containers(docker: Callable[..., str]) -> dict[str, t.Any]:
    """Container name → what `docker inspect` says of it, for every container of the stack."""
    names = docker("ps", "--all", "--format", "{{.Names}}").split()
    return {details["Name"].lstrip("/"): details for details in json.loads(docker("inspect", *names))}


@pytest.fixture(scope="session")
def secrets() -> dict[str, str]:
    return {file.name: file.read_text().strip() for file in (STATE / "secrets").iterdir()}


@pytest.fixture(scope="session")
def inventory() -> dict[str, t.Any]:
    """The demo's variables as they are written, without templating."""
    return t.cast("dict[str, t.Any]", yaml.safe_load((INVENTORY / "group_vars" / "nuc.yml").read_text()))


@pytest.fixture(scope="session")
def host_container() -> str:
    """The container that is the nuc, on this machine's engine."""
    return f"{_containers_prefix()}-nuc"


def _containers_prefix() -> str:
    """How the names of the test hosts' containers begin (molecule/shared/vars/test_hosts.yml)."""
    return f"flowaudit-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]}-{STATE.name}"


def address_of(host: str) -> str:
    """The address of a test host in the network of the test hosts."""
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    inspect = ["docker", "inspect", "--format", template, f"{_containers_prefix()}-{host}"]
    return subprocess.check_output(inspect, text=True).strip()


def recap(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many of a run's tasks on the nuc were ok, changed, failed."""
    line = re.search(r"^\w*nuc\w* +: (ok=.*)$", run.stdout, re.MULTILINE)
    assert line, run.stdout[-2000:]
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", line[1])}


@functools.cache
def _environment() -> dict[str, str]:
    return {**os.environ, "FLOWAUDIT_STATE": str(STATE), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}


@pytest.fixture(scope="session")
def playbook() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a playbook of the collection against the test hosts."""

    def run(
        name: str, *arguments: str, inventory: Path = INVENTORY, **extra_vars: t.Any
    ) -> subprocess.CompletedProcess[str]:
        more = ["-e", json.dumps(extra_vars)] if extra_vars else []
        return subprocess.run(
            ["ansible-playbook", "-i", str(inventory), name, *arguments, *more],
            cwd=CHECKOUT,
            env=_environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Drives browsers (browser.py); there can be one at a time."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def identity_provider(playbook: Callable[..., t.Any], ports: dict[str, int]) -> Iterator[IdentityProvider]:
    """The authority's OpenID provider, running until the tests end."""
    run = playbook(str(CHECKOUT / "molecule" / "shared" / "identity_provider.yml"))
    assert run.returncode == 0, run.stdout[-3000:]
    accounts = [Account(f"{role}@flowaudit.example", role) for role in ("user", "trainer", "admin", "guest")]
    # With and without the port the nuc's 443 has on this machine.
    origins = (f"https://{DOMAIN}", f"https://{DOMAIN}:{ports['nuc_443']}")
    flowaudit = Client(
        "flowaudit",
        redirect_uris=tuple(f"{origin}/auth/callback" for origin in origins),
        signed_out_uris=tuple(f"{origin}/auth/signed-out" for origin in origins),
    )
    other = Client("other", redirect_uris=("https://other.example/callback",))
    provider = IdentityProvider(
        f"{_containers_prefix()}-registry",
        ports["registry_5556"],
        STATE / "tls" / "identity_provider.pem",
        accounts,
        [flowaudit, other],
    )
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture(scope="session")
def browser(
    playwright: Playwright,
    identity_provider: IdentityProvider,
    ports: dict[str, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """A browser as the authority's people have it: it finds the portal and the provider and trusts their CAs."""
    with chromium(
        playwright,
        tmp_path_factory.mktemp("home"),
        authorities=[STATE / "tls" / "ca.pem", identity_provider.ca],
        addresses={
            f"{DOMAIN}:443": f"127.0.0.1:{ports['nuc_443']}",
            f"{DOMAIN}:{ports['nuc_443']}": f"127.0.0.1:{ports['nuc_443']}",
            f"{HOST}:{PORT}": f"127.0.0.1:{identity_provider.port}",
        },
    ) as browser:
        yield browser


Refuse = Callable[..., list[str]]


@pytest.fixture(scope="session")
def refuse(playbook: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: t.Any) -> Refuse:
    """What the playbook site's own checks say to wrong inputs, all in one run; empty where one is refused nothing.

    An input is the role whose check is asked (`compose_project` is the one of the machine's size) and variables; a part
    of a check can be named (`edge/preflight_certificate`). Further arguments are those of ``playbook``. The run fails
    the test if a check changes anything on the host.
    """
    plays = yaml.safe_load((CHECKOUT / "playbooks" / "site.yml").read_text())
    play, provision = plays[0], next(each for each in plays if each["name"] == "Provision the stack")
    imported = "ansible.builtin.import_role"
    checks = {task[imported]["name"].removeprefix("flowaudit.ops."): task for task in play["tasks"]}
    roles = {role["role"].removeprefix("flowaudit.ops.") for role in provision["roles"]}
    assert roles <= checks.keys(), f"site provisions {roles - checks.keys()} unchecked"

    def run(inputs: list[tuple[str, dict[str, t.Any]]], **options: t.Any) -> list[str]:
        directory = tmp_path_factory.mktemp("refuse")
        tasks = []
        for number, (check, variables) in enumerate(inputs):
            role, _slash, part = check.partition("/")
            included = checks[role][imported] | ({"tasks_from": part} if part else {})
            tasks.append(
                {
                    "block": [
                        {
                            "ansible.builtin.include_role": included,
                            "vars": {**checks[role].get("vars", {}), **variables},
                        }
                    ],
                    "rescue": [
                        {
                            "ansible.builtin.copy": {
                                "content": "{{ ansible_failed_result.msg }}",
                                "dest": str(directory / f"{number}.txt"),
                            },
                            "delegate_to": "localhost",
                            "become": False,
                            "changed_when": False,
                        }
                    ],
                }
            )
        # One check uses what other roles define, which importing them makes known.
        known = {"block": play["tasks"], "when": False}
        (directory / "refuse.yml").write_text(json.dumps([{**play, "tasks": [known, *tasks]}]))
        result = playbook(str(directory / "refuse.yml"), **options)
        assert result.returncode == 0, result.stdout[-2000:]
        assert recap(result)["changed"] == 0, re.findall(r"^changed:.*$", result.stdout, re.MULTILINE)
        files = [directory / f"{number}.txt" for number in range(len(inputs))]
        return [" ".join(file.read_text().split()) if file.exists() else "" for file in files]

    return run
