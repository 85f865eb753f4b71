# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups on real hosts: taken, broken, attacked, and everything brought back and compared with what was there."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from .conftest import Portal, recap, wait_until

pytestmark = pytest.mark.disruptive

RESTIC = (
    "restic -r rclone:{target}/{repository} --password-file /etc/flowaudit/backup/password"
    " -o rclone.program=/usr/local/lib/flowaudit/backup-connect -o 'rclone.args=serve restic --stdio' "
)
METRICS = "/var/lib/flowaudit/metrics/backup.prom"

Playbook = Callable[..., t.Any]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


def said(run: t.Any) -> str:
    """What a playbook says, on one line."""
    return " ".join(run.stdout.split())


def succeed(run: t.Any) -> str:
    assert run.returncode == 0, run.stdout[-4000:]
    return said(run)


def job(nuc: t.Any, name: str) -> t.Any:
    """Run a job as its timer does; systemd's word for how it ended."""
    unit = f"flowaudit-backup@{name}.service"
    # A start while it is still at it is the same start.
    wait_until(lambda: "ing" not in nuc.run("systemctl is-active %s", unit).stdout, 120, f"{unit} has ended")
    nuc.run("systemctl start %s", unit)
    return nuc.check_output("systemctl show --property=Result --value flowaudit-backup@%s.service", name).strip()


def status(nuc: t.Any) -> t.Any:
    return json.loads(nuc.run("flowaudit-backup status").stdout)


def figure(nuc: t.Any, name: str) -> float:
    match = re.search(rf"^{re.escape(name)} (\S+)$", nuc.file(METRICS).content_string, re.MULTILINE)
    assert match, name
    return float(match[1])


def rows(docker: Callable[..., str], question: str) -> str:
    command = ("exec", "flowaudit-db-1", "psql", "-U", "postgres", "-d", "flowaudit", "-Atc", question)
    return docker(*command).strip()


def documents(portal: Portal) -> set[str]:
    answer = portal.get("/api/documents")
    assert answer.status == 200, answer.body
    return {each["filename"] for each in answer.json["documents"]}


@pytest.fixture
def upload(portal: Portal, docker: Callable[..., str]) -> Callable[[str], str]:
    """Upload a document and wait until it is done, its vectors included; its id."""

    def run(name: str) -> str:
        docker("exec", "flowaudit-redis-1", "sh", "-c", ":")  # it is there
        answer = portal.upload(name, f"What {name} says.\n".encode() * 20)
        assert answer.status in (200, 201, 202), (answer.status, answer.body)
        document = t.cast(str, answer.json["id"])
        wait_until(lambda: portal.get(f"/api/documents/{document}").json.get("status") == "done", 60, f"{name} is done")
        return document

    return run


@contextlib.contextmanager
def unreachable(nuc: t.Any, name: str) -> Iterator[None]:
    """A host cannot be reached from the nuc, and from nowhere else it makes a difference."""
    address = f"{nuc.check_output('getent hosts %s', name).split()[0]}/32"
    nuc.check_output("ip route add unreachable %s", address)
    try:
        yield
    finally:
        nuc.check_output("ip route del unreachable %s", address)


def test_everything_has_a_backup_that_is_proved(playbook: Playbook, nuc: t.Any) -> None:
    succeed(playbook("flowaudit.ops.backup_status"))
    known = status(nuc)
    assert known["overdue"] == []
    assert set(known["jobs"]) == {"wal", "base", "dump", "chroma", "uploads", "config", "check", "drill"}
    assert known["drill"]["problems"] == [] and known["drill"]["rto"] > 0
    assert figure(nuc, "flowaudit_backup_wal_receiver_active") == 1
    assert figure(nuc, 'flowaudit_backup_success{job="base"}') == 1
    # The heartbeat goes on each minute, and the receiver has it.
    assert known["rpo_host"] is None or known["rpo_host"] < 180


def test_two_at_once_wait_for_each_other(nuc: t.Any) -> None:
    both = nuc.run("flowaudit-backup run uploads & flowaudit-backup run uploads; wait $!")
    assert both.rc == 0, both.stderr


