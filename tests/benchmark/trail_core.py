# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the trail's core costs, beside the least that could be done instead, in one run on one machine.

The entries are those of runs of 200 tasks on 50 hosts. Beside the log: plain SQLite with the same settings (WAL,
``synchronous=FULL``), the same lines, no hashes, no columns, no indexes; and a reader that only parses the lines.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterable, Iterator

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry, log, merkle, verify
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.run import close_dead_runs
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog

HOSTS = 50
TASKS = 200
BATCH = 64
MODULES = ("copy", "template", "file", "service", "package", "command", "lineinfile", "user")


def drafts() -> Iterator[entry.Draft]:
    """Entries of run after run, without end."""
    for number in itertools.count():
        run = {"run": entry.new_id(), "chg": f"CHG-2026-{number:04d}"}
        yield {"type": entry.RUN_START, "ts": entry.timestamp(), "playbook": "site.yml", "commit": "c" * 40, **run}
        for task in range(TASKS):
            task_id = entry.new_id()
            source = f"roles/role{task % 20}/tasks/main.yml:{task}"
            module = f"ansible.builtin.{MODULES[task % len(MODULES)]}"
            begun: entry.Draft = {"type": entry.TASK_START, "ts": entry.timestamp(), "task": task_id, "src": source}
            yield begun | {"name": f"Task number {task} of this play", "fqcn": module} | run
            yield {
                "type": entry.TASK_DISPATCHED,
                "ts": entry.timestamp(),
                "task": task_id,
                "hosts": [f"web{host:02d}" for host in range(HOSTS)],
                **run,
            }
            for host in range(HOSTS):
                yield {
                    "type": entry.TASK_RESULT,
                    "ts": entry.timestamp(),
                    "task": task_id,
                    "host": f"web{host:02d}",
                    "status": "failed" if (task, host) == (150, 7) else "ok",
                    "changed": (task + host) % 3 == 0,
                    "check": False,
                    "fqcn": module,
                    "src": source,
                    "dur_ms": 100 + (task * host) % 900,
                    **run,
                }
        yield {"type": entry.RUN_END, "ts": entry.timestamp(), "status": "ok", "dur_ms": 812_000, **run}


def timed(function: Callable[[], t.Any]) -> tuple[float, t.Any]:
    """Seconds, and what came of it."""
    begun = time.perf_counter()
    result = function()
    return time.perf_counter() - begun, result


def parts(source: Iterator[entry.Draft], count: int, size: int) -> Iterator[list[entry.Draft]]:
    while count:
        part = list(itertools.islice(source, min(size, count)))
        yield part
        count -= len(part)


def append(trail: SqliteLog, count: int, size: int) -> float:
    """Entries a second; making the drafts is not counted."""
    seconds = 0.0
    for part in parts(drafts(), count, size):
        seconds += timed(lambda part=part: trail.append(part))[0]
    return count / seconds


