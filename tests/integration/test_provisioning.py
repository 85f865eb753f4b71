"""The site playbook on a provisioned host: it predicts truly, repairs what was edited, and keeps secrets to itself."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import typing as t
from collections.abc import Callable, Iterator

import pytest
import yaml

from .conftest import CHECKOUT, EDGE_ALONE, STATE, Portal, Refuse, recap, wait_until

pytestmark = pytest.mark.provisioning

Playbook = Callable[..., subprocess.CompletedProcess[str]]
TLS = "/etc/flowaudit/edge/dynamic/tls.yml"


@pytest.mark.campaign
def test_check_mode_predicts_no_change_and_shows_no_secret(playbook: Playbook, secrets: dict[str, str]) -> None:
    run = playbook("flowaudit.ops.site", "--check", "--diff", "-vvv")
    assert recap(run)["failed"] == 0, run.stdout[-2000:]
    assert recap(run)["changed"] == 0, re.findall(r"^changed:.*$", run.stdout, re.MULTILINE)
    told = [name for name, value in secrets.items() if value in run.stdout]
    told += [name for name, value in secrets.items() if hashlib.sha256(value.encode()).hexdigest() in run.stdout]
    assert not told


def test_a_changed_secret_is_predicted_without_being_shown(playbook: Playbook, secrets: dict[str, str]) -> None:
    new = {name: f"new-{name}-value-of-this-test" for name in secrets}
    run = playbook("flowaudit.ops.site", "--check", "--diff", "-vvv", "--tags", "stack", stack_secrets=new)
    assert recap(run)["changed"] > 0
    # The extra-vars themselves are on the command line, which -vvv does not repeat.
    assert not [name for name, value in (new | secrets).items() if value in run.stdout]


def test_a_hand_edited_file_shows_in_the_diff_and_is_repaired(playbook: Playbook, nuc: t.Any) -> None:
    original = nuc.file(TLS).content_string
    nuc.check_output("sed -i 's/VersionTLS12/VersionTLS10/' %s", TLS)
    prediction = playbook(EDGE_ALONE, "--check", "--diff")
    assert recap(prediction)["changed"] == 1
    assert re.search(r"^-\s+minVersion: VersionTLS10$", prediction.stdout, re.MULTILINE)
    assert re.search(r"^\+\s+minVersion: VersionTLS12$", prediction.stdout, re.MULTILINE)
    assert "VersionTLS10" in nuc.file(TLS).content_string, "check mode changed the host"
    assert recap(playbook(EDGE_ALONE))["changed"] == 1
    assert nuc.file(TLS).content_string == original


# What is wrong → the role whose check says so, and its sentence.
BAD_INPUT: dict[str, tuple[str, dict[str, t.Any], str]] = {
    "a wrong type": (
        "edge",
        {"edge_read_timeout": "long"},
        r"edge_read_timeout.*(int|integer)",
    ),
    "an unknown mode": (
        "edge",
        # The inventory takes the edge's mode from it, and the edge is asked first.
        {"app_release_mode": "festival"},
        r"edge_access_mode.*demo, seminar, production",
    ),
    "an unknown service": (
        "stack",
        {"stack_service_overrides": {"postgress": {"limits": {"memory": "1G"}}}},
        r"stack_service_overrides names the unknown service 'postgress'; the services are chroma, db, ollama, redis\.",
    ),
    "a memory figure of the store": (
        "stack",
        {"stack_service_overrides": {"db": {"limits": {"memory": "2Gb"}}}},
        r"'2Gb' is not a memory figure: write a whole number and K, M or G, such as 512M or 2G",
    ),
    "a memory figure of the edge": (
        "edge",
        {"edge_service_overrides": {"traefik": {"limits": {"memory": "256"}}}},
        r"'256' is not a memory figure",
    ),
    "an image without a digest": (
        "edge",
        {"edge_images": {"traefik": "docker.io/library/traefik:v3.7"}},
        r"The image 'traefik' is locked as 'docker\.io/library/traefik:v3\.7' without a digest; run the playbook",
    ),
    "a release that is not locked": (
        "app_release",
        {"app_release_id": "9.9.9"},
        r"The images lock has no release 9\.9\.9; run the playbook flowaudit\.ops\.images",
    ),
    "a missing secret": (
        "stack",
        {"stack_secrets": {"postgres_password": "only-this-one-is-there"}},
        r"stack_secrets lacks database_password, redis_password; put it into the vault of this inventory",
    ),
    "live-restore in a Swarm": (
        "docker_engine",
        {"docker_engine_live_restore": True, "docker_engine_swarm": True},
        r"docker_engine_live_restore is on, which Docker refuses in a Swarm; turn one of the two off\.",
    ),
    "an unsupported distribution": (
        "nuc_host",
        {"_nuc_host_supported": ["Debian 12"]},
        r"demo_nuc runs Debian 13(\.\d+)?, which is not supported; use one of Debian 12\.",
    ),
    "too little disk": (
        "nuc_host",
        {"nuc_host_minimum_free_disk": "100000G", "nuc_host_data_directory": "/not/there/yet"},
        r"/not/there/yet on demo_nuc has [\d.]+ GB free, but nuc_host_minimum_free_disk asks for 100000G; free or add",
    ),
    "a full disk": (
        "nuc_host",
        {"nuc_host_disk_floor": "100000G"},
        r"/data on demo_nuc has [\d.]+ GB free, but nuc_host_disk_floor asks for 100000G; free or add",
    ),
    "too little memory": (
        "compose_project",
        {"compose_project_capacity_reserve": "4000G"},
        r"The machine has [\d.]+ GB of memory, but the services' limits and the reserve come to [\d.]+ GB; lower",
    ),
    "too few processors": (
        "compose_project",
        {"edge_service_overrides": {"traefik": {"limits": {"cpus": 4096}}}},
        r"edge_services\.traefik may use 4096 processors, but the machine has \d+; lower edge_services",
    ),
    "no domain": (
        "edge",
        {"edge_domain": "my portal"},
        r'edge_domain or edge_domain_aliases has "my portal", which is no host name; write it like portal',
    ),
    "a port that is none": (
        "edge",
        {"edge_https_port": "https"},
        r"edge_https_port.*(int|integer)",
    ),
    "a port in use": (
        "edge",
        {"edge_http_port": 8081},
        r"Port 8081 or 443 of demo_nuc is in use: .*python3",
    ),
}


@pytest.fixture
def port_taken(nuc: t.Any) -> Iterator[None]:
    nuc.check_output("systemd-run --quiet --unit=port-taker python3 -m http.server 8081")
    wait_until(lambda: ":8081 " in nuc.check_output("ss -Htln"), 20, "somebody listens")
    yield
    nuc.run("systemctl stop port-taker")


def test_bad_input_is_refused_in_one_sentence(refuse: Refuse, port_taken: None) -> None:
    said = refuse([(role, variables) for role, variables, _sentence in BAD_INPUT.values()])
    answers = dict(zip(BAD_INPUT, said, strict=True))
    assert {case: answer for case, answer in answers.items() if not re.search(BAD_INPUT[case][2], answer)} == {}


# The first is a port of the firewall too; the second is refused by the check that comes last.
@pytest.mark.parametrize("case", ["a port that is none", "too few processors"])
def test_bad_input_stops_before_anything_is_touched(playbook: Playbook, case: str) -> None:
    _role, variables, sentence = BAD_INPUT[case]
    # With the tag of another role: what is wrong is said whatever part of the playbook is asked for.
    run = playbook("flowaudit.ops.site", "--tags", "nuc_host", **variables)
    assert run.returncode != 0
    assert re.search(sentence, " ".join(run.stdout.split())), run.stdout[-3000:]
    assert recap(run)["changed"] == 0
    assert "PLAY [Provision the stack]" not in run.stdout


@pytest.fixture
def production(ports: dict[str, int], tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """The production inventory as it is shipped, before it is protected; its one machine is the demo's nuc."""
    key = (STATE / "ssh" / "id_ed25519.pub").read_text().strip()
    inventory = tmp_path / "inventory"
    shutil.copytree(CHECKOUT / "inventories" / "production", inventory)
    gate = inventory / "gate.yml"
    gate.write_text(f"{gate.read_text()}protected: false\n")
    return {
        "inventory": inventory,
        "ansible_host": "127.0.0.1",
        "ansible_port": ports["nuc_22"],
        "ansible_ssh_private_key_file": str(STATE / "ssh" / "id_ed25519"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={STATE}/ssh/known_hosts",
        "nuc_host_minimum_free_disk": "1G",
        "host_access_operators": [{"name": "ops", "keys": [key], "sudo": True}],
    }


def test_the_production_inventory_says_what_it_lacks(refuse: Refuse, production: dict[str, t.Any]) -> None:
    vault = {f"vault_{name}_password": f"a-value-for-{name}" for name in ("postgres", "database", "redis")}
    lock = {"images_lock": yaml.safe_load((STATE / "images.lock.yml").read_text())["images_lock"]}
    secrets, images, provider, size = refuse(
        [("stack", lock), ("stack", vault), ("edge", lock), ("compose_project", lock | vault)], **production
    )
    assert "stack_secrets lacks postgres_password, database_password, redis_password; put it into the vault" in secrets
    assert "stack_services.db.image is 'postgres', which the images lock does not have" in images
    assert "edge_access_mode is production, but edge_oidc_issuer is empty; name your provider's issuer" in provider
    if (os.cpu_count() or 1) < 8:  # a NUC has as many
        assert re.search(r"stack_services\.ollama may use 8 processors, but the machine has \d+; lower stack", size)


@dataclasses.dataclass(frozen=True)
class Change:
    """A run with new secrets and with a model from an archive, and what there was before it."""

    output: str
    old: dict[str, str]
    document: str


@pytest.fixture(scope="module")
def change(
    playbook: Playbook, nuc: t.Any, portal: Portal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Change]:
    document = portal.upload("before-rotation.txt", b"Written with the old passwords.").json["id"]
    wait_until(
        lambda: portal.get(f"/api/documents/{document}").json["status"] == "done", 60, "the document is processed"
    )
    old = {name: (STATE / "secrets" / name).read_text().strip() for name in ("database_password", "redis_password")}
    for name, value in old.items():
        (STATE / "secrets" / name).write_text(value[::-1] + "\n")

    # A real manifest under another name: that of the model the demo has.
    manifest = nuc.file("/data/ollama/models/manifests/registry.ollama.ai/library/llama3.1/8b-instruct-q4").content
    archive = tmp_path_factory.mktemp("model") / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in (
            ("manifests/registry.ollama.ai/library/carried/1", manifest),
            ("blobs/sha256-0", b"weights"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    model = {"stack_model": "carried:1", "stack_model_source": "archive", "stack_model_archive": str(archive)}
    run = playbook("flowaudit.ops.site", "--tags", "stack,app_release", "--diff", "-v", **model)
    assert run.returncode == 0, run.stdout[-2000:]
    yield Change(run.stdout, old, document)
    nuc.check_output(
        "rm -rf /data/ollama/models/manifests/registry.ollama.ai/library/carried /data/ollama/models/blobs/sha256-0"
    )


@pytest.mark.campaign
def test_a_model_from_an_archive_arrives_whole(change: Change, docker: Callable[..., str], nuc: t.Any) -> None:
    assert "carried:1" in docker("exec", "flowaudit-ollama-1", "ollama", "list")
    assert not nuc.file("/data/ollama/incoming").exists


@pytest.mark.campaign
def test_changed_secrets_arrive_everywhere_in_one_run(
    change: Change, portal: Portal, docker: Callable[..., str]
) -> None:
    told = [value for old in change.old.values() for value in (old, old[::-1]) if value in change.output]
    assert told == []
    wait_until(portal.healthy, 60, "the portal is healthy with the new passwords")
    assert portal.get(f"/api/documents/{change.document}").json["status"] == "done"
    # Read where Redis reads it; a password on a command line would be in the nuc's journal.
    access = docker("exec", "flowaudit-redis-1", "cat", "/run/secrets/users.acl")
    old = change.old["redis_password"]
    assert hashlib.sha256(old[::-1].encode()).hexdigest() in access
    assert hashlib.sha256(old.encode()).hexdigest() not in access
