# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The host is gone. A bare one, the NAS and the vault become the whole system again, compared with what there was."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t
from collections.abc import Callable

import pytest

from .conftest import CHECKOUT, INVENTORY, STATE, Portal, wait_until
from .test_backup import job, rows, said, status, succeed, vectors

pytestmark = [pytest.mark.campaign, pytest.mark.disruptive]

Playbook = Callable[..., t.Any]


def manifest(nuc: t.Any, docker: Callable[..., str]) -> dict[str, t.Any]:
    """All rows, files and vectors."""
    return {
        "rows": rows(docker, "SELECT md5(string_agg(d::text, ',' ORDER BY id)), count(*) FROM documents d"),
        "files": nuc.check_output("cd /data/uploads && find . -type f | sort | xargs -r sha256sum"),
        "vectors": vectors(nuc),
        "release": nuc.file("/var/lib/flowaudit/current").content_string,
        "authority": nuc.check_output("sha256sum < /etc/flowaudit/edge/ca.pem"),
    }


def stopped_once_the_database_is_back(host_container: str) -> None:
    command = ["ansible-playbook", "-i", str(INVENTORY), "flowaudit.ops.recover_host"]
    environment = {**os.environ, "FLOWAUDIT_STATE": str(STATE)}
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    # Not by SSH: the connection of before leads to the host that is gone.
    reached = ["docker", "exec", host_container, "cat", "/var/lib/flowaudit/backup/recovering"]

    def is_back() -> bool:
        told = subprocess.run(reached, capture_output=True, text=True, check=False)
        return process.poll() is not None or told.stdout == "database"

    wait_until(is_back, 900, "the database is back")
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_lost_host_comes_back_from_the_target_and_the_vault(
    playbook: Playbook, nuc: t.Any, docker: Callable[..., str], portal: Portal, host_container: str
) -> None:
    names = [f"recover-{number}.txt" for number in range(3)]
    for name in names:
        assert portal.upload(name, f"What {name} says.\n".encode() * 30).status in (200, 201, 202)
    count = "SELECT count(*) FROM documents WHERE status <> 'done'"
    wait_until(lambda: rows(docker, count) == "0", 90, "all documents are done")
    for name in ("uploads", "chroma", "config", "wal"):
        assert job(nuc, name) == "success"
    before = manifest(nuc, docker)
    assert before["vectors"] and len(before["files"].splitlines()) >= 3

    subprocess.run(["docker", "rm", "--force", host_container], check=True, capture_output=True)
    subprocess.run(["docker", "volume", "rm", f"{host_container}-docker"], check=True, capture_output=True)
    succeed(playbook(str(CHECKOUT / "molecule" / "shared" / "create.yml")))

    began = time.monotonic()
    stopped_once_the_database_is_back(host_container)
    # From here on people may work on it, and it stays as they have left it.
    rows(docker, "CREATE TABLE since AS SELECT 1")
    succeed(playbook("flowaudit.ops.recover_host"))
    print(f"recover_host, stopped once: {time.monotonic() - began:.0f} s")
    rows(docker, "DROP TABLE since")
    wait_until(portal.healthy, 60, "the portal is healthy")
    wait_until(lambda: rows(docker, count) == "0", 90, "all documents are done")
    assert manifest(nuc, docker) == before
    assert status(nuc)["overdue"] == []
    # A second time it would take a host away that is in use.
    refused = playbook("flowaudit.ops.recover_host")
    assert refused.returncode != 0 and "this is for a bare host" in said(refused)
