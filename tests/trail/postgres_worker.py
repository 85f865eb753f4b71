# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one process of a control node does in the tests of PostgreSQL: ``append`` to a trail, or ``ship`` it."""

from __future__ import annotations

import os
import pathlib
import random
import sys
import time

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import commitment, entry, home, postgres, sqlite


def result(number: int, text: str = "") -> entry.Draft:
    """An entry as a run makes it."""
    return {
        "type": "task.result",
        "ts": entry.timestamp(),
        "run": f"0190163d-8694-739b-aea5-966c26f8{number % 7:04d}",
        "chg": "CHG-2026-0042",
        "host": f"web{number % 5:02d}",
        "status": "failed" if number % 50 == 0 else "ok",
        "changed": number % 3 == 0,
        "fqcn": "ansible.builtin.copy",
        "name": text or f"Copy {number}: ü",
    }


def append(directory: str, stop: str, seed: str) -> None:
    """Append batches of any size until the file ``stop`` is there; print how many entries."""
    log = sqlite.SqliteLog(home.Home(directory))
    chance = random.Random(int(seed))
    count = 0
    while not pathlib.Path(stop).exists():
        size = chance.randint(1, 90)
        openings = [commitment.commit("diff", chance.randbytes(chance.randint(0, 500))) for number in range(size // 10)]
        log.append([result(count + number) for number in range(size)], openings)
        count += size
        if chance.random() < 0.2:
            log.add_checkpoint()
        time.sleep(chance.random() * 0.05)
    print(count)


def ship(directory: str, conninfo: str, stop: str) -> None:
    """Ship until the file ``stop`` is there, and once more; print how often the server was not to be had.

    When it has shipped for the first time, it makes a file beside ``stop``.
    """
    log = sqlite.SqliteLog(home.Home(directory))
    shared = postgres.PostgresLog(conninfo, statement_timeout=20)
    failures = 0
    while True:
        last = pathlib.Path(stop).exists()
        try:
            shared.ship(log)
            pathlib.Path(f"{stop}.{os.getpid()}").touch()
        except postgres.Unavailable:
            failures += 1
            time.sleep(0.1)
            continue
        if last:
            break
        time.sleep(0.01)
    print(failures)


def node(directory: str, conninfo: str, entries: str) -> None:
    """A control node of its own: make a trail, write to it, ship it as it grows."""
    log = sqlite.SqliteLog.open_or_create(home.Home(directory), "0.2.0", "node")
    shared = postgres.PostgresLog(conninfo)
    count = 0
    while count < int(entries):
        log.append([result(count + number) for number in range(37)], [commitment.commit("actor", b"anna")])
        count += 37
        log.add_checkpoint()
        shared.ship(log)
    print(log.origin)


if __name__ == "__main__":
    {"append": append, "ship": ship, "node": node}[sys.argv[1]](*sys.argv[2:])
