# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Several processes on one SQLite log, and processes that are killed, on a real disk."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry, verify
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.run import close_dead_runs
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog

WRITERS = 8
TRAIL = "ansible_collections.flowaudit.ops.plugins.module_utils.trail"
Value = dict[str, t.Any]

BEGIN = f"""
import os, random, signal, sys, time
from {TRAIL} import entry
from {TRAIL}.home import Home
from {TRAIL}.run import Run, close_dead_runs
from {TRAIL}.sqlite import SqliteLog
from {TRAIL}.writer import Writer

home, name = Home(sys.argv[1]), sys.argv[2]

def event(number):
    return {{"type": "event", "ts": entry.timestamp(), "run": name, "number": number, "text": "x" * 200}}

def say(*words):
    print(*words, flush=True)
"""

# Appends batches of all sizes, says of each when it is durable, and signs now and then.
WRITER = """
batches, chance = int(sys.argv[3]), random.Random(name)
log = SqliteLog.open_or_create(home, "0.2.0")
number = 0
for batch in range(batches):
    count = chance.choice([1, 1, 2, 7, 64])
    places = log.append([event(number + more) for more in range(count)])
    for more, seq in enumerate(places):
        say(number + more, seq)
    number += count
    if chance.random() < 0.2:
        log.add_checkpoint()
    if chance.random() < 0.1:
        log.close()
        log = SqliteLog.open_or_create(home, "0.2.0")
log.add_checkpoint()
log.close()
"""

CREATOR = """
log = SqliteLog.open_or_create(home, "0.2.0", name)
say(log.origin, log.append([event(0)]).start)
"""

# A run as the callback has it: held, begun durably, then recording until it is killed.
RUNNER = """
writer = Writer(lambda: SqliteLog.open_or_create(home, "0.2.0"))
run = Run(writer, home, name)
run.hold()
run.record("run.start", {"playbook": "site.yml"})
run.flush()
say("begun")
number = 0
while True:
    for more in range(random.choice([1, 5, 70])):
        run.record("event", {"number": number})
        number += 1
    run.flush()
    say(number)
    time.sleep(random.random() * 0.02)
"""

# A signal handler may put and flush while put and flush are at work. The next signal is asked for when
# one is done with: on a slow machine a handler would else interrupt itself for ever.
INTERRUPTED = """
writer = Writer(lambda: SqliteLog.open_or_create(home, "0.2.0"))
interrupts = 0

def interrupt(number, frame):
    global interrupts
    interrupts += 1
    writer.put(event(100_000 + interrupts))
    if interrupts % 10 == 0:
        writer.flush()
    signal.setitimer(signal.ITIMER_REAL, 0.0005)

signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.0005)
number = 0
while number < 5000 or interrupts < 100:
    writer.put(event(number))
    number += 1
    if number % 100 == 0:
        writer.flush()
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
writer.flush()
writer.close()
say(number, interrupts)
"""

CLOSER = """
log = SqliteLog(home)
sys.stdin.readline()
say(*close_dead_runs(log))
log.close()
"""


@contextlib.contextmanager
def process(source: str, *arguments: t.Any, **options: t.Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(source), *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes, **options) as started:  # type: ignore[call-overload]
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def finished(started: subprocess.Popen[str]) -> list[str]:
    output, errors = started.communicate(timeout=240)
    assert (started.returncode, errors) == (0, "")
    return output.splitlines()


def killed_after(started: subprocess.Popen[str], seconds: float) -> list[str]:
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(seconds)
    started.kill()
    output, errors = started.communicate(timeout=60)
    assert errors == ""
    # The last line may be a part of one.
    return output.splitlines() if output.endswith("\n") else output.splitlines()[:-1]


def read(home: Home) -> tuple[verify.Report, list[Value]]:
    log = SqliteLog(home)
    try:
        nodes = {(level, index): hashed for level, index, hashed in log.ask("SELECT level, idx, hash FROM nodes")}
        report = verify.verify(log.origin, log.rows(), log.checkpoints(), nodes=nodes)
        assert log.damage() == ""
        return report, [canonical.decode(row.line) for row in log.rows() if row.line is not None]
    finally:
        log.close()


@pytest.fixture
def home(tmp_path: pathlib.Path) -> Home:
    return Home(tmp_path / "trail")