def append_plain(path: pathlib.Path, count: int, size: int) -> float:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS entries (seq INTEGER PRIMARY KEY, line TEXT)")

        def write(part: list[entry.Draft]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO entries (line) VALUES (?)", [(json.dumps(draft),) for draft in part])
            connection.execute("COMMIT")

        seconds = 0.0
        for part in parts(drafts(), count, size):
            seconds += timed(lambda part=part: write(part))[0]
    return count / seconds


def verify_here(home: Home, count: int) -> dict[str, float]:
    """In a process of its own, so that its memory is that of the verification."""
    trail = SqliteLog(home, read_only=True)
    whole = count == trail.size()
    nodes = {(level, index): hashed for level, index, hashed in trail.ask("SELECT level, idx, hash FROM nodes")}
    seconds, report = timed(
        lambda: verify.verify(
            trail.origin,
            trail.rows(0, count),
            trail.checkpoints() if whole else [],
            nodes=nodes if whole else None,
        )
    )
    assert report.whole and report.size == count, report
    assert not whole or report.signed_size == count
    trail.close()
    return {"rate": count / seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def parse_here(home: Home, count: int) -> dict[str, float]:
    """Read the same rows, and do no more than parse them."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        question = "SELECT line FROM entries ORDER BY seq LIMIT ?"

        def parse() -> int:
            return sum(1 for (line,) in connection.execute(question, (count,)) if json.loads(line))

        seconds, parsed = timed(parse)
    assert parsed == count
    return {"rate": count / seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def elsewhere(what: str, home: Home, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--only", what, "--directory", str(home.path), "--entries", str(count)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer


def milliseconds(times: Iterable[float]) -> str:
    ordered = sorted(seconds * 1000 for seconds in times)
    return f"{statistics.median(ordered):.2f} ms (slowest of {len(ordered)}: {ordered[-1]:.2f})"


def proofs(trail: SqliteLog) -> tuple[str, str]:
    size, chance = trail.size(), random.Random(1)
    root = log.tree(trail).root()
    inclusion, consistency = [], []
    for _number in range(200):
        place = chance.randrange(size)
        seconds, proof = timed(lambda place=place: log.tree(trail).inclusion_proof(place))
        (row,) = trail.rows(place, place + 1)
        assert merkle.verify_inclusion(row.leaf, place, size, proof, root)
        inclusion.append(seconds)
        seconds, proof = timed(lambda place=place: log.tree(trail).consistency_proof(place))
        if place:
            assert merkle.verify_consistency(place, size, proof, log.tree(trail, place).root(), root)
        consistency.append(seconds)
    return milliseconds(inclusion), milliseconds(consistency)


def size_on_disk(path: pathlib.Path) -> int:
    return sum(os.path.getsize(found) for found in path.parent.glob(f"{path.name}*"))


def measure(directory: pathlib.Path, entries: int) -> Iterator[tuple[str, str, str]]:
    """What, with the trail, without it."""
    home = Home(directory / "trail")
    plain = directory / "plain.sqlite3"
    few = max(entries // 500, 200)
    trail = SqliteLog.open_or_create(home, "0.2.0")

    one, one_plain = append(trail, few, 1), append_plain(plain, few, 1)
    yield "entries appended, one by one", f"{one:,.0f}/s", f"{one_plain:,.0f}/s"
    many = append(trail, entries - trail.size(), BATCH)
    many_plain = append_plain(plain, entries // 5, BATCH)
    yield f"entries appended, in batches of {BATCH}", f"{many:,.0f}/s", f"{many_plain:,.0f}/s"
    yield "  each", f"{1000 / many:.3f} ms", f"{1000 / many_plain:.3f} ms"

    seconds = timed(trail.add_checkpoint)[0]
    yield f"checkpoint over {entries:,}", f"{seconds * 1000:.1f} ms", ""
    trail.forget()
    lines = sum(len(row.line or b"") for row in trail.rows()) / entries
    each, each_plain = size_on_disk(home.database) / entries, size_on_disk(plain) / (entries // 5 + few)
    yield "bytes an entry, in its line", f"{lines:.0f}", ""
    yield "bytes an entry, on the disk", f"{each:.0f}", f"{each_plain:.0f}"

    inclusion, consistency = proofs(trail)
    yield f"inclusion proof of {entries:,}", inclusion, ""
    yield f"consistency proof of {entries:,}", consistency, ""
    trail.close()

    def opened() -> list[str]:
        again = SqliteLog(home)
        try:
            return close_dead_runs(again)
        finally:
            again.close()

    opened()
    yield "open it and ask for killed runs", milliseconds(timed(opened)[0] for _number in range(20)), ""

    for count in (entries // 100, entries):
        ours, naive = elsewhere("verify", home, count), elsewhere("parse", home, count)
        yield f"entries verified, {count:,}", f"{ours['rate']:,.0f}/s", f"{naive['rate']:,.0f}/s (parsed only)"
        yield "  most memory", f"{ours['megabytes']:.0f} MB", f"{naive['megabytes']:.0f} MB"

    draft = list(itertools.islice(drafts(), 11))[10]
    made = timed(lambda: [entry.seal(draft, number, bytes(32)) for number in range(10_000)])[0]
    dumped = timed(lambda: [json.dumps(draft).encode() for number in range(10_000)])[0]
    coded = timed(lambda: [canonical.encode(draft) for number in range(10_000)])[0]
    yield "an entry sealed (of it canonical JSON)", f"{made * 100:.1f} µs ({coded * 100:.1f})", f"{dumped * 100:.1f} µs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--directory", type=pathlib.Path, help="where the log is made; a temporary one, if not given")
    parser.add_argument("--only", choices=["verify", "parse"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        work = {"verify": verify_here, "parse": parse_here}[options.only]
        print(json.dumps(work(Home(options.directory), options.entries)))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} CPUs")
        print(f"{'':44}{'the trail':34}plain SQLite", flush=True)
        for what, ours, plain in measure(pathlib.Path(directory), options.entries):
            print(f"{what:44}{ours:34}{plain}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
