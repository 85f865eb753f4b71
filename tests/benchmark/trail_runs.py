# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What recording costs a run, beside no recording and beside ARA, one after the other on the same machine.

The same playbook of 200 tasks runs on 5 and on 50 hosts (this machine): without a callback, with the least that could
be called a record (a line for each result, synchronised before the next task), with the trail in SQLite, with the trail
shipped to a PostgreSQL of its own, with the trail in custody, with ARA as it comes, and with ARA whose server has
TCP_NODELAY.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

CHECKOUT = pathlib.Path(__file__).parents[2]
BIN = pathlib.Path(sys.executable).parent
ARA = "ara[server]==1.8.0"
TASKS = 200
# About 60 of the 80 ms that ARA takes are two small writes of its server that wait for each other.
NO_NAGLE = "import socketserver; socketserver.StreamRequestHandler.disable_nagle_algorithm = True\n"
LEAST = """
import json, os, time
from ansible.plugins.callback import CallbackBase
DOCUMENTATION = "name: least\\ntype: notification\\nshort_description: Least\\ndescription: Least."

class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME, CALLBACK_NEEDS_ENABLED = 2.0, "notification", "least", True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._file = os.open(os.environ["LEAST_FILE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _write(self, **fields):
        os.write(self._file, json.dumps({"ts": time.time(), **fields}).encode() + b"\\n")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._write(task=task._uuid, name=task.name)
        os.fdatasync(self._file)

    def v2_runner_on_ok(self, result):
        self._write(task=result.task._uuid, host=result.host.name, changed=result.is_changed())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[5, 50])
    parser.add_argument("--repeat", type=int, default=3, help="runs of what takes under a minute; their median counts")
    parser.add_argument("--without-ara", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="flowaudit-bench-") as work, contextlib.ExitStack() as stack:
        # PostgreSQL's user has to reach its directory.
        os.chmod(work, 0o755)
        bench = Bench(pathlib.Path(work))
        database = stack.enter_context(postgresql(pathlib.Path(work)))
        ways = {
            "no callback": bench.plain(),
            "a file, synchronised": bench.file(),
            "trail, SQLite": bench.trail("sqlite"),
            "trail, SQLite and PostgreSQL": bench.trail("postgres", database),
            "trail, in custody": bench.plain()
            | {
                "ANSIBLE_CALLBACKS_ENABLED": "flowaudit.ops.trail",
                "FLOWAUDIT_TRAIL_CUSTODY": stack.enter_context(custody(pathlib.Path(work))),
            },
        }
        if not arguments.without_ara:
            ways |= {"ARA": bench.ara(""), "ARA, TCP_NODELAY": bench.ara(NO_NAGLE)}
        start_up(bench, ways, arguments.repeat)
        for hosts in arguments.hosts:
            compare(bench, ways, hosts, arguments.repeat)


def start_up(bench: Bench, ways: dict[str, dict[str, str]], repeat: int) -> None:
    """What a run of one task waits longer."""
    print("\nOne task on one host, median wall time:")
    bench.write(1, 1)
    times: dict[str, list[float]] = {}
    for _round in range(max(repeat * 3, 3)):
        for name in (name for name in ways if not name.startswith("ARA")):
            times.setdefault(name, []).append(bench.run(ways[name]))
    base = statistics.median(times["no callback"])
    for name, taken in times.items():
        print(f"  {name:30} {statistics.median(taken):7.3f} s   {(statistics.median(taken) - base) * 1000:+7.0f} ms")


def compare(bench: Bench, ways: dict[str, dict[str, str]], hosts: int, repeat: int) -> None:
    """The table for a number of hosts."""
    results = TASKS * hosts
    bench.write(TASKS, hosts)
    times: dict[str, list[float]] = {name: [] for name in ways}
    # In turns, so that what slows the machine down for a while slows all of them down.
    for number in range(repeat):
        for name, environment in ways.items():
            if number and (name.startswith("ARA") or times[name][0] > 60):
                continue
            times[name].append(bench.run(environment))
    base = statistics.median(times["no callback"])
    print(f"\n{TASKS} tasks on {hosts} hosts, {results} results:")
    for name, taken in times.items():
        wall = statistics.median(taken)
        more = wall - base
        print(
            f"  {name:30} {wall:8.2f} s   {more / results * 1000:+7.3f} ms a result   {more / base * 100:+7.1f} %"
            f"   ({', '.join(f'{one:.1f}' for one in taken)})"
        )


class Bench:
    """A project, its inventory, and the environments it is run in."""

    def __init__(self, work: pathlib.Path) -> None:
        self.work = work
        self.playbook, self.inventory = work / "bench.yml", work / "hosts"
        (work / "ansible.cfg").touch()

    def write(self, tasks: int, hosts: int) -> None:
        lines = [f"h{number} ansible_connection=local" for number in range(hosts)]
        self.inventory.write_text("\n".join([*lines, ""]))
        task = "    - {name: Task %d, ansible.builtin.debug: {msg: x}, changed_when: true}"
        text = "- name: Bench\n  hosts: all\n  gather_facts: false\n  tasks:\n"
        self.playbook.write_text(text + "\n".join(task % number for number in range(tasks)) + "\n")

    def run(self, environment: dict[str, str]) -> float:
        """Seconds of a run."""
        command = [str(BIN / "ansible-playbook"), "-i", str(self.inventory), str(self.playbook)]
        begin = time.monotonic()
        done = subprocess.run(command, env=environment, cwd=self.work, capture_output=True, text=True, check=False)
        taken = time.monotonic() - begin
        if done.returncode or "[ERROR]" in done.stderr or "Failed" in done.stderr:
            sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return taken

    def plain(self) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "FLOWAUDIT_", "ARA_"))
        }
        kept.pop("CI", None)
        return kept | {
            "ANSIBLE_COLLECTIONS_PATH": str(BIN.parent / "collections"),
            "ANSIBLE_CONFIG": str(self.work / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
            "HOME": str(self.work),
        }

    def trail(self, name: str, database: str = "") -> dict[str, str]:
        return self.plain() | {
            "ANSIBLE_CALLBACKS_ENABLED": "flowaudit.ops.trail",
            "FLOWAUDIT_TRAIL_DIRECTORY": str(self.work / f"trail-{name}"),
            "FLOWAUDIT_TRAIL_DATABASE": database,
            "FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL": "true",
        }

    def file(self) -> dict[str, str]:
        """A callback that does as little as one can that waits for the disk before each task."""
        place = self.work / "callbacks"
        place.mkdir()
        (place / "least.py").write_text(LEAST)
        return self.plain() | {
            "ANSIBLE_CALLBACK_PLUGINS": str(place),
            "ANSIBLE_CALLBACKS_ENABLED": "least",
            "LEAST_FILE": str(self.work / "least.log"),
        }

    def ara(self, site: str) -> dict[str, str]:
        """ARA in an environment of its own, beside this one's Ansible."""
        packages = CHECKOUT / ".cache" / f"ara-{sys.version_info[0]}.{sys.version_info[1]}"
        if not packages.exists():
            fresh = packages.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(fresh), ARA], check=True)
            fresh.rename(packages)
        patched = self.work / f"site-{bool(site)}"
        patched.mkdir()
        (patched / "sitecustomize.py").write_text(site)
        plugin = packages / "ara" / "plugins" / "callback"
        return self.plain() | {
            "PYTHONPATH": f"{patched}:{packages}",
            "ANSIBLE_CALLBACK_PLUGINS": str(plugin),
            "ANSIBLE_CALLBACKS_ENABLED": "ara_default",
            "ARA_BASE_DIR": str(self.work / f"ara-{bool(site)}"),
        }


