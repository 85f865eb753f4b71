"""What `ansible-galaxy collection build` packs: the collection, and nothing a working checkout has beside it."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from .conftest import CHECKOUT

STRAY = (
    ".vault_password",
    ".state/demo/secrets/database_password",
    ".venv313/bin/python",
    "inventories/production/group_vars/all/vault.yml",
    "inventories/production/group_vars/all/images.lock.yml",
)


def test_the_tarball_holds_the_collection_and_no_secret(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in subprocess.check_output(["git", "ls-files"], cwd=CHECKOUT, text=True).splitlines():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, checkout / name)
    for name in STRAY:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("not for others")
    build = ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path)]
    subprocess.run(build, cwd=checkout, check=True, stdout=subprocess.DEVNULL)

    with tarfile.open(next(tmp_path.glob("flowaudit-ops-*.tar.gz"))) as tar:
        names = set(tar.getnames())
    assert not [name for name in names if name in STRAY or name.startswith(".")]
    assert {
        "playbooks/site.yml",
        "playbooks/templates/status.txt.j2",
        "plugins/modules/health.py",
        "roles/platform_images/files/postgres/Dockerfile",
        "roles/stack/meta/argument_specs.yml",
        "inventories/production/group_vars/all/vault.yml.example",
    } <= names