def _demand_all(values: list[Value], said: dict[str, list[str]]) -> None:
    """Every entry that was said to be durable is there, once, at the place that was said; each writer's in order."""
    found: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for value in values:
        if value["type"] == "event":
            found[value["run"]].append((value["number"], value["seq"]))
    for name, lines in said.items():
        acknowledged = [(int(number), int(seq)) for number, seq in (line.split() for line in lines)]
        assert found[name][: len(acknowledged)] == acknowledged
        assert [number for number, _seq in found[name]] == list(range(len(found[name])))


def _write(home: Home, writers: int, batches: int) -> tuple[verify.Report, list[Value], float]:
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        names = [f"writer{number}" for number in range(writers)]
        started = {name: stack.enter_context(process(WRITER, home.path, name, batches)) for name in names}
        said = {name: finished(writer) for name, writer in started.items()}
    took = time.monotonic() - begun
    report, values = read(home)
    assert report.finding is None
    assert report.signed_size == report.size == len(values)
    assert sum(len(lines) for lines in said.values()) == len(values) - 1
    _demand_all(values, said)
    assert not list(home.path.glob("*.new*"))
    return report, values, took


def test_eight_writers_at_once(home: Home) -> None:
    """They make the log, too: no gap, no fork, no lock error."""
    report, values, _took = _write(home, WRITERS, 30)
    assert report.checkpoints >= WRITERS
    # They did take turns.
    turns = sum(one["run"] != other["run"] for one, other in itertools.pairwise(values[1:]))
    assert turns > WRITERS * 3


@pytest.mark.campaign
def test_eight_writers_for_a_minute(home: Home) -> None:
    report, _values, _took = _write(home, WRITERS, 500)
    assert report.size > 40_000


def test_eight_who_make_the_log_at_the_same_moment(tmp_path: pathlib.Path) -> None:
    for attempt in range(3):
        home = Home(tmp_path / str(attempt))
        with contextlib.ExitStack() as stack:
            creators = [stack.enter_context(process(CREATOR, home.path, f"n{number}")) for number in range(WRITERS)]
            said = [finished(creator)[0].split() for creator in creators]
        assert len({origin for origin, _seq in said}) == 1
        assert sorted(int(seq) for _origin, seq in said) == list(range(1, WRITERS + 1))
        report, _values = read(home)
        assert (report.finding, report.size) == (None, WRITERS + 1)


def _kill_writers(tmp_path: pathlib.Path, seeds: range) -> None:
    home = Home(tmp_path / "trail")
    said: dict[str, list[str]] = {}
    for seed in seeds:
        chance = random.Random(seed)
        names = [f"s{seed}w{number}" for number in range(2)]
        with contextlib.ExitStack() as stack:
            started = {name: stack.enter_context(process(WRITER, home.path, name, 100_000)) for name in names}
            started[names[0]].stdout.readline()  # type: ignore[union-attr]
            time.sleep(chance.random() * 0.5)
            said |= {name: killed_after(writer, 0) for name, writer in started.items()}
            # That one was read here.
            del said[names[0]]
        report, values = read(home)
        assert report.finding is None
        _demand_all(values, said)
    log = SqliteLog(home)
    log.append([{"type": "event", "ts": entry.timestamp(), "run": "last", "number": 0}])
    log.add_checkpoint()
    log.close()
    report, _values = read(home)
    assert (report.finding, report.signed_size) == (None, report.size)


def test_writers_that_are_killed_lose_nothing_that_was_durable(tmp_path: pathlib.Path) -> None:
    _kill_writers(tmp_path, range(5))


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(10))
def test_a_hundred_writers_that_are_killed_lose_nothing_that_was_durable(tmp_path: pathlib.Path, part: int) -> None:
    _kill_writers(tmp_path, range(100 + part * 5, 105 + part * 5))