def test_an_attacker_on_the_host_takes_nothing_away(nuc: t.Any, nas: t.Any) -> None:
    def kept() -> str:
        return t.cast(
            str,
            nas.check_output(
                "cd /srv/flowaudit-backup && find . -type f -not -path '*/locks/*' | sort | xargs sha256sum"
            ),
        )

    before = kept()
    restic = RESTIC.format(target="nas", repository="postgres")
    snapshot = nuc.check_output(
        restic + "snapshots --json --latest 1 | python3 -c 'import json,sys;print(json.load(sys.stdin)[0][\"id\"])'"
    )
    # What restic thinks of it does not matter (it ends with 0 when it could not remove a snapshot): what is there does.
    for attempt in (f"forget {snapshot}", "key remove 1"):
        nuc.run(restic + attempt)
    ssh = "ssh -F /etc/flowaudit/backup/ssh_config nas "
    for attempt in (
        "rm -rf /srv/flowaudit-backup",
        "id",
        "'serve restic --stdio ../../etc'",
        "'serve sftp --stdio postgres'",
        "",
    ):
        done = nuc.run(f"timeout 5 {ssh}{attempt} < /dev/null")
        assert done.rc != 0, (attempt, done.stdout)
        assert "nothing else" in done.stderr
    for attempt in ("-N -L 2222:127.0.0.1:22", "-t"):
        assert nuc.run(f"timeout 5 ssh -F /etc/flowaudit/backup/ssh_config {attempt} nas 'sh -i' < /dev/null").rc != 0
    after = dict(reversed(line.split(maxsplit=1)) for line in kept().splitlines())
    assert {
        name: digest for digest, name in (line.split(maxsplit=1) for line in before.splitlines())
    }.items() <= after.items()
    # A snapshot with a time of its own choosing pushes nothing out: the target counts by its own clock.
    nuc.check_output(restic + "backup --host demo_nuc --tag base --time '2099-01-01 00:00:00' /etc/hostname")
    count = "ls /srv/flowaudit-backup/demo_nuc/postgres/snapshots | wc -l"
    there = nas.check_output(count)
    nas.check_output("systemctl start flowaudit-backup-target-prune@demo_nuc.service")
    assert nas.check_output(count) == there
    # Taken away again by who keeps it.
    place = "/srv/flowaudit-backup/demo_nuc/postgres"
    forget = f"restic -r {place} --password-file /etc/flowaudit-backup/prune/demo_nuc --no-cache forget "
    nas.check_output(f"{forget} $(ls -t {place}/snapshots | head -1)")
    nas.check_output("chown -R flowaudit-backup: /srv/flowaudit-backup/demo_nuc/postgres")


def test_a_target_out_of_reach_is_no_success(nuc: t.Any) -> None:
    before = status(nuc)["jobs"]["wal"]["succeeded_at"]
    with unreachable(nuc, "nas"):
        assert job(nuc, "wal") != "success"
    known = status(nuc)["jobs"]["wal"]
    assert known["error"] and known["succeeded_at"] == before
    assert figure(nuc, 'flowaudit_backup_success{job="wal"}') == 0


def test_the_next_run_makes_up_for_it(nuc: t.Any) -> None:
    assert job(nuc, "wal") == "success"
    assert figure(nuc, 'flowaudit_backup_success{job="wal"}') == 1


@pytest.mark.campaign
def test_a_copy_that_is_killed_leaves_everything_running(
    nuc: t.Any, docker: Callable[..., str], portal: Portal
) -> None:
    nuc.check_output("systemctl start --no-block flowaudit-backup@chroma.service")
    wait_until(lambda: "flowaudit-chroma-1" not in docker("ps", "--format", "{{.Names}}"), 60, "Chroma is stopped")
    nuc.check_output("systemctl kill --signal=KILL flowaudit-backup@chroma.service")
    wait_until(portal.healthy, 120, "the portal is healthy")
    wait_until(lambda: "flowaudit-blue-worker-1" in docker("ps", "--format", "{{.Names}}"), 60, "the worker runs")
    assert status(nuc)["jobs"]["chroma"]["error"]
    assert job(nuc, "chroma") == "success"


def test_the_database_comes_back_to_a_moment_and_forward_again(
    playbook: Playbook, nuc: t.Any, docker: Callable[..., str], portal: Portal, upload: Callable[[str], str]
) -> None:
    kept, later = (f"{name}-{time.time():.0f}.txt" for name in ("kept", "later"))
    upload(kept)
    moment = now()
    time.sleep(1.5)
    upload(later)
    rows(docker, f"DELETE FROM documents WHERE filename = '{kept}'")

    run = playbook("flowaudit.ops.restore_database", restore_time=moment)
    told = succeed(run)
    assert kept in documents(portal) and later not in documents(portal)
    point = re.search(r"restore point (before-restore-\w+)", told)
    assert point, told
    assert status(nuc)["overdue"] == []
    # What was left can be gone back to, from the target alone.
    succeed(playbook("flowaudit.ops.restore_database", restore_time=point[1], restore_from_target=True))
    assert later in documents(portal) and kept not in documents(portal)

    assert recap(playbook("flowaudit.ops.site", "--tags", "stack"))["changed"] == 0
    assert docker("volume", "ls", "--quiet", "--filter", "name=flowaudit_pgdata_").split().__len__() >= 3
    told = succeed(playbook("flowaudit.ops.restore_confirm"))
    assert len(docker("volume", "ls", "--quiet", "--filter", "name=flowaudit_pgdata_").split()) == 1
    assert portal.healthy()


