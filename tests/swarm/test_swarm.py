# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inventory lifetimecircle on three hosts that are a Swarm: deployed, taken back, killed, under load."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import typing as t
import urllib.request
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
STATE = Path(os.environ.get("FLOWAUDIT_STATE", CHECKOUT / ".state" / "swarm"))
INVENTORIES = ["-i", "inventories/lifetimecircle", "-i", "tests/swarm/inventory"]
FIRST, SECOND, ILL, WRONG, FINAL = (
    *("rc-2026-02-28", "rc-2026-03-01", "rc-2026-03-02-ill", "rc-2026-03-03-wrong", "rc-2026-03-04"),
)

#: Colours (make sets them) would be part of what a program prints.
PLAIN = {**os.environ, "ANSIBLE_FORCE_COLOR": "0"}

pytestmark = pytest.mark.campaign


def play(playbook: str, *words: str) -> list[str]:
    return ["ansible-playbook", *INVENTORIES, f"flowaudit.ops.{playbook}", *words]


def run(playbook: str, *words: str, rc: int = 0) -> str:
    """What a playbook says, on one line."""
    done = subprocess.run(play(playbook, *words), cwd=CHECKOUT, env=PLAIN, capture_output=True, text=True, check=False)
    assert done.returncode == rc, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def deploy(release: str, *words: str, rc: int = 0) -> str:
    return run("deploy", "-e", f"release_id={release}", *words, rc=rc)


def changes(said: str) -> int:
    return int(said.rpartition("changed=")[2].split()[0])


def docker(*words: str, host: str = "ltc_1", rc: int = 0) -> str:
    command = [
        "ansible",
        host,
        *INVENTORIES,
        "--become",
        "-m",
        "ansible.builtin.command",
        "-a",
        " ".join(["docker", *words]),
    ]
    done = subprocess.run(command, cwd=CHECKOUT, env=PLAIN, capture_output=True, text=True, check=False)
    assert done.returncode == rc, done.stdout + done.stderr
    return done.stdout.partition("\n")[2]


def tasks() -> set[tuple[str, str]]:
    """Image and state of the tasks there should be."""
    lines = docker("service", "ps", "--no-trunc", "--filter", "desired-state=running", "--format", "json", "api")
    return {(told["Image"], told["CurrentState"].split()[0]) for told in map(json.loads, lines.splitlines())}


def images() -> dict[str, str]:
    lock = yaml.safe_load((STATE / "images.lock.yml").read_text())["images_lock"]["releases"]
    return {release: names["api"] for release, names in lock.items()}


def runs(release: str) -> bool:
    return tasks() == {(images()[release], "Running")}


def until(condition: t.Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


class Users:
    """Ask all the time, as behind a load balancer that tries the next host when one does not take the connection."""

    def __init__(self, number: int = 2) -> None:
        ports = json.loads((STATE / "ports.json").read_text())
        self.ports = [ports[f"ltc{host}_8000"] for host in (1, 2, 3)]
        self.answers: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(start,)) for start in range(number)]

    def __enter__(self) -> Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, turn: int) -> None:
        while not self._over.is_set():
            turn += 1
            self.answers.append(self._answer(turn))
            time.sleep(0.05)

    def _answer(self, turn: int) -> str:
        said = ""
        for attempt in range(3):
            port = self.ports[(turn + attempt) % 3]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=10) as answer:
                    return str(answer.read().decode())
            except OSError as error:
                said = str(error)
        return f"failed: {said}"


@pytest.fixture(autouse=True)
def first() -> None:
    """Every test begins with the first release."""
    if not docker("service", "ls", "--quiet").strip() or not runs(FIRST):
        deploy(FIRST)


def test_deploy_and_rollback_without_a_failed_request() -> None:
    with Users() as users:
        said = deploy(SECOND)
        assert "TASK [flowaudit.ops.swarm_release : Run the release's python3 -c import socket" in said
        assert f"* {SECOND}" in run("release_list") and runs(SECOND)
        there = json.dumps({"swarm_release_schema_command": ["echo", "0002"]})
        assert changes(deploy(SECOND, "-e", there)) == 0
        begun = time.monotonic()
        said = run("rollback")
        print(f"rollback: {time.monotonic() - begun:.1f} s, {len(users.answers)} requests")
        assert f"{FIRST} runs again. Commits rolled back: " in said and runs(FIRST)
    assert set(users.answers) == {FIRST, SECOND} and len(users.answers) > 100
    # What was taken back is deployed again by its name, and there is one record of each.
    deploy(SECOND)
    said = run("release_list")
    assert f"* {SECOND}" in said and said.count(SECOND) == said.count(FIRST) == 1


