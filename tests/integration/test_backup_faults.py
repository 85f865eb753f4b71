# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What goes wrong with backups: never a success, always a figure, what was good stays good, the next run heals."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from .conftest import CHECKOUT, STATE, Portal, wait_until
from .test_backup import RESTIC, Playbook, figure, job, rows, said, status, succeed, unreachable

pytestmark = [pytest.mark.campaign, pytest.mark.disruptive]

Docker = Callable[..., str]

KEPT = "/srv/flowaudit-backup/demo_nuc"
BASES = "/data/backups/postgres/base"
DUMPS = "/data/backups/postgres/dump"
MEGABYTE = 2**20


def fails(nuc: t.Any, name: str) -> str:
    """A job that must fail, and be known to have; why it says it did."""
    before = status(nuc)["jobs"][name]["succeeded_at"]
    assert job(nuc, name) != "success"
    known = status(nuc)["jobs"][name]
    assert known["error"] and known["succeeded_at"] == before
    assert figure(nuc, f'flowaudit_backup_success{{job="{name}"}}') == 0
    return t.cast("str", known["error"])


def heals(nuc: t.Any, name: str) -> None:
    assert job(nuc, name) == "success", status(nuc)["jobs"][name]["error"]
    assert figure(nuc, f'flowaudit_backup_success{{job="{name}"}}') == 1


def snapshots(nuc: t.Any, repository: str, target: str = "nas") -> int:
    count = "snapshots --json --no-lock | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))'"
    return int(nuc.check_output(RESTIC.format(target=target, repository=repository) + count))


@contextlib.contextmanager
def small_disk(host: t.Any, place: str, room: int) -> Iterator[None]:
    """A directory on a file system of its own that has only so many bytes left; what is written there is lost."""
    host.check_output("mount -t tmpfs -o size=90%% tmpfs /mnt && cp -a %s/. /mnt", place)
    used = int(host.check_output("df --block-size=1 --output=used /mnt | tail -1"))
    host.check_output("mount -o remount,size=%s /mnt", str(used + room))
    for what in ("chown", "chmod"):
        host.check_output(f"{what} --reference=%s /mnt", place)
    host.check_output("mount --bind /mnt %s && umount /mnt", place)
    try:
        yield
    finally:
        host.check_output("umount --lazy %s", place)


def flip(host: t.Any, path: str, at: int) -> None:
    program = (
        "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2]));"
        " b = f.read(1)[0] ^ 1; f.seek(-1, 1); f.write(bytes([b]))"
    )
    host.check_output("python3 -c %s %s %s", program, path, str(at))


def write_segments(docker: Docker, number: int) -> None:
    for _each in range(number):
        rows(docker, "SELECT pg_logical_emit_message(true, 'test', repeat('x', 1000))")
        rows(docker, "SELECT pg_switch_wal()")


def recovers(playbook: Playbook) -> None:
    """The target alone gives everything back."""
    assert "Everything came back" in succeed(playbook("flowaudit.ops.restore_drill"))


# ── The target ──


def test_a_target_that_is_full(nuc: t.Any, nas: t.Any) -> None:
    had = snapshots(nuc, "uploads")
    with small_disk(nas, f"{KEPT}/uploads", MEGABYTE):
        nuc.check_output("head -c 8M /dev/urandom > /data/uploads/large")
        try:
            fails(nuc, "uploads")
            # What was there before can be read, and be restored.
            assert snapshots(nuc, "uploads") == had
            nuc.check_output(
                RESTIC.format(target="nas", repository="uploads") + "restore latest --no-lock --target /tmp/restored"
            )
        finally:
            nuc.check_output("rm -rf /tmp/restored")
    heals(nuc, "uploads")
    nuc.check_output("rm /data/uploads/large")


