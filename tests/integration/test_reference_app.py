"""The reference app's own tests, with a real PostgreSQL: the stack's image, thrown away afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
import yaml

from .conftest import CHECKOUT, STATE, wait_until

pytestmark = pytest.mark.images


@pytest.fixture
def database_url(ports: dict[str, int]) -> Iterator[str]:
    locked = yaml.safe_load((STATE / "images.lock.yml").read_text())["images_lock"]["platform"]["postgres"]
    image = locked.replace("registry:5000", f"127.0.0.1:{ports['registry_5000']}")
    name = f"flowaudit-test-{uuid.uuid4().hex[:8]}"
    password = uuid.uuid4().hex
    options = [
        "--detach",
        "--rm",
        "--name",
        name,
        "--publish",
        "127.0.0.1::5432",
        "--env",
        f"POSTGRES_PASSWORD={password}",
    ]
    subprocess.run(["docker", "run", *options, image], check=True, stdout=subprocess.DEVNULL)
    try:
        port = subprocess.check_output(["docker", "port", name, "5432/tcp"], text=True).rpartition(":")[2].strip()
        ready = ["docker", "exec", name, "pg_isready", "--quiet", "--username=postgres", "--host=127.0.0.1"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, 60, "PostgreSQL is ready")
        yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.campaign
def test_every_release_migrates_up_and_down_on_a_real_database(database_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_releases.py", "-rs"],
        cwd=CHECKOUT / "tests" / "app",
        env={**os.environ, "REFAPP_TEST_DATABASE_URL": database_url},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "skipped" not in run.stdout, run.stdout[-1000:]