def test_a_release_that_is_not_healthy_gets_no_request() -> None:
    with Users() as users:
        said = deploy(ILL, rc=2)
    assert set(users.answers) == {FIRST}
    assert f"Release {ILL} was not brought up." in said and f"{FIRST} runs again." in said and runs(FIRST)
    assert ILL not in run("release_list")
    logs = docker(
        "run",
        "--rm",
        "--user=0",
        "-v",
        "/var/lib/flowaudit/incidents:/i:ro",
        images()[FIRST],
        "sh",
        "-c",
        "'cat /i/*-ill-*/api.log'",
    )
    assert f"{ILL} serves" in logs


def test_a_release_that_does_not_do_its_work_is_taken_back() -> None:
    said = deploy(WRONG, rc=2)
    assert "Run the command that tests it" in said and f"{FIRST} runs again." in said and runs(FIRST)


def test_check_mode_changes_nothing() -> None:
    said = deploy(SECOND, "--check", "--diff")
    assert f"- image: {images()[FIRST]}" in said and f"+ image: {images()[SECOND]}" in said
    listed = run("release_list")
    assert runs(FIRST) and f"* {FIRST}" in listed and f"* {SECOND}" not in listed


def test_a_run_that_was_killed_is_gone_on_from_or_taken_back() -> None:
    for then in ("deploy", "rollback"):
        words = play("deploy", "-e", f"release_id={SECOND}")
        with subprocess.Popen(
            words, cwd=CHECKOUT, env=PLAIN, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            assert any("Wait for the service api" in line for line in process.stdout)
            os.killpg(process.pid, 9)
        if then == "deploy":
            deploy(SECOND)
            assert runs(SECOND) and f"* {SECOND}" in run("release_list")
            run("rollback")
        else:
            # Never recorded, as the rollback has forgotten it: one way back. Half way, no node has a port left.
            run("rollback", "-e", "swarm_release_order=stop-first")
        assert runs(FIRST)


def test_a_node_that_is_lost_takes_no_release_with_it() -> None:
    name = f"flowaudit-{STATE.name}"
    containers = subprocess.run(
        ["docker", "ps", "--format", "{{.Names}}"], check=True, capture_output=True, text=True
    ).stdout.split()
    (node,) = (each for each in containers if each.endswith(f"-{STATE.name}-ltc3") and name)
    subprocess.run(["docker", "kill", node], check=True, capture_output=True)
    try:
        until(lambda: runs(FIRST), 120)
        assert f"* {FIRST}" in run("release_list")
    finally:
        subprocess.run(["docker", "start", node], check=True, capture_output=True)
    until(lambda: docker("node", "ls").count("Ready") == 3, 120)


@pytest.mark.parametrize(
    ("release", "message"),
    [
        ("rc-2099-01-01", "The images lock has no release rc-2099-01-01"),
        ('"{{ 1.0 }}"', "release_id is no text"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_touched(release: str, message: str) -> None:
    assert message in deploy(release, rc=2) and runs(FIRST)


def test_a_release_that_is_not_known_cannot_be_gone_back_to() -> None:
    said = run("rollback", "-e", "release_id=rc-2099-01-01", rc=2)
    assert "The Swarm has no record of release rc-2099-01-01" in said and runs(FIRST)


def test_what_a_migration_came_between_is_refused() -> None:
    assert "has a migration of the class contract" in deploy(FINAL, rc=2) and runs(FIRST)
    # Deployed by somebody who says that there is no database.
    deploy(FINAL, "-e", "swarm_release_migration_image=")
    said = run("rollback", "-e", f"release_id={FIRST}", rc=2)
    assert "its migration 0003 removed what rc-2026-02-28 needs" in said and runs(FINAL)
    docker(
        "config", "rm", *docker("config", "ls", "--quiet", "--filter", f"label=ops.flowaudit.release={FINAL}").split()
    )


def test_a_host_that_is_no_manager_is_told() -> None:
    docker("node", "demote", "ltc3")
    try:
        said = run(
            "release_list",
            "-e",
            '{"ansible_port": ' + str(json.loads((STATE / "ports.json").read_text())["ltc3_22"]) + "}",
            rc=2,
        )
        assert "is no manager of a Swarm; releases are changed on one" in said
    finally:
        docker("node", "promote", "ltc3")
