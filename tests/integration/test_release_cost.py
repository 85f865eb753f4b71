"""What a change of release costs its users, three ways in one run: Compose with labels, scale and stop, and ours.

`make bench-release`. It measures and asserts nothing of the figures; docs/figures.md has them.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest
import yaml

from .conftest import CHECKOUT, STATE
from .test_releases import RATES, TERMS, Playbook, change, current, settled

__all__ = ["change", "settled"]  # fixtures that leave 1.0.0 in blue
pytestmark = [pytest.mark.releases, pytest.mark.benchmark]

#: Run on the host: 8 clients that ask for a list, and one that uploads 50 MB at 5 MB/s.
CLIENTS = (CHECKOUT / "tests" / "integration" / "clients_on_host.py").read_text()
BENCH = "/tmp/flowaudit-bench"
TRAEFIK = "flowaudit-bench-traefik"


class Clients:
    """The load, from the host itself."""

    def __init__(self, nuc: t.Any) -> None:
        self.nuc = nuc
        nuc.check_output(f"mkdir -p {BENCH}; cat > {BENCH}/clients.py <<'END'\n{CLIENTS}\nEND")

    @contextlib.contextmanager
    def at(self, url: str) -> Iterator[dict[str, t.Any]]:
        found: dict[str, t.Any] = {}
        self.nuc.check_output(
            f"rm -f {BENCH}/result.json; nohup python3 {BENCH}/clients.py {url} /etc/flowaudit/edge/ca.pem"
            f" {BENCH}/result.json > {BENCH}/clients.log 2>&1 & echo $! > {BENCH}/pid"
        )
        time.sleep(5)
        yield found
        time.sleep(12)  # uploads that are under way
        self.nuc.check_output(
            f"kill $(cat {BENCH}/pid); for i in $(seq 100); do [ -s {BENCH}/result.json ] && break; sleep 0.5; done"
        )
        found.update(json.loads(self.nuc.check_output(f"cat {BENCH}/result.json")))


@pytest.fixture(scope="module")
def images() -> dict[str, dict[str, str]]:
    lock = yaml.safe_load((STATE / "images.lock.yml").read_text())
    return t.cast("dict[str, dict[str, str]]", lock["images_lock"]["releases"])


@pytest.fixture
def labelled(nuc: t.Any, images: dict[str, dict[str, str]]) -> Iterator[Callable[[str], None]]:
    """The backend as the guide runs it, labelled for a Traefik that follows the engine; writes a release's file."""
    text = nuc.check_output("docker compose --file /opt/flowaudit/flowaudit-blue/compose.yaml config --format json")
    document = json.loads(text)
    backend = document["services"]["backend"]
    backend["networks"] = {"data": None, "edge": None}
    backend["labels"] = {
        "traefik.enable": "true",
        "traefik.http.routers.bench.rule": "PathPrefix(`/`)",
        "traefik.http.services.bench.loadbalancer.server.port": "8000",
        "traefik.docker.network": "flowaudit-edge",
    }
    settings = {name: str(value) for name, value in RATES["app_release_settings"].items()}
    backend["environment"] |= settings
    used = {each["source"]: document["secrets"][each["source"]] for each in backend.get("secrets", [])}
    project = {"name": "bench", "services": {"backend": backend}, "networks": document["networks"], "secrets": used}

    def write(release: str) -> None:
        backend["image"] = images[release]["backend"]
        nuc.check_output(f"docker pull --quiet {backend['image']}")
        nuc.check_output(f"cat > {BENCH}/compose.yaml <<'END'\n{json.dumps(project)}\nEND")

    nuc.check_output(f"mkdir -p {BENCH}")
    traefik = nuc.check_output("docker inspect --format '{{.Config.Image}}' flowaudit-edge-traefik-1")
    nuc.run(f"docker rm --force {TRAEFIK}")
    nuc.check_output(
        f"docker run --detach --name {TRAEFIK} --user 0 --network flowaudit-edge --publish 127.0.0.1:8088:8088"
        f" --volume /var/run/docker.sock:/var/run/docker.sock:ro {traefik} traefik --providers.docker=true"
        " --providers.docker.exposedByDefault=false --entryPoints.web.address=:8088"
        " --entryPoints.web.transport.respondingTimeouts.readTimeout=600s"
    )
    yield write
    nuc.run(f"docker compose --file {BENCH}/compose.yaml down --timeout 2; docker rm --force {TRAEFIK}; rm -rf {BENCH}")