@contextlib.contextmanager
def postgresql(work: pathlib.Path) -> t.Iterator[str]:
    """A PostgreSQL of its own with the trail's schema; the connection string of a writer."""
    programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        sys.exit("No PostgreSQL here: run tests/packages postgresql.")
    place = work / "postgresql"
    place.mkdir()
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    shutil.chown(place, user)

    def do(*words: str) -> None:
        user_id = pwd.getpwnam(user)
        as_user = {"user": user_id.pw_uid, "group": user_id.pw_gid} if os.geteuid() == 0 else {}
        # Its output goes into a file: the server keeps what it was started with.
        with open(work / "postgresql.log", "a", encoding="utf-8") as log:
            subprocess.run(words, check=True, cwd="/", stdout=log, stderr=log, **as_user)

    do(str(programs[-1] / "initdb"), "-D", f"{place}/data", "--auth=trust", "--encoding=UTF8", f"--username={user}")
    options = f"-c listen_addresses= -c unix_socket_directories={place}"
    do(str(programs[-1] / "pg_ctl"), "-D", f"{place}/data", "-w", "-o", options, "start")
    try:
        psql = [str(programs[-1] / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-h", str(place), "-U", user]
        do(*psql, "-d", "postgres", "-c", "CREATE DATABASE trail")
        schema = CHECKOUT / "roles/trail_database/files/trail.sql"
        do(*psql, "-d", "trail", "--single-transaction", "-f", str(schema))
        do(*psql, "-d", "trail", "-c", "CREATE ROLE bench LOGIN IN ROLE trail_writer")
        yield f"host={place} dbname=trail user=bench"
    finally:
        do(str(programs[-1] / "pg_ctl"), "-D", f"{place}/data", "-m", "fast", "stop")


# What systemd does: the socket is there before the service, which gets it as its descriptor 3.
SERVE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
from ansible_collections.flowaudit.ops.plugins.module_utils.custody import service
sys.exit(service.main(["--configuration", sys.argv[2], "serve"]))
"""


@contextlib.contextmanager
def custody(work: pathlib.Path) -> t.Iterator[str]:
    """A custody service of its own, of the same user; the path of its socket."""
    directory, configuration, path = work / "custody", work / "custody.yml", work / "custody.sock"
    directory.mkdir(0o700)
    configuration.write_text(f"{{directory: {directory}, inventories: {{}}}}\n")
    service = subprocess.Popen([sys.executable, "-c", SERVE, str(path), str(configuration)])
    deadline = time.monotonic() + 30
    while not (directory / "trail" / "trail.sqlite3").exists():
        if service.poll() is not None or time.monotonic() > deadline:
            sys.exit("The custody service did not start.")
        time.sleep(0.1)
    try:
        yield str(path)
    finally:
        service.terminate()
        service.wait(30)


if __name__ == "__main__":
    main()