def test_every_pack_of_a_repository_damaged(nuc: t.Any, nas: t.Any) -> None:
    # A week's check reads a quarter of them.
    packs = nas.check_output("find %s/config/data -type f", KEPT).split()
    nas.check_output("cp -a %s/config/data /tmp/data", KEPT)
    try:
        for pack in packs:
            nas.check_output("chmod u+w %s", pack)
            flip(nas, pack, 100)
        assert "config on nas is damaged" in fails(nuc, "check")
        # The others have nothing to do with it.
        heals(nuc, "wal")
    finally:
        nas.check_output("cp -a --remove-destination /tmp/data/. %s/config/data/ && rm -r /tmp/data", KEPT)
    heals(nuc, "check")


def test_what_pruning_removed_can_be_brought_back(nuc: t.Any, nas: t.Any) -> None:
    place, removed = f"{KEPT}/config", f"{KEPT}/.removed/config"
    heals(nuc, "config")
    had = snapshots(nuc, "config")
    oldest = nas.check_output("ls -tr %s/snapshots | head -1", place).strip()
    nas.check_output("touch -d '-400 days' %s/snapshots/%s", place, oldest)
    nas.check_output("systemctl start flowaudit-backup-target-prune@demo_nuc.service")
    assert snapshots(nuc, "config") == had - 1
    # Each pruning has a directory of its own.
    this_time = nas.check_output("ls -d %s/* | tail -1", removed).strip()
    assert oldest in nas.check_output("find %s -name %s", this_time, oldest)
    assert nas.run("runuser -u flowaudit-backup -- ls %s", removed).rc != 0

    nas.check_output("cp -an %s/. %s/", this_time, place)
    for command in ("repair index", "check --read-data"):
        nas.check_output(f"restic -r {place} --password-file /etc/flowaudit-backup/prune/demo_nuc --no-cache {command}")
    nas.check_output(
        "touch %s/snapshots/%s && chown -R flowaudit-backup: %s && rm -r %s", place, oldest, place, this_time
    )
    assert snapshots(nuc, "config") == had
    heals(nuc, "config")


def test_after_an_intrusion_what_came_since_is_forgotten(nuc: t.Any, nas: t.Any) -> None:
    heals(nuc, "uploads")
    had = snapshots(nuc, "uploads")
    time.sleep(2)
    since = nas.check_output("date --utc --iso-8601=seconds").strip()
    # Somebody with root on the host says that it is an old one.
    forged = "backup --json --host demo_nuc --tag uploads --time '2001-01-01 00:00:00' /etc/hostname"
    nuc.check_output(RESTIC.format(target="nas", repository="uploads") + forged)
    assert snapshots(nuc, "uploads") == had + 1
    told = nas.check_output("flowaudit-backup-target forget demo_nuc --since %s", since)
    assert "demo_nuc/uploads: uploads" in told and "is gone" in told
    assert snapshots(nuc, "uploads") == had
    # The account can still add, and read all of it.
    heals(nuc, "uploads")
    heals(nuc, "check")


# ── The host's disk ──


@pytest.mark.parametrize(("name", "place"), [("base", BASES), ("dump", DUMPS)])
def test_a_disk_that_is_full(nuc: t.Any, playbook: Playbook, name: str, place: str) -> None:
    had = nuc.check_output("ls %s", place)
    with small_disk(nuc, place, 4096):
        fails(nuc, name)
        assert nuc.check_output("ls %s", place) == had
    heals(nuc, name)


def test_no_room_for_the_log(nuc: t.Any, docker: Docker, playbook: Playbook) -> None:
    line = f"/data/wal/{nuc.file('/data/wal/stream').content_string.strip()}"
    docker("stop", "flowaudit-backup-receiver-1")
    with small_disk(nuc, line, 4 * MEGABYTE):
        docker("start", "flowaudit-backup-receiver-1")
        write_segments(docker, 3)
        fails(nuc, "wal")
        # PostgreSQL keeps what the receiver does not have, and users notice nothing.
        nuc.check_output("mount -o remount,size=90%% %s", line)
        heals(nuc, "wal")
        docker("stop", "flowaudit-backup-receiver-1")
        nuc.check_output("rm -rf /tmp/line && cp -a %s /tmp/line", line)
    nuc.check_output("rsync -a --delete /tmp/line/ %s/ && rm -r /tmp/line", line)
    heals(nuc, "wal")
    assert figure(nuc, "flowaudit_backup_wal_receiver_active") == 1
    recovers(playbook)