def timed(nuc: t.Any, command: str) -> float:
    started = time.monotonic()
    nuc.check_output(command)
    return round(time.monotonic() - started, 2)


def test_what_it_costs(
    nuc: t.Any, labelled: Callable[[str], None], playbook: Playbook, capsys: pytest.CaptureFixture[str]
) -> None:
    clients, compose = Clients(nuc), f"docker compose --file {BENCH}/compose.yaml"
    # The schema both releases work on, and 1.1.0's images on the host.
    for name, release in (("deploy", "1.1.0"), ("rollback", "1.0.0")):
        assert playbook(f"flowaudit.ops.{name}", **RATES, **TERMS, release_id=release).returncode == 0
    rows = []

    labelled("1.0.0")
    nuc.check_output(f"{compose} up --detach --wait")
    labelled("1.1.0")
    with clients.at("http://bench:8088") as found:
        found["seconds"] = timed(nuc, f"{compose} up --detach --wait")
    rows.append(("docker compose up -d, labels", found))

    labelled("1.0.0")
    nuc.check_output(f"{compose} up --detach --wait")
    labelled("1.1.0")
    with clients.at("http://bench:8088") as found:
        old = nuc.check_output(f"{compose} ps --quiet backend")
        scale = f"{compose} up --detach --wait --no-recreate --scale backend=2"
        found["seconds"] = timed(nuc, f"{scale} && docker stop --time 30 {old} && docker rm {old}")
    rows.append(("scale to two, stop the old", found))
    nuc.run(f"{compose} down --timeout 2")

    changes = (
        ("deploy", "1.1.0", "deploy"),
        ("rollback", "1.0.0", "rollback, warm"),
        ("deploy", "1.1.0", "deploy, warm"),
    )
    for name, release, title in changes:
        rows.append((title, ours(nuc, clients, playbook, name, release)))
    _release, colour = current(nuc)
    other = "green" if colour == "blue" else "blue"
    nuc.check_output(f"docker compose --file /opt/flowaudit/flowaudit-{other}/compose.yaml stop")
    rows.append(("rollback, cold", ours(nuc, clients, playbook, "rollback", "1.0.0")))

    with capsys.disabled():
        print(f"\n{'way':32} {'failed':>14} {'window s':>9} {'uploads failed':>15} {'s':>7} {'confirmed s':>12}")
        for title, row in rows:
            failed, uploads = f"{row['failed']} / {row['requests']}", f"{row['uploads_failed']} / {row['uploads']}"
            confirmed = row.get("confirmed", "")
            print(f"{title:32} {failed:>14} {row['window']:>9} {uploads:>15} {row['seconds']:>7} {confirmed:>12}")


def ours(nuc: t.Any, clients: Clients, playbook: Playbook, name: str, release: str) -> dict[str, t.Any]:
    with clients.at("https://flowaudit.localhost") as found:
        started = time.monotonic()
        run = playbook(f"flowaudit.ops.{name}", "-v", **RATES, **TERMS, release_id=release)
        found["seconds"] = round(time.monotonic() - started, 2)
        assert run.returncode == 0, run.stdout[-3000:]
        confirmed = re.search(r"\bconfirmed_after: ([\d.]+)", run.stdout)
        assert confirmed
        found["confirmed"] = float(confirmed[1])
    return found