def _kill_creators(tmp_path: pathlib.Path, seeds: range) -> None:
    """Stopped at a random system call of the creation, as by kill -9 or a power failure of the process."""
    left: collections.Counter[str] = collections.Counter()
    for seed in seeds:
        home = Home(tmp_path / str(seed))
        # The process counts its own audit events and kills itself at one of them, all over the creation.
        source = """
            at, count = int(sys.argv[3]), 0
            from cryptography.hazmat.primitives.asymmetric import ed25519
            from cryptography.hazmat.primitives import serialization
            def hook(name, arguments):
                global count
                if name.startswith(("open", "os.", "sqlite3.", "shutil.", "fcntl.")):
                    count += 1
                    if count == at:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            SqliteLog.open_or_create(home, "0.2.0")
        """
        with process(source, home.path, "x", seed) as creator:
            _output, errors = creator.communicate(timeout=60)
            assert errors == ""
        left["done" if creator.returncode == 0 else "killed"] += 1
        if home.database.exists():
            left["complete"] += 1
        log = SqliteLog.open_or_create(home, "0.2.0")
        log.append([{"type": "event", "ts": entry.timestamp(), "run": "r", "number": 0}])
        log.add_checkpoint()
        log.close()
        report, _values = read(home)
        assert (report.finding, report.size, report.signed_size) == (None, 2, 2), seed
        assert not list(home.path.glob("*.new*"))
    assert left["killed"] >= min(12, len(seeds))


def test_a_creation_that_is_killed_is_finished_or_made_again(tmp_path: pathlib.Path) -> None:
    _kill_creators(tmp_path, range(1, 26))


