"""The provisioned stack: limits as the engine enforces them, secrets, TLS, and one document's whole way."""

from __future__ import annotations

import json
import ssl
import typing as t
from collections.abc import Callable

import pytest

from .conftest import PROJECTS, Portal, wait_until

pytestmark = pytest.mark.smoke

DOCUMENT = (
    "The authority awards the contract for road maintenance to the lowest bidder. "
    "The audit found that two bids arrived after the deadline. "
    "Late bids must be rejected under the procurement rules. "
    "The contract value is 120,000 euro."
)
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


def limits_of(inventory: dict[str, t.Any]) -> list[tuple[str, str, float]]:
    """(container, memory figure, processors) of every service whose limits the demo's inventory sets."""
    rows = []
    for project, overrides in (
        ("flowaudit", "stack_service_overrides"),
        ("flowaudit-edge", "edge_service_overrides"),
        ("flowaudit-blue", "app_release_service_overrides"),
        ("flowaudit-backup", "backup_service_overrides"),
    ):
        rows += [
            (f"{project}-{name}-1", over["limits"]["memory"], over["limits"]["cpus"])
            for name, over in inventory[overrides].items()
        ]
    return rows


def test_all_services_are_healthy(containers: dict[str, t.Any]) -> None:
    states = {name: details["State"].get("Health", {}).get("Status") for name, details in containers.items()}
    assert states == {
        "flowaudit-db-1": "healthy",
        "flowaudit-redis-1": "healthy",
        "flowaudit-chroma-1": "healthy",
        "flowaudit-ollama-1": "healthy",
        "flowaudit-edge-traefik-1": "healthy",
        "flowaudit-edge-auth-1": "healthy",
        "flowaudit-blue-backend-1": "healthy",
        "flowaudit-blue-worker-1": "healthy",
        "flowaudit-blue-frontend-1": "healthy",
        "flowaudit-backup-receiver-1": "healthy",
    }


def test_the_engine_holds_every_limit_of_the_inventory(
    containers: dict[str, t.Any], inventory: dict[str, t.Any]
) -> None:
    rows = limits_of(inventory)
    assert len(rows) == len(containers)
    for name, memory, cpus in rows:
        host_config = containers[name]["HostConfig"]
        assert host_config["Memory"] == int(memory[:-1]) * UNITS[memory[-1]], name
        assert host_config["MemorySwap"] == host_config["Memory"], f"{name} may swap beyond its limit"
        assert host_config["NanoCpus"] == cpus * 1e9, name
        assert host_config["PidsLimit"] > 0, name


def test_the_engine_is_configured(docker: Callable[..., str], nuc: t.Any) -> None:
    info = json.loads(docker("info", "--format", "{{json .}}"))
    assert info["LiveRestoreEnabled"]
    assert info["LoggingDriver"] == "json-file"
    assert json.loads(nuc.file("/etc/docker/daemon.json").content_string)["log-opts"] == {
        "max-size": "100m",
        "max-file": "5",
    }
    assert "SystemMaxUse=1G" in nuc.check_output("systemd-analyze cat-config systemd/journald.conf")


def test_the_kernel_holds_the_memory_limit(nuc: t.Any) -> None:
    # Read inside the container, from cgroup v1 or v2, whichever the machine has.
    figure = nuc.check_output(
        "docker exec flowaudit-db-1 sh -c "
        "'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'"
    )
    assert int(figure) == 512 * 1024**2


def test_the_directories_the_services_share_are_roots(nuc: t.Any) -> None:
    for path in ("/data", "/etc/flowaudit", "/var/lib/flowaudit", "/var/lib/flowaudit/edge", "/var/log/flowaudit"):
        directory = nuc.file(path)
        assert (directory.user, directory.group, directory.mode) == ("root", "root", 0o755), path
    sockets = nuc.file("/var/lib/flowaudit/sockets/postgresql")
    assert (sockets.uid, sockets.mode) == (70010, 0o700)