@pytest.mark.parametrize(
    ("moment", "why"),
    [
        ("2099-01-01 00:00:00+00:00", "is in the future; possible is"),
        ("2001-01-01 00:00:00+00:00", "is before the first base backup; possible is"),
        ("yesterday", "write latest, a time with its zone"),
        ("", "Give the moment"),
    ],
)
def test_a_moment_that_cannot_be_had_is_refused(
    playbook: Playbook, docker: Callable[..., str], moment: str, why: str
) -> None:
    began = docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-db-1", "flowaudit-blue-backend-1")
    run = playbook("flowaudit.ops.restore_database", restore_time=moment)
    assert run.returncode != 0 and why in said(run), run.stdout[-2000:]
    assert docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-db-1", "flowaudit-blue-backend-1") == began


def test_files_come_back_and_what_they_replace_is_kept(playbook: Playbook, nuc: t.Any) -> None:
    inside = "mkdir -p /data/uploads/restored && cd /data/uploads/restored && "
    nuc.check_output(inside + "echo first > a && echo b > b")
    try:
        assert job(nuc, "uploads") == "success"
        moment = now()
        nuc.check_output(inside + "echo encrypted > a; rm b; echo new > c")
        assert job(nuc, "uploads") == "success"
        check = playbook(
            "flowaudit.ops.restore_files", "--check", restore_path="/data/uploads/restored", restore_time=moment
        )
        assert "2 files would be" in succeed(check)
        assert nuc.file("/data/uploads/restored/a").content_string == "encrypted\n"
        told = succeed(
            playbook("flowaudit.ops.restore_files", restore_path="/data/uploads/restored", restore_time=moment)
        )
        assert [nuc.file(f"/data/uploads/restored/{name}").content_string for name in "abc"] == [
            "first\n",
            "b\n",
            "new\n",
        ]
        kept = re.search(r"What was there before: (/\S+?)[\"']", told)
        assert kept and nuc.file(f"{kept[1]}/a").content_string == "encrypted\n"
        again = playbook("flowaudit.ops.restore_files", restore_path="/data/uploads/restored", restore_time=moment)
        assert recap(again)["changed"] == 0
        wrong = playbook("flowaudit.ops.restore_files", restore_path="/etc/shadow")
        assert wrong.returncode != 0 and "is not among what is saved" in said(wrong)
    finally:
        nuc.check_output("rm -rf /data/uploads/restored")


@pytest.mark.campaign
def test_vectors_come_back_and_newer_documents_are_indexed_again(
    playbook: Playbook, nuc: t.Any, portal: Portal, upload: Callable[[str], str]
) -> None:
    upload("old-vectors.txt")
    assert job(nuc, "chroma") == "success"
    newer = upload("new-vectors.txt")
    before = vectors(nuc)
    nuc.check_output("docker stop flowaudit-chroma-1 && rm -rf /data/chroma/* && docker start flowaudit-chroma-1")
    wait_until(portal.healthy, 60, "the portal is healthy")
    succeed(playbook("flowaudit.ops.restore_vectors"))
    wait_until(lambda: vectors(nuc) == before, 90, "all vectors are there again")
    assert portal.get(f"/api/documents/{newer}").json["status"] == "done"


def vectors(nuc: t.Any) -> dict[str, int]:
    """What Chroma has, asked by the collection's own eyes."""
    program = (
        "import sys; sys.path.insert(0, '/usr/local/lib/flowaudit/backup/collections');"
        "from ansible_collections.flowaudit.ops.plugins.module_utils.backup import vectors;"
        "import json; print(json.dumps(vectors.counts(sys.argv[1])))"
    )
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    with contextlib.suppress(AssertionError):
        address = nuc.check_output("docker inspect --format %s flowaudit-chroma-1", template).strip()
        return t.cast("dict[str, int]", json.loads(nuc.check_output("python3 -c %s %s", program, address)))
    return {}


@pytest.mark.campaign
def test_everything_can_be_drilled(playbook: Playbook, nuc: t.Any) -> None:
    told = succeed(playbook("flowaudit.ops.restore_drill"))
    assert re.search(r"Everything came back\. RPO [\d.]+ s, RTO [\d.]+ s", told), told
    assert figure(nuc, "flowaudit_drill_success") == 1
    # The first one, which `site` had made, came into the trail with it.
    assert status(nuc)["unrecorded"] == []
