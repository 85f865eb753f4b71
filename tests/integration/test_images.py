"""Images by digest from every source: built (the demo itself), pulled, and carried through an archive."""

from __future__ import annotations

import json
import subprocess
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .conftest import STATE

pytestmark = pytest.mark.images

Playbook = Callable[..., "subprocess.CompletedProcess[str]"]
# One small image is enough to follow a digest from place to place.
ONE = {"redis": {"upstream": ""}}


def lock(path: Path) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load(path.read_text())["images_lock"])


@pytest.fixture
def built() -> dict[str, t.Any]:
    return lock(STATE / "images.lock.yml")


@pytest.mark.campaign
def test_a_second_run_builds_nothing_and_keeps_every_digest(playbook: Playbook, built: dict[str, t.Any]) -> None:
    run = playbook("flowaudit.ops.images")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "changed=0" in run.stdout
    assert lock(STATE / "images.lock.yml") == built
    assert set(built["platform"]) == {"postgres", "redis", "chroma", "traefik", "auth", "ollama"}
    assert set(built["releases"]["1.0.0"]) == {"backend", "frontend"}


@pytest.mark.campaign
def test_an_archive_carries_an_image_into_another_registry(
    playbook: Playbook, built: dict[str, t.Any], ports: dict[str, int], tmp_path: Path
) -> None:
    archive, target = tmp_path / "images", tmp_path / "images.lock.yml"
    exported = playbook(
        "flowaudit.ops.images_export",
        platform_images_archive=str(archive),
        platform_images_catalogue=ONE,
        platform_images_releases={},
    )
    assert exported.returncode == 0, exported.stdout[-2000:]
    assert (archive / "index.json").is_file()

    def load() -> subprocess.CompletedProcess[str]:
        return playbook(
            "flowaudit.ops.images",
            platform_images_source="archive",
            platform_images_archive=str(archive),
            platform_images_namespace="closed",
            platform_images_catalogue=ONE,
            platform_images_releases={},
            platform_images_lock_file=str(target),
        )

    loaded = load()
    assert loaded.returncode == 0, loaded.stdout[-2000:]
    reference = lock(target)["platform"]["redis"]
    assert reference.startswith("registry:5000/closed/redis@sha256:")
    index = yaml.safe_load((archive / "index.json").read_text())
    assert reference.endswith(index["manifests"][0]["digest"])

    # Another manifest format, the same layers.
    def layers(of: str) -> t.Any:
        source = of.replace("registry:5000", f"docker://127.0.0.1:{ports['registry_5000']}")
        inspect = ["skopeo", "inspect", "--tls-verify=false", "--config", source]
        return json.loads(subprocess.check_output(inspect, text=True))["rootfs"]["diff_ids"]

    assert layers(reference) == layers(built["platform"]["redis"])
    assert "changed=0" in load().stdout


@pytest.mark.campaign
def test_a_tag_is_resolved_once_and_again_only_on_request(
    playbook: Playbook, built: dict[str, t.Any], ports: dict[str, int], tmp_path: Path
) -> None:
    target = tmp_path / "images.lock.yml"
    registry = f"127.0.0.1:{ports['registry_5000']}"
    digest = built["platform"]["redis"].split("@")[1]

    def resolve(upstream: str, **more: t.Any) -> str:
        run = playbook(
            "flowaudit.ops.images",
            platform_images_source="pull",
            platform_images_registry="",
            platform_images_catalogue={"redis": {"upstream": upstream}},
            platform_images_releases={},
            platform_images_lock_file=str(target),
            **more,
        )
        assert run.returncode == 0, run.stdout[-2000:]
        return t.cast(str, lock(target)["platform"]["redis"])

    moving = f"docker://{registry}/moving/redis:8"
    skopeo = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run([*skopeo, f"docker://{registry}/flowaudit/redis@{digest}", moving], check=True)
    assert resolve(f"{registry}/moving/redis:8") == f"{registry}/moving/redis@{digest}"

    # The tag moves to another image; the lock does not move with it.
    other = built["platform"]["ollama"].split("@")[1]
    subprocess.run([*skopeo, f"docker://{registry}/flowaudit/ollama@{other}", moving], check=True)
    assert resolve(f"{registry}/moving/redis:8").endswith(digest)
    assert resolve(f"{registry}/moving/redis:8", platform_images_refresh=True).endswith(other)


def test_an_archive_that_is_none_is_refused(playbook: Playbook, tmp_path: Path) -> None:
    run = playbook(
        "flowaudit.ops.images",
        platform_images_source="archive",
        platform_images_archive=str(tmp_path),
        platform_images_lock_file=str(tmp_path / "images.lock.yml"),
    )
    assert run.returncode != 0
    assert "where there is no OCI layout (index.json)" in " ".join(run.stdout.split())