# ── What is on the host ──


def test_a_damaged_base_backup(nuc: t.Any, docker: Docker, playbook: Playbook, portal: Portal) -> None:
    heals(nuc, "base")
    heals(nuc, "wal")
    # The largest file of the newest.
    path = nuc.check_output("find %s/2*/pgdata/base -type f -printf '%%s %%p\\n' | sort -n | tail -1", BASES).split()[1]
    flip(nuc, path, 5000)
    assert "is not what its manifest says" in fails(nuc, "check")
    # The target has a good one.
    told = succeed(playbook("flowaudit.ops.restore_database", restore_time="latest"))
    assert "base backup from nas, log from host" in told and "was not used" in told, told[-1500:]
    assert portal.healthy()
    succeed(playbook("flowaudit.ops.restore_confirm"))
    heals(nuc, "check")


def test_a_segment_that_is_missing(nuc: t.Any, docker: Docker, playbook: Playbook) -> None:
    line = f"/data/wal/{nuc.file('/data/wal/stream').content_string.strip()}"

    def segments() -> list[str]:
        return sorted(name for name in nuc.check_output("ls %s", line).split() if "." not in name)

    had = len(segments())
    write_segments(docker, 3)
    wait_until(lambda: len(segments()) >= had + 3, 30, "the receiver has them")
    lost = segments()[-2]
    nuc.check_output("mv %s/%s /tmp/", line, lost)
    assert lost in fails(nuc, "wal")
    assert lost in fails(nuc, "check")
    # A base backup after it needs nothing before it.
    heals(nuc, "base")
    heals(nuc, "wal")
    recovers(playbook)
    nuc.check_output("mv /tmp/%s %s/ && chown --reference=%s %s/%s", lost, line, line, line, lost)
    heals(nuc, "check")


def test_a_slot_that_is_lost(nuc: t.Any, docker: Docker, playbook: Playbook) -> None:
    gaps = figure(nuc, "flowaudit_backup_wal_gap_total")
    line = nuc.file("/data/wal/stream").content_string
    docker("stop", "flowaudit-backup-receiver-1")
    wait_until(lambda: rows(docker, "SELECT active FROM pg_replication_slots") == "f", 30, "nobody follows")
    rows(docker, "SELECT pg_drop_replication_slot('flowaudit_wal')")
    write_segments(docker, 3)
    rows(docker, "CHECKPOINT")
    assert "A new line was begun and a base backup taken" in fails(nuc, "wal")
    assert figure(nuc, "flowaudit_backup_wal_gap_total") == gaps + 1
    assert nuc.file("/data/wal/stream").content_string != line
    heals(nuc, "wal")
    recovers(playbook)


# ── Who takes them ──


