"""Break it, then look: what the stack does when a process, a container or the whole machine goes down."""

from __future__ import annotations

import functools
import json
import subprocess
import typing as t
from collections.abc import Callable

import pytest

from .conftest import Portal, wait_until

pytestmark = pytest.mark.disruptive

# Asks for 100 MB at a time until somebody stops it.
HOG = "held = []\nwhile True:\n    held.append(bytearray(100 * 1024 * 1024))\n"


def restarts(docker: Callable[..., str], name: str) -> int:
    return int(docker("inspect", "--format", "{{.RestartCount}}", name))


def healthy(docker: Callable[..., str], name: str) -> bool:
    return docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() == "healthy"


def test_a_process_beyond_the_memory_limit_is_killed_and_the_service_goes_on(
    nuc: t.Any, docker: Callable[..., str]
) -> None:
    hog = nuc.run("docker exec flowaudit-blue-worker-1 python3 -c %s", HOG)
    assert hog.rc == 137, hog.stderr
    wait_until(lambda: healthy(docker, "flowaudit-blue-worker-1"), 90, "the worker is healthy")


def test_a_container_that_dies_comes_back(nuc: t.Any, docker: Callable[..., str], portal: Portal) -> None:
    before = restarts(docker, "flowaudit-blue-backend-1")
    nuc.check_output(
        "kill -KILL %s", docker("inspect", "--format", "{{.State.Pid}}", "flowaudit-blue-backend-1").strip()
    )
    wait_until(
        lambda: restarts(docker, "flowaudit-blue-backend-1") == before + 1, 30, "the engine restarts the backend"
    )
    wait_until(portal.healthy, 90, "the portal is healthy")


def test_degraded_and_unhealthy_are_told_apart(docker: Callable[..., str], portal: Portal) -> None:
    try:
        docker("stop", "-t", "5", "flowaudit-chroma-1")
        answer = portal.get("/api/health")
        assert (answer.status, answer.json["status"]) == (200, "degraded")
        docker("stop", "-t", "5", "flowaudit-redis-1")
        answer = portal.get("/api/health")
        assert (answer.status, answer.json["status"]) == (503, "unhealthy")
    finally:
        docker("start", "flowaudit-chroma-1", "flowaudit-redis-1")
    wait_until(portal.healthy, 90, "the portal is healthy")
    for name in ("flowaudit-chroma-1", "flowaudit-redis-1"):
        wait_until(functools.partial(healthy, docker, name), 90, f"{name} is healthy")


def test_a_reboot_brings_everything_back_with_its_data(
    host_container: str,
    nuc: t.Any,
    docker: Callable[..., str],
    portal: Portal,
    open_ports: Callable[..., set[int]],
) -> None:
    document = portal.upload("before-reboot.txt", b"Written before the machine went down.").json["id"]
    wait_until(
        lambda: portal.get(f"/api/documents/{document}").json["status"] == "done", 60, "the document is processed"
    )
    names = docker("ps", "--format", "{{.Names}}").split()
    assert len(names) == 10

    subprocess.run(["docker", "restart", host_container], check=True, stdout=subprocess.DEVNULL)

    def all_healthy() -> bool:
        try:
            listing = nuc.run("docker ps --format %s", "{{.Names}} {{.Status}}")
        except RuntimeError:
            return False  # ssh is not back yet
        return bool(listing.rc == 0 and sum("(healthy)" in line for line in listing.stdout.splitlines()) == len(names))

    wait_until(all_healthy, 180, "every container is healthy after the reboot")
    wait_until(portal.healthy, 60, "the portal is healthy")
    answer = portal.get(f"/api/documents/{document}").json
    assert answer["status"] == "done"
    assert json.dumps(answer["result"])
    assert open_ports() == {22, 80, 443}