def test_no_container_has_more_rights_than_it_needs(containers: dict[str, t.Any]) -> None:
    for name, details in containers.items():
        host_config = details["HostConfig"]
        assert not host_config["Privileged"], name
        assert host_config["CapDrop"] == ["ALL"], name
        assert not host_config["CapAdd"], name
        assert "no-new-privileges:true" in host_config["SecurityOpt"], name
        assert host_config["ReadonlyRootfs"], name
        assert int(details["Config"]["User"].split(":")[0]) >= 70000, name
        assert host_config["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host_config["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "5"}}, name
        assert "@sha256:" in details["Config"]["Image"], name


def test_only_the_edge_is_published(containers: dict[str, t.Any]) -> None:
    published = {
        binding["HostPort"]
        for details in containers.values()
        for bindings in (details["NetworkSettings"]["Ports"] or {}).values()
        for binding in bindings or []
    }
    assert published == {"80", "443"}


def test_the_stores_cannot_reach_the_outside(docker: Callable[..., str]) -> None:
    network = json.loads(docker("network", "inspect", "flowaudit-data"))[0]
    assert network["Internal"]
    routes = docker("exec", "flowaudit-ollama-1", "cat", "/proc/net/route").splitlines()[1:]
    assert not [route for route in routes if route.split()[1] == "00000000"], (
        "a default route leads out of the data network"
    )


def test_no_secret_is_where_it_can_be_read(nuc: t.Any, docker: Callable[..., str], secrets: dict[str, str]) -> None:
    assert set(secrets) == {
        *("postgres_password", "database_password", "redis_password"),
        *("backup_repository_password", "backup_prune_password"),
    }
    names = docker("ps", "--all", "--format", "{{.Names}}").split()
    places = {
        "docker inspect": docker("inspect", *names),
        "the Compose files": "".join(
            nuc.file(f"/opt/flowaudit/{project}/compose.yaml").content_string for project in PROJECTS
        ),
        "the process list": nuc.check_output("ps -eo args"),
        "an environment": nuc.check_output("cat /proc/[0-9]*/environ | tr '\\0' '\\n'"),
        "the journal": nuc.check_output("journalctl --no-pager --quiet"),
        **{f"the log of {name}": nuc.check_output("docker logs %s 2>&1", name) for name in names},
    }
    for secret, value in secrets.items():
        assert len(value) == 32
        assert not [place for place, text in places.items() if value in text], f"{secret} can be read there"


def test_a_secret_is_readable_by_its_service_alone(nuc: t.Any) -> None:
    listing = nuc.check_output("find /etc/flowaudit/secrets -exec stat --format '%F|%a|%u|%n' {} +").splitlines()
    entries = [line.split("|") for line in listing]
    files = {
        name.removeprefix("/etc/flowaudit/secrets/"): (mode, uid) for kind, mode, uid, name in entries if "file" in kind
    }
    assert files == {
        "db/postgres_password": ("400", "70010"),
        "redis/users.acl": ("400", "70020"),
        "backend/database_password": ("400", "70050"),
        "backend/redis_password": ("400", "70050"),
        "worker/database_password": ("400", "70050"),
        "worker/redis_password": ("400", "70050"),
        "migrate/database_password": ("400", "70050"),
        "migrate/redis_password": ("400", "70050"),
    }
    assert {(mode, uid) for kind, mode, uid, _name in entries if kind == "directory"} == {("700", "0")}


def test_the_application_owns_its_database_and_nothing_else(docker: Callable[..., str]) -> None:
    def ask(sql: str) -> str:
        return docker(
            "exec", "flowaudit-db-1", "psql", "--username=postgres", "--no-align", "--tuples-only", f"--command={sql}"
        ).strip()

    assert (
        ask("select rolsuper, rolcreatedb, rolcreaterole, rolreplication from pg_roles where rolname = 'flowaudit'")
        == "f|f|f|f"
    )
    assert ask("show data_checksums") == "on"
    assert ask("show server_version").startswith("17.")
    assert ask("show wal_level") == "replica"


