# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How many entries a second the custody service acknowledges, beside the log that a process writes itself.

The entries are those of a run of 200 tasks on 50 hosts, in batches of 64; one run, and eight at once. An entry counts
when the service has said that it is recorded, which is after SQLite has synchronised it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import pathlib
import subprocess
import sys
import tempfile
import time

import trail_core
import trail_runs

from ansible_collections.flowaudit.ops.plugins.module_utils.custody import client
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import entry
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog


def of_one_run(count: int) -> list[entry.Draft]:
    """So many entries that one run may say."""
    run = entry.new_id()
    kinds = (entry.TASK_START, entry.TASK_DISPATCHED, entry.TASK_RESULT)
    begun = {"type": entry.RUN_START, "ts": entry.timestamp(), "command": "x", "run": run}
    said = (draft for draft in trail_core.drafts() if draft["type"] in kinds)
    return [begun, *({**draft, "run": run} for draft in itertools.islice(said, count - 1))]


def send(path: str, count: int) -> tuple[float, float]:
    """When a run began to send, and when its last entry was acknowledged; making the entries is not counted."""
    drafts = of_one_run(count)
    custody = client.CustodyLog(client.Custody(path))
    begun = time.monotonic()
    for start in range(0, count, trail_core.BATCH):
        custody.append(drafts[start : start + trail_core.BATCH])
    return begun, time.monotonic()


def at_once(path: str, runs: int, count: int) -> float:
    """Entries a second of several runs together, each a process."""
    command = [sys.executable, __file__, "--send", path, "--entries", str(count)]

    def started(_number: int) -> tuple[float, float]:
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return float(output[0]), float(output[1])

    with concurrent.futures.ThreadPoolExecutor(runs) as pool:
        spans = list(pool.map(started, range(runs)))
    return runs * count / (max(end for _begun, end in spans) - min(begun for begun, _end in spans))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=50_000, help="of a run (%(default)s)")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        print(*send(arguments.send, arguments.entries))
        return
    with tempfile.TemporaryDirectory(prefix="flowaudit-bench-") as work:
        direct = SqliteLog.open_or_create(Home(pathlib.Path(work) / "trail"), "0.4.0")
        written = trail_core.append(direct, arguments.entries, trail_core.BATCH)
        direct.close()
        print(f"written by the process itself  {written:10,.0f} entries/s")
        with trail_runs.custody(pathlib.Path(work)) as path:
            for runs in (1, 8):
                rate = at_once(path, runs, arguments.entries // runs)
                print(f"custody, {runs} run{'s at once' if runs > 1 else ''}".ljust(30), f"{rate:10,.0f} entries/s")


if __name__ == "__main__":
    main()
