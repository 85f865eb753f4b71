"""Tests against a provisioned set of test hosts: the demo's, or Molecule's. FLOWAUDIT_STATE names the set."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
import testinfra
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("FLOWAUDIT_STATE", CHECKOUT / ".state" / "demo"))
INVENTORY = CHECKOUT / "inventories" / "demo"
DOMAIN = "flowaudit.localhost"
PROJECTS = ("flowaudit", "flowaudit-edge", "flowaudit-blue")


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

    def request(self, path: str, data: bytes | None = None, *, scheme: str = "https", **headers: str) -> Answer:
        tls = scheme == "https"
        connection = http.client.HTTPConnection(DOMAIN, timeout=30)
        connection.sock = socket.create_connection(
            ("127.0.0.1", self.ports["nuc_443" if tls else "nuc_80"]), timeout=30
        )
        if tls:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=DOMAIN)
        with contextlib.closing(connection):
            connection.request("POST" if data else "GET", path, body=data, headers=headers)
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


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    return t.cast("dict[str, int]", json.loads((STATE / "ports.json").read_text()))


@pytest.fixture(scope="session")
def portal(ports: dict[str, int]) -> Portal:
    return Portal(ports, STATE / "tls" / "ca.pem")


@pytest.fixture(scope="session")
def nuc(ports: dict[str, int]) -> t.Any:
    """The nuc over SSH, as root by sudo."""
    config = STATE / "ssh" / "config"
    config.write_text(
        "Host nuc\n  HostName 127.0.0.1\n  User ops\n"
        f"  Port {ports['nuc_22']}\n  IdentityFile {STATE}/ssh/id_ed25519\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {STATE}/ssh/known_hosts\n"
        f"  ControlMaster auto\n  ControlPath {_control_path()}\n  ControlPersist 60\n"
    )
    return testinfra.get_host(f"ssh://nuc?sudo=true&ssh_config={config}")


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
    prefix = f"flowaudit-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]}-{STATE.name}"
    return f"{prefix}-nuc"


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
