"""A deployment killed at each of its steps, in each way: a whole release serves, and the next run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.release.sequence import STEPS

from .conftest import CHECKOUT, INVENTORY, STATE, Portal, wait_until
from .test_releases import Playbook, current, said, schema, serves

pytestmark = [pytest.mark.releases, pytest.mark.campaign]

TERMS = {"app_release_settle": 7, "app_release_watch": 4}
#: Those that a deployment without an interruption notes in its journal.
NOTED = [step for step in STEPS if step not in ("check", "pull", "interrupt")]
#: Waits for a step in the journal, without a pause, and then does it: some steps take a few milliseconds.
AT_STEP = """
import json, os, signal, subprocess, sys, time
step, what, deadline = sys.argv[1], sys.argv[2], time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        with open("/var/lib/flowaudit/release.journal") as journal:
            reached = json.load(journal)["step"]
    except (FileNotFoundError, ValueError):
        continue
    if reached == step:
        if what == "process":
            with open("/var/lib/flowaudit/release.lock") as lock:
                os.kill(json.load(lock)["pid"], signal.SIGKILL)
        else:
            subprocess.run(["docker", "kill", what], check=False, capture_output=True)
        sys.exit(0)
sys.exit("the step was not seen")
"""


@pytest.fixture(autouse=True)
def program(nuc: t.Any) -> None:
    """Before each: a host that starts again has an empty /tmp."""
    nuc.check_output("cat > /tmp/at-step.py <<'END'\n" + AT_STEP + "\nEND")


@pytest.fixture(autouse=True)
def first_release(playbook: Playbook, nuc: t.Any) -> Iterator[None]:
    """1.0.0, and the schema of it, before each; and afterwards."""
    reset(playbook, nuc)
    yield
    reset(playbook, nuc)


def reset(playbook: Playbook, nuc: t.Any) -> None:
    if nuc.file("/var/lib/flowaudit/release.journal").exists:
        playbook("flowaudit.ops.rollback", accept_interruption=True)
    if current(nuc)[0] != "1.0.0":
        run = playbook("flowaudit.ops.rollback", **TERMS, release_id="1.0.0", accept_interruption=True)
        assert run.returncode == 0, run.stdout[-3000:]
    _release, colour = current(nuc)
    other = "green" if colour == "blue" else "blue"
    if schema(nuc) != "0001":
        file = f"/opt/flowaudit/flowaudit-{other}/compose.yaml"
        nuc.check_output("docker compose --file %s run --rm --no-deps -T migrate alembic downgrade 0001", file)


@pytest.fixture
def deploying() -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start a deployment of 1.1.0, and do not wait for it."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        extra = json.dumps({**TERMS, "release_id": "1.1.0"})
        started.append(
            subprocess.Popen(
                ["ansible-playbook", "-i", str(INVENTORY), "flowaudit.ops.deploy", "-e", extra],
                cwd=CHECKOUT,
                env={**os.environ, "FLOWAUDIT_STATE": str(STATE)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for each in started:
        if each.returncode is None:
            each.kill()
            each.communicate()


def reachable(nuc: t.Any) -> bool:
    try:
        return bool(nuc.run("docker info").rc == 0)
    except RuntimeError:
        return False  # ssh is not back yet


def whole_release(portal: Portal) -> str:
    """The release that answers, once one does."""
    wait_until(portal.healthy, 120, "a release answers")
    return t.cast("str", portal.get("/api/health").json["version"])


@pytest.mark.parametrize("step", NOTED)
def test_its_process(
    step: str, deploying: Callable[[], subprocess.Popen[str]], playbook: Playbook, portal: Portal, nuc: t.Any
) -> None:
    run = deploying()
    nuc.check_output("python3 /tmp/at-step.py %s process", step)
    run.communicate(timeout=120)
    assert run.returncode != 0
    assert whole_release(portal) in ("1.0.0", "1.1.0")
    again = playbook("flowaudit.ops.deploy", **TERMS, release_id="1.1.0")
    assert again.returncode == 0, again.stdout[-3000:]
    serves(portal, nuc, "1.1.0")


@pytest.mark.parametrize("step", ["start", "flip", "hand_over"])
def test_taken_back_after_its_process(
    step: str, deploying: Callable[[], subprocess.Popen[str]], playbook: Playbook, portal: Portal, nuc: t.Any
) -> None:
    run = deploying()
    nuc.check_output("python3 /tmp/at-step.py %s process", step)
    run.communicate(timeout=120)
    back = playbook("flowaudit.ops.rollback")
    assert back.returncode == 0, back.stdout[-3000:]
    assert "Taken back: deploy of 1.1.0" in said(back)
    serves(portal, nuc, "1.0.0")


@pytest.mark.parametrize("step", ["migrate", "settle", "flip", "confirm", "watch", "hand_over"])
def test_traefik(
    step: str, deploying: Callable[[], subprocess.Popen[str]], playbook: Playbook, portal: Portal, nuc: t.Any
) -> None:
    run = deploying()
    nuc.check_output("python3 /tmp/at-step.py %s flowaudit-edge-traefik-1", step)
    run.communicate(timeout=180)
    nuc.run("docker start flowaudit-edge-traefik-1")  # as `docker kill` counts as stopped by hand
    assert whole_release(portal) == current(nuc)[0]
    again = playbook("flowaudit.ops.deploy", **TERMS, release_id="1.1.0")
    assert again.returncode == 0, again.stdout[-3000:]
    serves(portal, nuc, "1.1.0")


@pytest.mark.parametrize("step", ["settle", "flip", "watch", "hand_over"])
def test_the_new_colour(
    step: str, deploying: Callable[[], subprocess.Popen[str]], playbook: Playbook, portal: Portal, nuc: t.Any
) -> None:
    _release, colour = current(nuc)
    other = "green" if colour == "blue" else "blue"
    run = deploying()
    nuc.check_output("python3 /tmp/at-step.py %s %s", step, f"flowaudit-{other}-backend-1")
    output, _errors = run.communicate(timeout=180)
    if step in ("settle", "watch"):
        assert run.returncode != 0, output
        serves(portal, nuc, "1.0.0")
    nuc.run(f"docker start flowaudit-{other}-backend-1")
    again = playbook("flowaudit.ops.deploy", **TERMS, release_id="1.1.0")
    assert again.returncode == 0, again.stdout[-3000:]
    serves(portal, nuc, "1.1.0")


@pytest.mark.parametrize("step", NOTED)
def test_the_host(
    step: str,
    deploying: Callable[[], subprocess.Popen[str]],
    playbook: Playbook,
    portal: Portal,
    nuc: t.Any,
    host_container: str,
) -> None:
    run = deploying()
    nuc.check_output("python3 /tmp/at-step.py %s process", step)
    # The power goes: nothing is asked to end.
    subprocess.run(["docker", "kill", host_container], check=True, stdout=subprocess.DEVNULL)
    run.kill()
    run.communicate()
    time.sleep(1)
    subprocess.run(["docker", "start", host_container], check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: reachable(nuc), 60, "the host is back")
    assert whole_release(portal) in ("1.0.0", "1.1.0")
    again = playbook("flowaudit.ops.deploy", **TERMS, release_id="1.1.0")
    assert again.returncode == 0, again.stdout[-3000:]
    serves(portal, nuc, "1.1.0")