def test_a_disk_that_is_full_loses_nothing_and_recovers(home: Home) -> None:
    """The limit on the size of a file stands for it: the kernel refuses the write in its middle."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    source = """
        from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
        log = SqliteLog.open_or_create(home, "0.2.0")
        number, failed = 0, 0
        while failed < 5:
            try:
                places = log.append([event(number + more) for more in range(64)])
            except FlowauditError as error:
                failed += 1
                print(error, file=sys.stderr)
                continue
            for more, seq in enumerate(places):
                say(number + more, seq)
            number += 64
        try:
            log.add_checkpoint()
        except FlowauditError:
            pass
    """
    with process(source, home.path, "r", preexec_fn=limited) as writer:
        output, errors = writer.communicate(timeout=120)
    assert writer.returncode == 0
    assert errors.count("cannot be used: ") == len(errors.splitlines()) == 5
    said = output.splitlines()
    assert len(said) >= 64
    report, values = read(home)
    assert report.finding is None
    assert report.size == len(said) + 1
    _demand_all(values, {"r": said})
    _write_more(home, "other")


def _write_more(home: Home, name: str) -> None:
    with process(WRITER, home.path, name, 5) as writer:
        said = finished(writer)
    report, values = read(home)
    assert (report.finding, report.signed_size) == (None, report.size)
    _demand_all(values, {name: said})


def test_a_worker_that_lives_on_holds_nothing_up(home: Home) -> None:
    """Ansible forks; a worker that hangs has copies of all descriptors, also of one that holds a lock just then."""
    source = """
        log = SqliteLog.open_or_create(home, "0.2.0")
        with home.locked():
            worker = os.fork()
            if worker == 0:
                os.close(1), os.close(2)
                time.sleep(60)
                os._exit(0)
        say(worker)
        log.append([event(0)])
        log.add_checkpoint()
        log.close()
    """
    begun = time.monotonic()
    with process(source, home.path, "r") as parent:
        (worker,) = finished(parent)
    try:
        assert os.path.exists(f"/proc/{worker}")
        _write_more(home, "other")
        assert time.monotonic() - begun < 30
    finally:
        os.kill(int(worker), signal.SIGKILL)


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_worker_that_ends_takes_nothing_with_it(home: Home, leave: str) -> None:
    source = f"""
        writer = Writer(lambda: SqliteLog.open_or_create(home, "0.2.0"))
        run = Run(writer, home, name)
        run.hold()
        run.record("run.start", {{}})
        run.flush()
        for number in range(20):
            worker = os.fork()
            if worker == 0:
                {leave}
            run.record("event", {{"number": number}})
            run.flush()
            os.waitpid(worker, 0)
        say("open")
        sys.stdin.readline()
        run.end("run.end", {{"status": "ok"}})
        writer.call(lambda log: log.add_checkpoint())
        writer.close()
    """
    with process(source, home.path, "r") as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "open\n"
        # The workers are gone, the run still holds its lock.
        log = SqliteLog(home)
        assert close_dead_runs(log) == []
        log.close()
        assert finished_by(parent, "\n") == []
    report, values = read(home)
    assert (report.finding, report.signed_size) == (None, 23)
    assert [value["type"] for value in values] == ["log.created", "run.start", *["event"] * 20, "run.end"]


def test_a_signal_handler_may_put_and_flush_while_others_do(home: Home) -> None:
    """queue.Queue would stand still: it takes a lock that the interrupted call holds."""
    with process(INTERRUPTED, home.path, "r") as interrupted:
        number, interrupts = map(int, finished(interrupted)[0].split())
    report, values = read(home)
    assert report.whole
    found = [value["number"] for value in values if value["type"] == "event"]
    assert [mine for mine in found if mine < 100_000] == list(range(number))
    assert [mine - 100_000 for mine in found if mine > 100_000] == list(range(1, interrupts + 1))


def finished_by(started: subprocess.Popen[str], line: str) -> list[str]:
    output, errors = started.communicate(line, timeout=60)
    assert (started.returncode, errors) == (0, "")
    return output.splitlines()


def _kill_runs(home: Home, seeds: range) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        names = [f"s{seed}r{number}" for number in range(4)]
        with contextlib.ExitStack() as stack:
            runs = {name: stack.enter_context(process(RUNNER, home.path, name)) for name in names}
            for run in runs.values():
                assert run.stdout is not None
                assert run.stdout.readline() == "begun\n"
            time.sleep(chance.random() * 0.3)
            dead, living = names[:3], names[3]
            said = {name: killed_after(runs[name], 0) for name in dead}
            # Two who close them at the same moment, while one run lives on.
            closers = [stack.enter_context(process(CLOSER, home.path, "closer")) for number in range(2)]
            time.sleep(0.3)
            for closer in closers:
                assert closer.stdin is not None
                closer.stdin.write("\n")
                closer.stdin.flush()
            closed = [name for closer in closers for line in finished(closer) for name in line.split()]
            assert sorted(closed) == dead
            said[living] = killed_after(runs[living], 0)
        report, values = read(home)
        assert report.finding is None
        of_run: dict[str, list[Value]] = collections.defaultdict(list)
        for value in values:
            of_run[value.get("run", "")].append(value)
        for name in dead:
            mine = of_run[name]
            assert [value["type"] for value in (mine[0], mine[-1])] == [entry.RUN_START, entry.RUN_ABORTED]
            assert [value["type"] for value in mine].count(entry.RUN_ABORTED) == 1
            assert mine[-1]["last_seq"] == mine[-2]["seq"]
            recorded = [value["number"] for value in mine[1:-1]]
            assert recorded == list(range(len(recorded)))
            assert len(recorded) >= int(said[name][-1] if said[name] else 0)
        assert entry.RUN_ABORTED not in {value["type"] for value in of_run[living]}
        log = SqliteLog(home)
        assert close_dead_runs(log) == [living]
        log.add_checkpoint()
        log.close()
    assert list(home.runs.iterdir()) == []


def test_killed_runs_are_closed_once_and_living_ones_are_not(home: Home) -> None:
    _kill_runs(home, range(2))


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(10))
def test_two_hundred_killed_runs_are_closed_once(home: Home, part: int) -> None:
    _kill_runs(home, range(100 + part * 5, 105 + part * 5))


def test_a_reader_does_not_hold_up_a_writer_nor_see_half_of_a_batch(home: Home) -> None:
    with process(WRITER, home.path, "w", 1000) as writer:
        _until(home.database.exists)
        seen = []
        while writer.poll() is None and len(seen) < 50:
            log = SqliteLog(home, read_only=True)
            try:
                # The checkpoints first: what they cover is then there.
                notes = list(log.checkpoints())
                report = verify.verify(log.origin, log.rows(), notes)
            finally:
                log.close()
            assert report.finding is None
            seen.append(report.size)
        said = finished(writer)
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    report, values = read(home)
    assert report.finding is None
    _demand_all(values, {"w": said})


def _until(condition: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 60
        time.sleep(0.01)


def test_the_key_is_refused_by_everybody_when_it_is_open_to_others(home: Home) -> None:
    with process(WRITER, home.path, "w", 2) as writer:
        finished(writer)
    home.signing_key.chmod(0o640)
    log = SqliteLog(home)
    log.append([{"type": "event", "ts": entry.timestamp()}])
    with pytest.raises(FlowauditError, match="open to others"):
        log.add_checkpoint()
    log.close()
    assert json.loads(json.dumps(read(home)[1]))[-1]["type"] == "event"