def test_redis_refuses_everyone_without_the_password(docker: Callable[..., str]) -> None:
    assert docker("exec", "flowaudit-redis-1", "redis-cli", "PING").strip() == "PONG"
    assert "NOPERM" in docker("exec", "flowaudit-redis-1", "redis-cli", "GET", "anything")


def test_http_leads_to_https(portal: Portal) -> None:
    answer = portal.request("/path?query=1", scheme="http")
    assert answer.status in (301, 308)
    assert answer.headers["Location"].startswith("https://flowaudit.localhost")
    assert answer.headers["Location"].endswith("/path?query=1")


def test_the_certificate_is_of_the_internal_ca_and_of_no_other(portal: Portal) -> None:
    assert portal.get("/api/health").status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        Portal(portal.ports, ca=None).get("/api/health")


def test_the_ca_may_sign_nothing_but_the_portals_names(nuc: t.Any) -> None:
    text = nuc.check_output("openssl x509 -in /etc/flowaudit/ca/ca.pem -noout -text")
    assert "X509v3 Name Constraints: critical" in text
    assert "DNS:flowaudit.localhost" in text
    assert "CA:TRUE, pathlen:0" in text
    assert nuc.file("/etc/flowaudit/ca/ca.key").mode == 0o400


def test_another_host_name_is_not_served(portal: Portal) -> None:
    assert portal.request("/", Host="other.example.org").status == 404


def test_the_front_end_is_served(portal: Portal) -> None:
    answer = portal.get("/")
    assert answer.status == 200
    assert b"<html" in answer.body


def test_the_operating_mode_reaches_the_application(docker: Callable[..., str]) -> None:
    # Asked beside the edge, which lets nobody but an admin see the settings.
    program = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/api/settings').read().decode())"
    settings = json.loads(docker("exec", "flowaudit-blue-backend-1", "python3", "-c", program))
    assert settings["mode"] == "demo"
    assert settings["model"] == "llama3.1:8b-instruct-q4"
    assert settings["limits"] == {
        "max_upload_bytes": 52428800,
        "max_pages": 100,
        "max_text_characters": 500000,
        "max_users": 5,
        "max_documents_per_hour": 20,
        "max_uploads_per_minute": 5,
    }
    assert settings["batch"] == {
        "max_concurrent_uploads": 10,
        "max_concurrent_parses": 4,
        "max_concurrent_llm_calls": 1,
        "max_concurrent_llm_calls_external": 5,
        "batch_chunk_size": 10,
        "progress_update_interval_seconds": 2,
    }
    assert settings["cache_ttl_seconds"] == {
        "ruleset": 3600,
        "project": 300,
        "settings": 600,
        "static": 86400,
        "default": 900,
    }


def test_an_upload_goes_through_every_service_and_comes_out_as_a_result(portal: Portal) -> None:
    uploaded = portal.upload("audit.txt", DOCUMENT.encode())
    assert uploaded.status == 201
    document = uploaded.json["id"]

    def done() -> t.Any:
        answer = portal.get(f"/api/documents/{document}").json
        assert answer["status"] != "failed", answer
        return answer if answer["status"] == "done" else None

    answer = wait_until(done, 60, "the document is processed")
    assert "two bids arrived after the deadline" in answer["result"]["summary"]
    # Its embedding went to Chroma, so a second document of the same subject finds it.
    second = portal.upload("second.txt", b"Two bids arrived after the deadline of the procurement.").json["id"]
    wait_until(
        lambda: portal.get(f"/api/documents/{second}").json["status"] == "done", 60, "the second document is processed"
    )
    near = portal.get(f"/api/documents/{second}/similar").json
    assert document in json.dumps(near)