@contextlib.contextmanager
def held_up(nuc: t.Any, docker: Docker) -> Iterator[None]:
    """A dump that does not end, as somebody has its table; the context begins when it is under way."""
    lock = "BEGIN; LOCK TABLE documents; SELECT pg_sleep(300)"
    docker("exec", "--detach", "flowaudit-db-1", "psql", "-U", "postgres", "-d", "flowaudit", "-c", lock)
    held = "SELECT count(*) FROM pg_locks WHERE relation = 'documents'::regclass AND mode = 'AccessExclusiveLock'"
    wait_until(lambda: rows(docker, held) == "1", 30, "the table is locked")
    nuc.check_output("systemctl start --no-block flowaudit-backup@dump.service")
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'documents'::regclass AND NOT granted"
    try:
        wait_until(lambda: rows(docker, waiting) == "1", 60, "the dump waits")
        yield
    finally:
        with contextlib.suppress(AssertionError):
            rows(docker, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'")


@pytest.mark.parametrize("what", ["its unit", "its program", "the database", "the engine"])
def test_a_dump_that_is_interrupted(nuc: t.Any, docker: Docker, portal: Portal, what: str) -> None:
    before = status(nuc)["jobs"]["dump"]["succeeded_at"]
    had = nuc.check_output("ls %s", DUMPS)
    with held_up(nuc, docker):
        if what == "its unit":
            nuc.check_output("systemctl kill --signal=KILL flowaudit-backup@dump.service")
        elif what == "its program":
            docker("kill", "flowaudit-backup-dump-once")
        elif what == "the database":
            docker("restart", "--time", "0", "flowaudit-db-1")
        else:
            nuc.check_output("systemctl restart docker")
    ended = "systemctl is-active flowaudit-backup@dump.service"
    wait_until(lambda: nuc.run(ended).stdout.strip() == "failed", 120, "the job has ended")
    known = status(nuc)["jobs"]["dump"]
    assert known["error"] and known["succeeded_at"] == before
    assert nuc.check_output("ls %s", DUMPS) == had
    wait_until(portal.healthy, 120, "the portal is healthy")
    heals(nuc, "dump")
    assert "once" not in docker("ps", "--all", "--format", "{{.Names}}")
    assert nuc.check_output("ls -A %s | grep -c part || true", DUMPS) == "0"
    wait_until(lambda: job(nuc, "wal") == "success", 120, "the log is followed again")


@pytest.mark.parametrize("jump", ["+400 days", "-3 days"])
def test_a_clock_that_jumps(nuc: t.Any, playbook: Playbook, jump: str) -> None:
    """That of the backups' program: a test host has no clock of its own."""
    if nuc.run("which faketime").rc != 0:
        nuc.check_output("apt-get update -qq && apt-get install -y -qq --no-install-recommends faketime")
    jobs = ("base", "dump", "chroma", "uploads", "wal")
    had = set(nuc.check_output("ls %s", DUMPS).split())
    kept = {name: snapshots(nuc, name) for name in ("postgres", "chroma", "uploads")}
    for name in jobs:
        nuc.run("faketime -f %s flowaudit-backup run %s", jump, name)
    # To a clock that is ahead all of them are old; the target has those that went, too.
    assert len(had - set(nuc.check_output("ls %s", DUMPS).split())) <= 2
    for name in jobs:
        heals(nuc, name)
    assert all(snapshots(nuc, name) > count for name, count in kept.items())
    assert status(nuc)["overdue"] == []
    assert figure(nuc, 'flowaudit_rpo_seconds{scope="host"}') < 120
    recovers(playbook)


def test_a_wrong_password(nuc: t.Any, docker: Docker, playbook: Playbook) -> None:
    began = docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-db-1", "flowaudit-blue-backend-1")
    place = "/etc/flowaudit/backup/password"
    nuc.check_output("cp -a %s /tmp/password && echo wrong > %s", place, place)
    try:
        assert "the password is another one" in fails(nuc, "wal")
        run = playbook("flowaudit.ops.restore_database", restore_time="latest")
        assert run.returncode != 0 and "the password is another one" in said(run)
    finally:
        nuc.check_output("mv /tmp/password %s", place)
    assert docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-db-1", "flowaudit-blue-backend-1") == began
    heals(nuc, "wal")


def test_the_repository_of_another_system(nuc: t.Any, docker: Docker, playbook: Playbook) -> None:
    began = docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-db-1", "flowaudit-blue-backend-1")
    place = "/etc/flowaudit/backup/settings.json"
    nuc.check_output("cp -a %s /tmp/settings.json", place)
    try:
        nuc.check_output('sed -i \'s/"system": "demo_nuc"/"system": "other"/\' %s', place)
        run = playbook("flowaudit.ops.restore_database", restore_time="latest")
        assert run.returncode != 0 and "holds backups of demo_nuc, not of other alone" in said(run), said(run)[-1500:]
    finally:
        nuc.check_output("mv /tmp/settings.json %s", place)
    assert docker("inspect", "--format", "{{.State.StartedAt}}", "flowaudit-db-1", "flowaudit-blue-backend-1") == began
    heals(nuc, "wal")


# ── The recovery key ──


def test_the_key_in_the_safe(playbook: Playbook, nuc: t.Any, tmp_path: t.Any) -> None:
    sheet = tmp_path / "recovery.txt"
    run = playbook("flowaudit.ops.backup_recovery_key", backup_recovery_sheet=str(sheet))
    if run.returncode != 0 and "There is a recovery key already" in said(run):
        pytest.skip("these hosts have one, whose sheet this test does not have")
    succeed(run)
    assert sheet.stat().st_mode & 0o777 == 0o600
    password = re.search(r"Password: +(.+)", sheet.read_text())
    assert password and password[1].replace(" ", "") not in run.stdout
    key = tmp_path / "key"
    key.write_text(password[1].replace(" ", ""))
    assert "key: recovery" in succeed(playbook("flowaudit.ops.restore_drill", restore_recovery_key_file=str(key)))
    key.write_text("wrong")
    wrong = playbook("flowaudit.ops.restore_drill", restore_recovery_key_file=str(key))
    assert wrong.returncode != 0 and "the password is another one" in said(wrong), said(wrong)[-1500:]
    again = playbook("flowaudit.ops.backup_recovery_key", backup_recovery_sheet=str(tmp_path / "second.txt"))
    assert again.returncode != 0 and not (tmp_path / "second.txt").exists()
    recovers(playbook)


# ── Kills ──

KILLS = 20


@pytest.mark.parametrize("number", range(KILLS))
def test_a_crash_loses_next_to_nothing(
    playbook: Playbook, nuc: t.Any, docker: Docker, portal: Portal, number: int
) -> None:
    """The server and the receiver killed under write load, at different moments, the next one on what was restored."""
    lost = crash(playbook, nuc, docker, 1 + number * 0.37)
    with open(STATE / "lost-commits.txt", "a", encoding="utf-8") as record:
        record.write(f"{lost:.3f}\n")
    assert lost <= 1.0, f"{lost:.3f} s of commits are lost"
    wait_until(portal.healthy, 60, "the portal is healthy")


def crash(playbook: Playbook, nuc: t.Any, docker: Docker, seconds: float) -> float:
    """Kill server and receiver after so many seconds of writing, and restore; seconds of acknowledged commits lost."""
    rows(docker, "CREATE TABLE IF NOT EXISTS written (number bigserial, at timestamptz DEFAULT clock_timestamp())")
    insert = "docker exec flowaudit-db-1 psql -U postgres -d flowaudit -qAtc"
    insert += " 'INSERT INTO written DEFAULT VALUES RETURNING extract(epoch FROM at)'"
    writer = f"while {insert} >> /tmp/acknowledged; do :; done"
    nuc.check_output("rm -f /tmp/acknowledged; nohup sh -c %s > /dev/null 2>&1 &", writer)
    time.sleep(seconds)
    template = "{{.State.Pid}}"
    processes = docker("inspect", "--format", template, "flowaudit-db-1", "flowaudit-backup-receiver-1").split()
    nuc.check_output("kill -KILL %s %s", *processes)
    nuc.check_output("docker stop -t 0 flowaudit-db-1")
    succeed(playbook("flowaudit.ops.restore_database", restore_time="latest"))
    acknowledged = float(nuc.check_output("grep -E '^[0-9.]+$' /tmp/acknowledged | tail -1"))
    restored = float(rows(docker, "SELECT extract(epoch FROM max(at)) FROM written"))
    rows(docker, "DROP TABLE written")
    # Else the next restore misses it: it was there when the base backup was taken.
    assert job(nuc, "base") == "success"
    succeed(playbook("flowaudit.ops.restore_confirm"))
    return acknowledged - restored


#: Each step of a restore that somebody can meet in its journal, and a moment in it (seconds).
MOMENTS = [
    *itertools.product(("recover",), (0.0, 3.0, 8.0)),
    *itertools.product(("stop", "switch", "follow", "save_again"), (0.0, 0.7)),
]
#: Waits for a step in the journal, a moment more, and kills who restores; what that one has started, too.
AT_STEP = """
import json, os, re, signal, sys, time
step, moment, deadline = sys.argv[1], float(sys.argv[2]), time.monotonic() + 120
place = "/var/lib/flowaudit/backup/"
while time.monotonic() < deadline:
    try:
        with open(place + "restore.json") as journal:
            reached = json.load(journal)["step"]
    except (FileNotFoundError, ValueError):
        continue
    if reached == step:
        time.sleep(moment)
        with open(place + "restore.lock") as lock:
            os.kill(json.load(lock)["pid"], signal.SIGKILL)
        sys.exit(0)
sys.exit("the step was not seen")
"""


@pytest.mark.parametrize(("step", "moment"), MOMENTS)
def test_a_restore_that_is_killed(
    playbook: Playbook, nuc: t.Any, docker: Docker, portal: Portal, step: str, moment: float
) -> None:
    nuc.check_output("cat > /tmp/at-step.py <<'END'\n" + AT_STEP + "\nEND")
    nuc.check_output("nohup python3 /tmp/at-step.py %s %s > /tmp/at-step.log 2>&1 &", step, str(moment))
    count = rows(docker, "SELECT count(*) FROM documents")
    run = playbook("flowaudit.ops.restore_database", restore_time="latest")
    assert run.returncode != 0, nuc.file("/tmp/at-step.log").content_string
    # As its timer does, a minute later at the latest.
    nuc.run("systemctl start flowaudit-backup-tick.service")
    wait_until(portal.healthy, 90, "one of the two serves")
    assert rows(docker, "SELECT count(*) FROM documents") == count
    succeed(playbook("flowaudit.ops.restore_database", restore_time="latest"))
    assert portal.healthy()
    assert rows(docker, "SELECT count(*) FROM documents") == count
    assert status(nuc)["overdue"] == []
    succeed(playbook("flowaudit.ops.restore_confirm"))
    assert len(docker("volume", "ls", "--quiet", "--filter", "name=flowaudit_pgdata_").split()) == 1
    assert "recovery" not in docker("ps", "--all", "--format", "{{.Names}}")


# ── A second target ──


@pytest.fixture
def second_target(ports: dict[str, int]) -> dict[str, t.Any]:
    """The registry's host, as a target."""
    known = (STATE / "ssh" / "known_hosts").read_text()
    key = re.search(rf"^\[127\.0\.0\.1\]:{ports['registry_22']} (\S+ \S+)", known, re.MULTILINE)
    assert key
    return {"name": "second", "host": "registry", "host_keys": [key[1]]}


def test_a_second_target_is_enough(
    playbook: Playbook, nuc: t.Any, docker: Docker, portal: Portal, second_target: dict[str, t.Any], inventory: t.Any
) -> None:
    targets, first = str(CHECKOUT / "tests" / "integration" / "targets.yml"), inventory["backup_targets"]
    try:
        succeed(playbook(targets, backup_targets=[*first, second_target]))
        heals(nuc, "copy")
        assert snapshots(nuc, "postgres", "second") >= snapshots(nuc, "postgres")
        # It reads both.
        heals(nuc, "check")
        # The first one is gone for good: the second takes its place in the inventory.
        with unreachable(nuc, "nas"):
            succeed(playbook(targets, backup_targets=[second_target]))
            told = succeed(playbook("flowaudit.ops.restore_database", restore_time="latest", restore_from_target=True))
            assert "base backup from second, log from second" in told, told[-1500:]
            assert portal.healthy()
            heals(nuc, "uploads")
            recovers(playbook)
    finally:
        succeed(playbook(targets))
    heals(nuc, "base")
    heals(nuc, "wal")
    succeed(playbook("flowaudit.ops.restore_confirm"))
