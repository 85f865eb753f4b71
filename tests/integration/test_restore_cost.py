# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What it takes to bring a database of some GB back, four ways in one run, and what its backups cost meanwhile.

`make bench-restore`. It measures and asserts nothing of the figures; docs/figures.md has them.
"""

from __future__ import annotations

import json
import re
import statistics
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from .conftest import wait_until
from .test_backup import Playbook, job, rows

pytestmark = [pytest.mark.disruptive, pytest.mark.benchmark]

Docker = Callable[..., str]

#: pgbench makes about 15 MB for each.
SCALE = 240
#: Pairs of runs without backups and with them, and the seconds of each run.
PAIRS, SECONDS = 4, 30
DATABASE = "bench"
IN_DATABASE = "docker exec -i flowaudit-db-1"
PSQL = f"{IN_DATABASE} psql -U postgres -qAt -v ON_ERROR_STOP=1"


def timed(nuc: t.Any, command: str) -> float:
    started = time.monotonic()
    nuc.check_output(command)
    return round(time.monotonic() - started, 1)


@pytest.fixture
def volume(nuc: t.Any, docker: Docker) -> Iterator[Callable[[], str]]:
    """Where dumps are: on the disk the guide keeps them on, and where pg_restore in the container finds them."""
    mounts = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Source}}{{end}}{{end}}'
    yield lambda: docker("inspect", "--format", mounts, "flowaudit-db-1").strip()
    nuc.run("rm -f /var/lib/docker/volumes/*/_data/bench.*")


@pytest.fixture
def database(nuc: t.Any, docker: Docker) -> Iterator[None]:
    nuc.check_output(f"{PSQL} -c 'CREATE DATABASE {DATABASE}'")
    nuc.check_output(f"{IN_DATABASE} pgbench -U postgres -i -q -s {SCALE} {DATABASE}")
    yield
    nuc.run(f"{PSQL} -c 'DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)'")
    job(nuc, "base")


def guide(nuc: t.Any, place: str) -> dict[str, t.Any]:
    nuc.check_output(f"{IN_DATABASE} pg_dump -U postgres {DATABASE} | gzip > {place}/bench.sql.gz")
    fresh = f"{PSQL} -c 'DROP DATABASE {DATABASE} WITH (FORCE)' -c 'CREATE DATABASE {DATABASE}'"
    return {"seconds": timed(nuc, f"{fresh} && gunzip -c {place}/bench.sql.gz | {PSQL} {DATABASE} > /dev/null")}


def pg_restore(nuc: t.Any, place: str) -> dict[str, t.Any]:
    nuc.check_output(
        f"{IN_DATABASE} pg_dump -U postgres -Fc {DATABASE} > {place}/bench.dump; chmod 644 {place}/bench.dump"
    )
    fresh = f"{PSQL} -c 'DROP DATABASE {DATABASE} WITH (FORCE)' -c 'CREATE DATABASE {DATABASE}'"
    inside = f"{IN_DATABASE} pg_restore -U postgres -j 2 -d {DATABASE} /var/lib/postgresql/data/bench.dump"
    return {"seconds": timed(nuc, f"{fresh} && {inside}")}


def ours(playbook: Playbook, *, from_target: bool) -> dict[str, t.Any]:
    started = time.monotonic()
    run = playbook("flowaudit.ops.restore_database", "-v", restore_time="latest", restore_from_target=from_target)
    seconds = round(time.monotonic() - started, 1)
    assert run.returncode == 0, run.stdout[-3000:]
    # The result of the module, with the seconds of its steps and of those of the recovery.
    told = run.stdout.partition("Recover it beside the one that serves")[2].partition("TASK [")[0]
    found = {name: float(value) for name, value in re.findall(r"^ +(\w+): ([\d.]+)$", told, re.MULTILINE)}
    assert playbook("flowaudit.ops.restore_confirm").returncode == 0
    return {"playbook": seconds, **found}


def tps(nuc: t.Any) -> float:
    told = nuc.check_output(f"{IN_DATABASE} pgbench -U postgres -c 8 -j 2 -T {SECONDS} {DATABASE}")
    match = re.search(r"tps = ([\d.]+)", told)
    assert match, told
    return float(match[1])


def without_backups(nuc: t.Any, docker: Docker) -> float:
    nuc.check_output("systemctl stop flowaudit-backup-wal.timer")  # which would start the receiver
    docker("stop", "flowaudit-backup-receiver-1")
    try:
        return tps(nuc)
    finally:
        docker("start", "flowaudit-backup-receiver-1")
        nuc.check_output("systemctl start flowaudit-backup-wal.timer")
        # What has piled up is no part of the next run.
        there = "SELECT count(*) FROM pg_stat_replication WHERE pg_current_wal_flush_lsn() - flush_lsn < 16 * 2^20"
        wait_until(lambda: rows(docker, there) != "0", 120, "the receiver has what piled up")


def test_what_it_costs(
    nuc: t.Any,
    docker: Docker,
    playbook: Playbook,
    database: None,
    volume: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = rows(docker, f"SELECT pg_size_pretty(pg_database_size('{DATABASE}'))")
    count = f"{PSQL} -d {DATABASE} -c 'SELECT count(*) FROM pgbench_accounts'"
    had = nuc.check_output(count)
    pairs = [(without_backups(nuc, docker), tps(nuc)) for _each in range(PAIRS)]
    found: list[tuple[str, dict[str, t.Any]]] = []
    for title, way in (("gunzip | psql", guide), ("pg_restore -j 2", pg_restore)):
        found.append((title, way(nuc, volume())))
        assert nuc.check_output(count) == had
    nuc.check_output(f"rm -f {volume()}/bench.*")
    taken = [timed(nuc, f"flowaudit-backup run {name}") for name in ("base", "wal")]
    for title, from_target in (("ours, base backup on the host", False), ("ours, from the target alone", True)):
        found.append((title, ours(playbook, from_target=from_target)))
        assert nuc.check_output(count) == had

    with capsys.disabled():
        print(f"\n{size}; base backup {taken[0]} s, log {taken[1]} s")
        for title, each in found:
            print(f"{title:32} {json.dumps(each)}")
        without, beside = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"transactions a second: {without:.0f} without backups, {beside:.0f} with ({beside / without - 1:+.1%})")
        print(f"of each pair: {pairs}")
