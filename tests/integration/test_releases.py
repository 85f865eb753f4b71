"""Releases on a real host: switched under load without a failed request, taken back by themselves when they are bad."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from .clients_on_host import large_upload
from .conftest import CHECKOUT, EDGE_ALONE, INVENTORY, STATE, Load, Portal, wait_until

pytestmark = pytest.mark.releases

Playbook = Callable[..., subprocess.CompletedProcess[str]]
DOCUMENTS = "/api/documents?limit=1"
#: More than one client's share: a 429 would be a failure.
RATES = {
    "edge_upload_rate": 60000,
    "app_release_settings": {"MAX_UPLOADS_PER_MINUTE": 60000, "MAX_DOCUMENTS_PER_HOUR": 1000000},
}
APPLICATION_ALONE = str(CHECKOUT / "tests" / "integration" / "release.yml")
#: Shorter than the defaults; 1.3.0-broken breaks after five seconds.
TERMS = {"app_release_settle": 7, "app_release_watch": 5}


class Uploads:
    """Uploads while the context lasts: small documents one after the other, and large ones at a slow line's speed."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.documents: list[str] = []
        self.large = 0
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._small, self._large)]

    def __enter__(self) -> Uploads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _small(self) -> None:
        number = 0
        while not self._stop.wait(0.5):
            number += 1
            try:
                answer = self.portal.upload(f"{number}.txt", f"document {number} of {time.time()}".encode())
                self._note(answer.status, answer.body)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"small {error!r}")

    def _large(self) -> None:
        while not self._stop.is_set():
            try:
                with contextlib.closing(self.portal.connect()) as connection:
                    connection.timeout = 120
                    status, body = self._slowly(connection)
                self._note(status, body)
                self.large += 1
            except (OSError, http.client.HTTPException, ssl.SSLError) as error:
                self.failures.append(f"large {error!r}")

    def _slowly(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        headers, body = large_upload(f"a large document of {time.time()}")
        connection.request("POST", "/api/documents/upload", body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()

    def _note(self, status: int, body: bytes) -> None:
        if status == 201:
            self.documents.append(json.loads(body)["id"])
        else:
            self.failures.append(f"{status} {body[:200]!r}")


@contextlib.contextmanager
def load(portal: Portal) -> Iterator[tuple[list[Load], Uploads]]:
    """Eight clients and the uploads."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Load(portal, DOCUMENTS)) for _client in range(4)]
        uploads = stack.enter_context(Uploads(portal))
        yield clients, uploads


@pytest.fixture(scope="module")
def change(playbook: Playbook) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Deploy or roll back, in the tests' terms."""

    def run(name: str, release_id: str = "", *arguments: str, **more: t.Any) -> subprocess.CompletedProcess[str]:
        named = {"release_id": release_id} if release_id else {}
        return playbook(f"flowaudit.ops.{name}", *arguments, **{**RATES, **TERMS, **named, **more})

    return run


@pytest.fixture(scope="module", autouse=True)
def settled(playbook: Playbook, nuc: t.Any, change: t.Any) -> Iterator[None]:
    """1.0.0 in blue before and after, as every other test expects it."""
    for each in (EDGE_ALONE, APPLICATION_ALONE):
        run = playbook(each, **RATES)
        assert run.returncode == 0, run.stdout[-3000:]
    yield
    for _attempt in range(3):
        if current(nuc) == ("1.0.0", "blue"):
            break
        # By way of the other colour, if it is in the wrong one.
        target = "1.0.0" if current(nuc)[0] != "1.0.0" else "1.1.0"
        change("rollback" if target == "1.0.0" else "deploy", target, accept_interruption=True)
    forget_uploads(nuc)
    runs = [playbook(each) for each in (EDGE_ALONE, APPLICATION_ALONE)]
    nuc.run("docker compose --file /opt/flowaudit/flowaudit-green/compose.yaml down --timeout 5")
    nuc.run("rm -f /var/lib/flowaudit/release.warm")
    assert [run.returncode for run in runs] == [0, 0], [run.stdout[-3000:] for run in runs]
    assert current(nuc) == ("1.0.0", "blue")


def forget_uploads(nuc: t.Any) -> None:
    """Forget how many there were: within this hour, the demo's limit would have nobody else upload anything."""
    forget = (
        "from refapp.redis_store import PREFIX, make_client; from refapp.settings import Settings; import os;"
        "redis = make_client(Settings.read(os.environ).redis);"
        "[redis.delete(key) for key in redis.scan_iter(PREFIX + 'limit:*')]"
    )
    nuc.check_output("docker exec flowaudit-%s-backend-1 python3 -c %s", current(nuc)[1], forget)


def current(nuc: t.Any) -> tuple[str, str]:
    record = json.loads(nuc.check_output("cat /var/lib/flowaudit/current"))
    return record["release_id"], record["colour"]


def schema(nuc: t.Any) -> str:
    query = "SELECT version_num FROM alembic_version"
    return t.cast(
        "str", nuc.check_output("docker exec flowaudit-db-1 psql -U postgres -d flowaudit -Atc %s", query).strip()
    )


def workers(nuc: t.Any) -> list[str]:
    return sorted(re.findall(r"flowaudit-(\w+)-worker-1", nuc.check_output("docker ps --format '{{.Names}}'")))


def serves(portal: Portal, nuc: t.Any, release_id: str) -> None:
    """The release answers, has the only worker, and nothing is under way."""
    assert portal.get("/api/health").json["version"] == release_id
    now, colour = current(nuc)
    assert (now, workers(nuc)) == (release_id, [colour])
    assert not nuc.file("/var/lib/flowaudit/release.journal").exists


def said(run: subprocess.CompletedProcess[str]) -> str:
    """A run's output, without the line breaks of what it says."""
    return re.sub(r"\s+", " ", run.stdout.replace("\\n", " "))


# First, as long as the database has the schema of 1.0.0.
def test_a_migration_that_gets_no_lock_leaves_everything(change: t.Any, portal: Portal, nuc: t.Any) -> None:
    if schema(nuc) != "0001":
        pytest.skip("the database had the newer schema before")
    # An open report: readers and writers go on, a migration would have to wait for it.
    report = "BEGIN; SELECT count(*) FROM documents; SELECT pg_sleep(90)"
    nuc.run("docker exec --detach flowaudit-db-1 psql -U postgres -d flowaudit -c %s", report)
    try:
        run = change("deploy", "1.1.0")
    finally:
        nuc.check_output(
            "docker exec flowaudit-db-1 psql -U postgres -Atc %s",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_sleep(90)%' AND pid <> pg_backend_pid()",
        )
    assert run.returncode != 0
    assert re.search(
        r"The migrations of 1\.1\.0 failed: .*lock timeout.*\(step migrate\)\. 1\.0\.0 serves as before", said(run)
    )
    assert schema(nuc) == "0001"
    serves(portal, nuc, "1.0.0")


def test_deployed_rolled_back_and_deployed_again_without_a_failed_request(
    change: t.Any, portal: Portal, nuc: t.Any
) -> None:
    with load(portal) as (clients, uploads):
        for name, release_id, version in (
            ("deploy", "1.1.0", "1.1.0"),
            ("rollback", "", "1.0.0"),
            ("deploy", "1.1.0", "1.1.0"),
        ):
            run = change(name, release_id)
            assert run.returncode == 0, run.stdout[-3000:]
            serves(portal, nuc, version)
        wait_until(lambda: uploads.large >= 2, 60, "large uploads")
    assert [failure for client in clients for failure in client.failures] == []
    assert uploads.failures == []
    assert sum(client.answers for client in clients) > 1000
    wait_until(lambda: not unfinished(nuc), 120, "every job done")
    # Every document was taken up, and by one worker.
    ended = jobs_ended(nuc)
    assert {document: ended.count(document) for document in uploads.documents} == dict.fromkeys(uploads.documents, 1)


def unfinished(nuc: t.Any) -> str:
    query = "SELECT id FROM documents WHERE status NOT IN ('done', 'failed') LIMIT 1"
    return t.cast(
        "str", nuc.check_output("docker exec flowaudit-db-1 psql -U postgres -d flowaudit -Atc %s", query).strip()
    )


def jobs_ended(nuc: t.Any) -> list[str]:
    """The document of every job that some worker has ended, from both workers' logs."""
    logs = nuc.check_output("docker logs flowaudit-blue-worker-1 2>&1; docker logs flowaudit-green-worker-1 2>&1")
    entries = [json.loads(line) for line in logs.splitlines() if '"job ended"' in line]
    return [entry["document"] for entry in entries if entry["outcome"] != "given back"]


def test_a_release_that_answers_with_errors_is_taken_back_by_itself(change: t.Any, portal: Portal, nuc: t.Any) -> None:
    with Load(portal, DOCUMENTS) as clients:
        run = change("deploy", "1.1.1-failing", app_release_watch=60)
    assert run.returncode != 0
    assert re.search(
        r"Errors rise since the switch: .*\(step watch\)\. 1\.1\.0 serves as before; its logs are in", said(run)
    )
    serves(portal, nuc, "1.1.0")
    # Users met its errors until then, and nothing else.
    assert {failure.split()[-1] for failure in clients.failures} == {"500"}


def test_a_release_that_does_not_stay_healthy_never_gets_a_request(change: t.Any, portal: Portal, nuc: t.Any) -> None:
    log = "/var/log/flowaudit/edge/access.log"
    before = nuc.file(log).size
    _release, colour = current(nuc)
    spare = "green" if colour == "blue" else "blue"
    with Load(portal, DOCUMENTS):
        run = change("deploy", "1.3.0-broken", accept_interruption=True)
    assert run.returncode != 0
    assert re.search(r"Release 1\.3\.0-broken is unhealthy .*1\.1\.0 serves as before", said(run)), run.stdout[-3000:]
    serves(portal, nuc, "1.1.0")
    assert schema(nuc) == "0002"  # its migration went back with it
    assert f"flowaudit-{spare}-" not in nuc.check_output(f"tail --bytes=+{before + 1} {log}")


def test_a_killed_run_is_finished_by_the_host_and_keeps_others_out(change: t.Any, portal: Portal, nuc: t.Any) -> None:
    extra = json.dumps({**RATES, **TERMS, "app_release_smoke_command": ["sleep", "25"]})
    run = subprocess.Popen(
        ["ansible-playbook", "-i", str(INVENTORY), "flowaudit.ops.rollback", "-e", "release_id=1.0.0", "-e", extra],
        cwd=CHECKOUT,
        env={**os.environ, "FLOWAUDIT_STATE": str(STATE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: nuc.file("/var/lib/flowaudit/release.journal").exists, 60, "the rollback has begun")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    second = change("deploy", "1.1.0")
    assert second.returncode != 0
    assert re.search(r"being changed by somebody else: rollback of 1\.0\.0 by \w+ since", said(second)), second.stdout[
        -2000:
    ]
    wait_until(lambda: not nuc.file("/var/lib/flowaudit/release.journal").exists, 120, "the host has finished it")
    serves(portal, nuc, "1.0.0")


def test_what_cannot_be_done_is_refused_before_the_switch(
    change: t.Any, portal: Portal, nuc: t.Any, host_container: str
) -> None:
    before = current(nuc)
    unknown = change("deploy", "9.9.9")
    assert "The images lock has no release 9.9.9; run the playbook flowaudit.ops.images" in said(unknown)
    nameless = change("deploy")
    assert "No release is named; add -e release_id=1.1.0" in said(nameless)
    # 1.2.0 was never here, so it has to come from the registry.
    nuc.run("docker images --quiet --filter label=org.opencontainers.image.version=1.2.0 | xargs -r docker rmi --force")
    registry = f"{host_container.removesuffix('-nuc')}-registry"
    subprocess.run(["docker", "pause", registry], check=True, stdout=subprocess.DEVNULL)
    try:
        away = change("deploy", "1.2.0", accept_interruption=True, app_release_pull_wait=15)
    finally:
        subprocess.run(["docker", "unpause", registry], check=True, stdout=subprocess.DEVNULL)
    assert re.search(r"The image \S+@sha256:\S+ cannot be pulled", said(away)), away.stdout[-2000:]
    record = "/var/lib/flowaudit/releases/1.1.0.json"
    nuc.check_output(
        'cp %s /tmp/kept.json && sed -i \'s/"blue"/"green"/; s/ada/eve/; s/expand/none/\' %s', record, record
    )
    edited = change("rollback", "1.1.0")
    nuc.check_output("mv /tmp/kept.json %s", record)
    assert "was changed by somebody else since it was written" in said(edited), edited.stdout[-2000:]
    assert all(run.returncode != 0 for run in (unknown, nameless, away, edited))
    assert current(nuc) == before
    serves(portal, nuc, before[0])


def test_the_list_says_what_serves_and_where_a_rollback_leads(playbook: Playbook) -> None:
    run = playbook("flowaudit.ops.release_list")
    assert run.returncode == 0
    assert re.search(r"\* ?1\.0\.0 +blue", run.stdout), run.stdout
    assert re.search(r"1\.1\.0 +green ", run.stdout), run.stdout


def test_what_was_kept_warm_is_stopped_once_its_time_is_over(portal: Portal, nuc: t.Any) -> None:
    warm = "/var/lib/flowaudit/release.warm"
    other = nuc.file(warm).content_string.split()[0]
    states = f"docker inspect --format '{{{{.State.Status}}}}' flowaudit-{other}-backend-1 flowaudit-{other}-frontend-1"
    nuc.check_output("systemctl start flowaudit-release-cool.service")
    assert nuc.check_output(states).split() == ["running", "running"]
    nuc.check_output("sed -i 's/ .*/ 0/' %s", warm)
    nuc.check_output("systemctl start flowaudit-release-cool.service")
    assert nuc.check_output(states).split() == ["exited", "exited"]
    assert not nuc.file(warm).exists
    assert portal.healthy()
