# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shared trail, in a PostgreSQL of our own: what it takes, what it refuses, what it survives."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import pathlib
import pwd
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import typing as t

import hypothesis
import psycopg
import psycopg.conninfo
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies
from psycopg import sql

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import (
    checkpoint,
    commitment,
    entry,
    home,
    merkle,
    note,
    postgres,
    sqlite,
    verify,
)
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import log as trail_log

HERE = pathlib.Path(__file__).parent
CHECKOUT = HERE.parents[1]
SCHEMA = CHECKOUT / "roles/trail_database/files/trail.sql"
BIN = pathlib.Path(sys.executable).parent
LOG = sqlite.SqliteLog
TABLES = ("entries", "nodes", "checkpoints", "logs", "openings", "erased")
NODES = [f"node_{number}" for number in range(8)]

Row = tuple[t.Any, ...]


# ── A server ────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclasses.dataclass
class Server:
    """A PostgreSQL on a socket of its own; nothing else of this machine is touched."""

    directory: pathlib.Path
    bin: pathlib.Path
    user: str | None  # as whom it runs, where the tests run as root
    port: int = 5432
    address: str = ""  # where it listens besides

    @property
    def data(self) -> pathlib.Path:
        return self.directory / "data"

    def command(self, tool: str, *words: str) -> None:
        done = subprocess.run(
            [str(self.bin / tool), *words],
            user=self.user,
            group=self.user and pwd.getpwnam(self.user).pw_gid,
            extra_groups=[] if self.user else None,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        # A server that is killed loses nothing without fsync either; a machine that loses its power is not tested here.
        options = (
            f"-c listen_addresses='{self.address}' -c port={self.port} -c unix_socket_directories='{self.directory}'"
            " -c fsync=off"
        )
        self.command("pg_ctl", "-D", str(self.data), "-o", options, "-l", str(self.directory / "log"), "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self.command("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def conninfo(self, user: str = "postgres", database: str = "postgres") -> str:
        return f"host={self.directory} port={self.port} user={user} dbname={database}"

    def connect(self, user: str = "postgres", database: str = "postgres") -> psycopg.Connection[Row]:
        return psycopg.connect(self.conninfo(user, database), autocommit=True)

    def apply(self, database: str) -> None:
        done = subprocess.run(
            [
                "psql",
                f"--dbname={self.conninfo(database=database)}",
                "--no-psqlrc",
                "--set=ON_ERROR_STOP=1",
                "--single-transaction",
                "--quiet",
                f"--file={SCHEMA}",
            ],
            capture_output=True,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")


@contextlib.contextmanager
def running(port: int = 5432, address: str = "") -> t.Iterator[Server]:
    found = sorted(
        pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True
    )
    if not found:
        pytest.fail("PostgreSQL is not installed; tests/packages postgresql installs it.")
    # A socket's path has at most 107 bytes.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="flowaudit-pg-", dir="/tmp"))
    made = Server(directory, found[0].parent, "postgres" if os.geteuid() == 0 else None, port, address)
    if made.user:
        shutil.chown(directory, made.user)
    directory.chmod(0o755)
    try:
        made.command("initdb", "-D", str(made.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        with (made.data / "postgresql.conf").open("a") as configuration:
            configuration.write("include_dir = 'conf.d'\nlog_min_messages = warning\n")
        (made.data / "conf.d").mkdir()
        if made.user:
            shutil.chown(made.data / "conf.d", made.user)
        made.start()
        yield made
    finally:
        with contextlib.suppress(AssertionError):
            made.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> t.Iterator[Server]:
    with running() as made:
        # Twice: what is there stays.
        made.apply("postgres")
        made.apply("postgres")
        with made.connect() as connection:
            for name in [*NODES, "auditor", "nobody_knows", "mallory"]:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'not-the-canary'").format(sql.Identifier(name))
                )
            for name in NODES:
                connection.execute(sql.SQL("GRANT trail_writer TO {}").format(sql.Identifier(name)))
            connection.execute("GRANT trail_auditor TO auditor")
            access = made.data / "pg_hba.conf"
            access.write_text(f"local all mallory scram-sha-256\n{access.read_text()}")
            connection.execute("SELECT pg_reload_conf(), pg_sleep(0.5)")
        yield made


_numbers = itertools.count()


@dataclasses.dataclass
class Database:
    """A database of the server, with the schema."""

    server: Server
    name: str

    def conninfo(self, user: str = "node_0") -> str:
        return self.server.conninfo(user, self.name)

    @contextlib.contextmanager
    def connect(self, user: str = "postgres") -> t.Iterator[psycopg.Connection[Row]]:
        with self.server.connect(user, self.name) as connection:
            yield connection

    def ask(self, query: t.LiteralString, arguments: t.Sequence[t.Any] = (), user: str = "postgres") -> list[Row]:
        with self.connect(user) as connection:
            return connection.execute(query, arguments, binary=True).fetchall()

    def log(self, user: str = "auditor", origin: str = "") -> postgres.PostgresLog:
        return postgres.PostgresLog(self.conninfo(user), origin)

    def verified(self, origin: str = "") -> verify.Report:
        with postgres.connected(self.conninfo("auditor"), origin) as shared:
            nodes = {
                (level, index): bytes(hashed)
                for level, index, hashed in self.ask(
                    "SELECT level, idx, hash FROM trail.nodes WHERE origin = %s", (shared.origin,)
                )
            }
            return verify.verify(shared.origin, shared.rows(), shared.checkpoints(), nodes=nodes)


@pytest.fixture
def database(server: Server) -> Database:
    name = f"trail_{next(_numbers)}"
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    server.apply(name)
    return Database(server, name)


# ── A control node ──────────────────────────────────────────────────────────────────────────────────────────────────
def result(number: int, **more: t.Any) -> entry.Draft:
    return {
        "type": "task.result",
        "ts": entry.timestamp(),
        "run": "0190163d-8694-739b-aea5-966c26f8ad91",
        "chg": "CHG-2026-0042",
        "host": f"web{number % 5:02d}",
        "status": "ok",
        "changed": number % 3 == 0,
        **more,
    }


@pytest.fixture
def local(tmp_path: pathlib.Path) -> t.Iterator[LOG]:
    log = LOG.open_or_create(home.Home(tmp_path / "trail"), "0.2.0", "node")
    yield log
    log.close()


def grow(log: LOG, *counts: int) -> None:
    """Append so many entries each time, and sign."""
    for count in counts:
        log.append([result(number) for number in range(count)])
        log.add_checkpoint()


def ship(database: Database, log: LOG, user: str = "node_0") -> postgres.Shipped:
    with postgres.connected(database.conninfo(user)) as shared:
        return shared.ship(log)


class Workers:
    """Processes of control nodes; none outlives its test."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str | os.PathLike[str]) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "postgres_worker.py"), *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started.append(process)
        return process

    def finished(self, processes: list[subprocess.Popen[str]]) -> list[str]:
        """What each of them printed; all must have ended well."""
        outputs = []
        for process in processes:
            output, _nothing = process.communicate(timeout=300)
            assert process.returncode == 0, output
            outputs.append(output.strip())
        return outputs


@pytest.fixture
def workers() -> t.Iterator[Workers]:
    made = Workers()
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


# ── Reading and shipping ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_log_arrives_as_it_is(database: Database, local: LOG) -> None:
    opening = commitment.commit("actor", b"anna")
    local.append([result(0, actor=opening.commitment)], [opening])
    grow(local, 3, 300, 1)

    shipped = ship(database, local)

    size = local.size()
    assert shipped == postgres.Shipped(entries=size, size=size, witnessed=size)
    shared = database.log()
    assert shared.origin == local.origin
    assert shared.origins() == [local.origin]
    assert list(shared.rows()) == list(local.rows())
    assert list(shared.rows(5, 9)) == list(local.rows(5, 9))
    assert list(shared.rows(size - 2, size + 5)) == list(local.rows(size - 2))
    assert list(shared.checkpoints()) == list(local.checkpoints())
    assert shared.hashes(8, 0, 1) == local.hashes(8, 0, 1)
    assert trail_log.tree(shared).inclusion_proof(7) == trail_log.tree(local).inclusion_proof(7)
    assert shared.openings([opening.commitment, "c:unknown"]) == {opening.commitment: opening}
    report = database.verified()
    assert (report.finding, report.size, report.signed_size) == (None, size, size)
    assert ship(database, local) == postgres.Shipped(entries=0, size=size, witnessed=size)
    shared.close()


def test_the_columns_say_what_the_line_says(database: Database, local: LOG) -> None:
    long = "h" * 5000
    local.append([result(0), result(1, host=long, status="failed"), result(2, name="\0 and \\u0000", chg="\0")])
    ship(database, local)
    found = database.ask("SELECT type, run, chg, host, status, changed, ts FROM trail.entries ORDER BY seq")
    lines = [json.loads(row.line or b"") for row in local.rows()]
    assert found[0][:6] == ("log.created", None, None, None, None, None)
    assert [row[6] for row in found] == [line["ts"] for line in lines]
    assert found[1][:6] == ("task.result", lines[1]["run"], "CHG-2026-0042", "web00", "ok", True)
    assert found[2][3:6] == (long[:255], "failed", False)
    assert found[3][2] == "�"
    assert database.verified().whole


def test_what_is_missing_is_sent_and_no_more(database: Database, local: LOG) -> None:
    grow(local, 700)
    assert ship(database, local).entries == 701
    grow(local, 2)
    with postgres.connected(database.conninfo()) as shared:
        assert shared.ship(local).entries == 2
        grow(local, 5)
        assert shared.ship(local) == postgres.Shipped(5, 708, 708)
    assert database.verified().size == 708


def test_shipping_can_be_short_of_time(database: Database, local: LOG) -> None:
    grow(local, 600)
    with postgres.connected(database.conninfo()) as shared:
        assert shared.ship(local, seconds=0).size == 0
        assert shared.ship(local, seconds=60).size == 601


def test_large_entries_go_in_several_batches(database: Database, local: LOG) -> None:
    openings = [commitment.commit("diff", bytes([number]) * (3 << 20)) for number in range(3)]
    local.append([result(number, name="x" * (1 << 20)) for number in range(10)], openings)
    local.add_checkpoint()
    assert ship(database, local).size == 11
    with contextlib.closing(database.log()) as shared:
        assert shared.openings(item.commitment for item in openings) == {item.commitment: item for item in openings}
    assert database.verified().whole


def test_a_checkpoint_with_one_more_signature_is_kept_too(
    database: Database, local: LOG, tmp_path: pathlib.Path
) -> None:
    grow(local, 3)
    ship(database, local)
    second = home.FileSigner.generate(local.origin, tmp_path / "second")
    both = local.sign([home.FileSigner.load(local.origin, local.home.signing_key), second])
    assert ship(database, local).witnessed == 4
    with contextlib.closing(database.log()) as shared:
        assert list(shared.checkpoints())[1:] == [both]


def test_which_log_is_asked_when_there_are_several(database: Database, local: LOG, tmp_path: pathlib.Path) -> None:
    with contextlib.closing(database.log()) as shared, pytest.raises(FlowauditError, match="has 0 logs; name"):
        shared.size()
    grow(local, 1)
    ship(database, local)
    with contextlib.closing(LOG.open_or_create(home.Home(tmp_path / "other"), "0.2.0", "other")) as other:
        ship(database, other, "node_1")
        with contextlib.closing(database.log()) as shared, pytest.raises(FlowauditError, match=r"has 2 logs \("):
            shared.size()
        with contextlib.closing(database.log(origin=other.origin)) as shared:
            assert shared.size() == 1
        with contextlib.closing(database.log("node_1")) as shared:
            assert shared.origin == other.origin  # the only one it sees
        with pytest.raises(FlowauditError, match="not other/trail"):
            database.log("node_0", other.origin).ship(local)


# ── Many at once, and outages ───────────────────────────────────────────────────────────────────────────────────────
def test_closing_twice_does_no_harm(database: Database) -> None:
    shared = database.log()
    shared.origins()
    shared.close()
    shared.close()
    assert shared.origins() == []  # it connects again
    shared.close()


def test_eight_control_nodes_at_once(database: Database, workers: Workers, tmp_path: pathlib.Path) -> None:
    origins = workers.finished(
        [workers.start("node", tmp_path / name, database.conninfo(name), "400") for name in NODES]
    )
    assert len(set(origins)) == 8
    for name, origin in zip(NODES, origins, strict=True):
        report = database.verified(origin)
        with contextlib.closing(LOG(home.Home(tmp_path / name))) as log:
            assert (report.finding, report.size, report.root) == (None, log.size(), trail_log.tree(log).root())
            assert report.checkpoints == len(list(log.checkpoints()))


def until(true: t.Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def under_load(
    database: Database, log: LOG, workers: Workers, tmp_path: pathlib.Path, seconds: float, down: float
) -> list[int]:
    """Eight processes append to one log, eight ship it; in the middle the server is gone for a while."""
    directory, enough, stop = log.home.path, tmp_path / "enough", tmp_path / "stop"
    writers = [workers.start("append", directory, enough, str(seed)) for seed in range(8)]
    shippers = [workers.start("ship", directory, database.conninfo(), stop) for number in range(8)]
    until(lambda: len(list(tmp_path.glob("stop.*"))) == 8, "All ship.")
    if down:
        database.server.stop("immediate")
        before = log.size()
        time.sleep(down)
        assert log.size() > before  # recording went on
        database.server.start()
    time.sleep(seconds)
    enough.touch()
    appended = sum(map(int, workers.finished(writers)))
    log.add_checkpoint()
    stop.touch()
    failures = [int(output) for output in workers.finished(shippers)]

    report = database.verified()
    assert (report.finding, report.size) == (None, appended + 1)
    assert report.root == trail_log.tree(log).root()
    assert report.checkpoints == len(list(log.checkpoints()))
    with contextlib.closing(database.log()) as shared:
        assert all(there == here for there, here in zip(shared.rows(), log.rows(), strict=True))
    count = "SELECT count(*) FROM openings"
    assert database.ask("SELECT count(*) FROM trail.openings") == log.ask(count) != [(0,)]
    return failures


def test_eight_processes_ship_one_log_while_eight_append(
    database: Database, local: LOG, workers: Workers, tmp_path: pathlib.Path
) -> None:
    assert under_load(database, local, workers, tmp_path, seconds=4, down=0) == [0] * 8


def test_a_server_that_is_gone_for_seconds_loses_nothing(
    database: Database, local: LOG, workers: Workers, tmp_path: pathlib.Path
) -> None:
    assert all(under_load(database, local, workers, tmp_path, seconds=3, down=4))


@pytest.mark.campaign
def test_a_server_that_is_gone_for_a_minute_loses_nothing(
    database: Database, local: LOG, workers: Workers, tmp_path: pathlib.Path
) -> None:
    assert all(under_load(database, local, workers, tmp_path, seconds=30, down=60))


def test_a_connection_that_was_lost_is_made_again(database: Database, local: LOG) -> None:
    grow(local, 1)
    with postgres.connected(database.conninfo()) as shared:
        shared.ship(local)
        database.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node_0'")
        grow(local, 1)
        with pytest.raises(postgres.Unavailable, match="terminating connection"):
            shared.ship(local)
        assert shared.ship(local).size == 3


def test_a_server_that_stands_still_is_given_up(
    database: Database, local: LOG, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_GRACE", 0.5)
    grow(local, 1)
    shared = postgres.PostgresLog(database.conninfo(), statement_timeout=0.5)
    shared.ship(local)
    ((process,),) = database.ask("SELECT pid FROM pg_stat_activity WHERE usename = 'node_0'")
    grow(local, 1)
    os.kill(process, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(postgres.Unavailable, match="cannot be used"):
            shared.ship(local)
        assert time.monotonic() - began < 10
        # Meanwhile another connection is as good.
        assert shared.ship(local).size == 3
    finally:
        os.kill(process, signal.SIGCONT)
    shared.close()


def test_a_lock_that_is_held_for_too_long_is_given_up(database: Database, local: LOG) -> None:
    grow(local, 1)
    ship(database, local)
    grow(local, 1)
    with database.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM trail.logs FOR UPDATE")
        with (
            contextlib.closing(postgres.PostgresLog(database.conninfo(), statement_timeout=0.3)) as shared,
            pytest.raises(postgres.Unavailable, match="statement timeout"),
        ):
            shared.ship(local)
    assert ship(database, local).size == 3


# ── Logs that are not the same ──────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def restored(database: Database, local: LOG, tmp_path: pathlib.Path) -> t.Iterator[LOG]:
    """The log as it was after 41 entries, while the shared one went on to 342."""
    grow(local, 40)
    directory = tmp_path / "restored"
    directory.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(directory / "trail.sqlite3")) as copy:
        local.copy_to(copy)
    shutil.copy(local.home.signing_key, directory)
    grow(local, 300, 1)
    ship(database, local)
    log = LOG(home.Home(directory))
    yield log
    log.close()


def test_a_log_that_was_cut_is_not_shipped(database: Database, restored: LOG) -> None:
    with pytest.raises(FlowauditError, match=r"has 342 entries .* only 41: it was cut") as error:
        ship(database, restored)
    assert not isinstance(error.value, postgres.Unavailable)


@pytest.mark.parametrize("more", [301, 302, 900])
def test_a_fork_is_named_by_its_first_entry(database: Database, restored: LOG, more: int) -> None:
    grow(restored, more)
    with pytest.raises(FlowauditError, match=r"^Entry 41 of the log node/trail/.* the log has forked"):
        ship(database, restored)
    assert database.verified().size == 342


def test_a_fork_that_appears_while_shipping_is_named_too(
    database: Database, local: LOG, restored: LOG, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(restored, 400)
    # As if the shared log had only had the common entries when it was looked at.
    monkeypatch.setattr(postgres.PostgresLog, "_resume", lambda self, log: 41)
    with pytest.raises(FlowauditError, match=r"^Entry 41 of the log node/trail/.* the log has forked"):
        ship(database, restored)


def test_other_refusals_of_what_is_sent_are_told(
    database: Database, local: LOG, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(local, 5)
    monkeypatch.setattr(postgres.PostgresLog, "_resume", lambda self, log: 2)
    with pytest.raises(FlowauditError, match=r"has 0 entries here; 2 cannot be the next"):
        ship(database, local)


NO_TEXT = b'{"a":"\xff"}'


def tampered(log: LOG, statement: str) -> None:
    with log.changing() as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE entries SET line = replace(line, 'web02', 'web03') WHERE seq = 3", "Entry 3 in .* was altered"),
        ("UPDATE entries SET leaf = zeroblob(32) WHERE seq = 3", "Entry 3 in .* was altered"),
        (
            f"UPDATE entries SET line = CAST(x'{NO_TEXT.hex()}' AS TEXT), leaf = x'{merkle.leaf_hash(NO_TEXT).hex()}'"
            " WHERE seq = 3",
            "Entry 3 in .* was altered",
        ),
        ("DELETE FROM entries WHERE seq = 3", "Entry 3 is missing"),
        ("DELETE FROM entries WHERE seq < 3", "Entry 0 is missing"),
        ("UPDATE openings SET value = x'00'", "The opening .* is not that of it"),
    ],
)
def test_what_was_altered_here_does_not_become_the_truth_there(
    database: Database, local: LOG, statement: str, message: str
) -> None:
    local.append([result(number) for number in range(9)], [commitment.commit("diff", b"-a\n+b\n")])
    tampered(local, statement)
    with pytest.raises(FlowauditError, match=message):
        ship(database, local)
    assert database.ask("SELECT count(*) FROM trail.entries") == [(0,)]


def test_a_log_whose_entries_are_gone_is_told(database: Database, local: LOG, monkeypatch: pytest.MonkeyPatch) -> None:
    tampered(local, "DELETE FROM entries")
    monkeypatch.setattr(local, "size", lambda: 7)
    with pytest.raises(FlowauditError, match="Entry 0 is missing"):
        ship(database, local)


# ── Rights ──────────────────────────────────────────────────────────────────────────────────────────────────────────
CHANGES = [
    *(f"DELETE FROM trail.{table}" for table in TABLES if table != "openings"),
    *(f"TRUNCATE trail.{table}" for table in TABLES),
    "UPDATE trail.entries SET line = '{}'",
    "UPDATE trail.entries SET leaf = sha256('x')",
    "UPDATE trail.entries SET line = NULL, seq = seq + 1000",
    "UPDATE trail.entries SET line = NULL WHERE type = 'log.created'",
    "UPDATE trail.nodes SET hash = sha256('x')",
    "UPDATE trail.checkpoints SET size = size",
    "UPDATE trail.logs SET origin = origin || 'x'",
    "UPDATE trail.openings SET value = 'x'",
    "UPDATE trail.erased SET commitment = 'x'",
]


@pytest.fixture(scope="module")
def filled(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A database with a log in which every table has rows."""
    name = f"trail_{next(_numbers)}"
    with server.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    server.apply(name)
    made = Database(server, name)
    directory = tmp_path_factory.mktemp("filled") / "trail"
    with contextlib.closing(LOG.open_or_create(home.Home(directory), "0.2.0", "node")) as log:
        kept, gone = commitment.commit("actor", b"anna"), commitment.commit("actor", b"otto")
        log.append([result(0)], [kept, gone])
        grow(log, 300)
        ship(made, log)
        with postgres.connected(made.conninfo(), log.origin) as shared:
            assert shared.erase([gone.commitment]) == 1
    return made


def contents(database: Database) -> list[list[Row]]:
    return [
        database.ask(t.cast("t.LiteralString", f"SELECT * FROM trail.{table} ORDER BY 1, 2"))
        for table in (*TABLES, "meta")
    ]


@pytest.mark.parametrize("statement", CHANGES)
@pytest.mark.parametrize("user", ["node_0", "node_1", "auditor", "owner", "replica"])
def test_nothing_is_changed_or_deleted(filled: Database, user: str, statement: str) -> None:
    before = contents(filled)
    assert all(before)
    with filled.connect("postgres" if user in ("owner", "replica") else user) as connection:
        if user == "owner":
            connection.execute("SET ROLE trail_owner")
        if user == "replica":
            connection.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.Error) as error:
            connection.execute(t.cast("t.LiteralString", statement))
    assert error.value.sqlstate == ("TR008" if user in ("owner", "replica") else "42501")
    assert contents(filled) == before


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO trail.entries (origin, seq, leaf) VALUES ('a', 0, sha256('x'))",
        "INSERT INTO trail.checkpoints SELECT * FROM trail.checkpoints",
        "DELETE FROM trail.openings",
        "UPDATE trail.meta SET value = '0'",
        "SELECT trail.hold('mine')",
        "CREATE TABLE trail.mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "ALTER TABLE trail.entries DISABLE TRIGGER stay",
        "DROP TABLE trail.entries",
        "SET ROLE trail_owner",
        "SELECT FROM trail.logs FOR UPDATE",
    ],
)
@pytest.mark.parametrize("user", ["node_0", "auditor"])
def test_nobody_goes_past_the_functions(filled: Database, user: str, statement: str) -> None:
    with filled.connect(user) as connection, pytest.raises(psycopg.Error) as error:
        connection.execute(t.cast("t.LiteralString", statement))
    assert error.value.sqlstate in ("42501", "42P01")


def test_an_auditor_reads_everything_and_calls_nothing_that_writes(filled: Database) -> None:
    for table in (*TABLES, "meta"):
        query = t.cast("t.LiteralString", f"SELECT count(*) FROM trail.{table}")
        assert filled.ask(query, user="auditor") == filled.ask(query) != [(0,)]
    (origin,) = filled.ask("SELECT origin FROM trail.logs")[0]
    with contextlib.closing(filled.log("auditor")) as shared:
        root = trail_log.tree(shared).root()
    assert filled.ask("SELECT trail.root(%s, 302)", (origin,), "auditor") == [(root,)]
    with filled.connect("auditor") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT trail.append(%s, 302, '{}')", (origin,))


def test_who_is_no_member_does_not_get_in(filled: Database) -> None:
    shared = postgres.PostgresLog(filled.conninfo("nobody_knows"))
    with pytest.raises(FlowauditError, match=r"permission denied for database"):
        shared.origins()
    with filled.connect() as connection:
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO nobody_knows").format(sql.Identifier(filled.name)))
    with pytest.raises(FlowauditError, match="the login must be one of trail_database_writers"):
        shared.origins()


def test_a_writer_sees_and_writes_its_own_log_only(database: Database, local: LOG) -> None:
    opening = commitment.commit("actor", b"anna")
    local.append([result(0)], [opening])
    grow(local, 2)
    ship(database, local)
    for table in ("entries", "checkpoints", "logs"):
        query = t.cast("t.LiteralString", f"SELECT count(*) FROM trail.{table}")
        assert database.ask(query, user="node_0") != [(0,)]
        assert database.ask(query, user="node_1") == [(0,)]
    signed = local.add_checkpoint()
    calls: list[tuple[t.LiteralString, list[t.Any]]] = [
        ("SELECT trail.append(%s, 4, %s)", [["{}"]]),
        ("SELECT trail.append(%s, 0, %s)", [["{}"]]),
        ("SELECT trail.keep_openings(%s, '{}', '{}', '{}', '{}', '{}')", []),
        ("SELECT trail.erase(%s, %s)", [[opening.commitment]]),
        ("SELECT trail.prune(%s, 3)", []),
        ("SELECT trail.witness(%s, 4, %s, '{}')", [signed]),
    ]
    with database.connect("node_1") as connection:
        for query, arguments in calls:
            with pytest.raises(psycopg.Error, match="but by another login") as error:
                connection.execute(query, [local.origin, *arguments])
            assert error.value.sqlstate == "TR004"
    with pytest.raises(FlowauditError, match="is not written by node_1"):
        ship(database, local, "node_1")
    # The owner gives it to another login.
    with database.connect() as connection:
        connection.execute("SET ROLE trail_owner")
        connection.execute("UPDATE trail.logs SET writer = 'node_1'")
    grow(local, 1)
    assert ship(database, local, "node_1").size == 5
    with pytest.raises(FlowauditError, match="is not written by node_0"):
        ship(database, local, "node_0")


def test_a_writer_does_not_read_openings_back(database: Database, local: LOG) -> None:
    opening = commitment.commit("actor", b"anna")
    local.append([result(0)], [opening])
    ship(database, local)
    with contextlib.closing(database.log("node_0")) as shared, pytest.raises(FlowauditError, match="permission denied"):
        shared.openings([opening.commitment])


# ── What append takes ───────────────────────────────────────────────────────────────────────────────────────────────
def line(number: int, previous: bytes | None, **more: t.Any) -> entry.Row:
    return entry.seal({"type": "event", "ts": entry.timestamp(), **more}, number, previous)


def text(row: entry.Row) -> str:
    return (row.line or b"").decode()


@pytest.fixture
def first(database: Database) -> entry.Row:
    key = str(note.VerifierKey("a/trail/1", b"k" * 32))
    row = line(0, None, type="log.created", origin="a/trail/1", key=key)
    assert database.ask("SELECT trail.append('a/trail/1', 0, %s)", ([text(row)],), "node_0") == [(1,)]
    return row


def refused(database: Database, place: int, *lines: str | None, leaves: t.Any = None, origin: str = "a/trail/1") -> str:
    with database.connect("node_0") as connection, pytest.raises(psycopg.Error) as error:
        connection.execute("SELECT trail.append(%s, %s, %s::text[], %b)", (origin, place, list(lines), leaves))
    return error.value.sqlstate or ""


def test_append_takes_what_follows_and_nothing_else(database: Database, first: entry.Row) -> None:
    second = line(1, first.leaf)
    third = line(2, second.leaf)
    other = line(1, first.leaf, name="other")
    assert refused(database, 2, text(third)) == "TR002"  # a gap
    assert refused(database, 1, text(third)) == "TR001"  # another place
    assert refused(database, 1, text(line(1, b"x" * 32))) == "TR003"  # behind another entry
    assert refused(database, 0, text(line(0, None, type="log.created", origin="a/trail/1", x=1))) == "TR003"
    assert refused(database, 1, text(second), text(line(2, first.leaf))) == "TR001"
    assert refused(database, 1, text(second) + "\n") == "TR001"
    assert refused(database, 1, "{") == "TR001"
    assert refused(database, 1, "[]") == "TR001"
    assert refused(database, 1, "{}") == "TR001"
    assert refused(database, 1, "null") == "TR001"
    assert refused(database, 1, text(second).replace('"seq":1', '"seq":"1"')) == "TR001"
    assert refused(database, 1, None) == "TR001"  # pruned, without its hash
    assert refused(database, 1, None, leaves=[b"short"]) == "TR001"
    assert refused(database, -1, text(second)) == "TR001"
    assert refused(database, 0, text(first), origin="b/trail/2") == "TR001"  # the beginning of another log
    assert refused(database, 0, text(line(0, None)), origin="b/trail/2") == "TR001"  # no beginning
    assert refused(database, 0, None, leaves=[first.leaf], origin="b/trail/2") == "TR001"
    assert refused(database, 0, text(first), origin="b trail") == "23514"  # no name of a log
    assert database.ask("SELECT count(*) FROM trail.entries") == [(1,)]

    send = "SELECT trail.append('a/trail/1', %s, %s)"
    assert database.ask(send, (1, [text(second)]), "node_0") == [(2,)]
    assert database.ask(send, (0, [text(first), text(second), text(third)]), "node_0") == [(3,)]
    assert database.ask(send, (0, [text(first)]), "node_0") == [(3,)]
    assert database.ask(send, (3, []), "node_0") == [(3,)]
    assert refused(database, 1, text(other), text(third)) == "TR003"
    # Its hash is computed, and not taken from the sender.
    assert database.ask("SELECT leaf FROM trail.entries ORDER BY seq") == [
        (row.leaf,) for row in (first, second, third)
    ]


def test_a_pruned_entry_is_taken_with_its_hash(database: Database, first: entry.Row) -> None:
    second = line(1, first.leaf)
    third = line(2, second.leaf, type="pruned", first=1, last=1)
    assert refused(database, 1, None, text(third), leaves=[b"x" * 32, None]) == "TR001"
    send = "SELECT trail.append('a/trail/1', 1, %s::text[], %b)"
    assert database.ask(send, ([None, text(third)], [second.leaf, None]), "node_0") == [(3,)]
    assert database.ask("SELECT trail.append('a/trail/1', 1, %s)", ([text(second)],), "node_0") == [(3,)]
    report = database.verified("a/trail/1")
    assert (report.finding, report.pruned, report.size) == (None, 1, 3)


def test_the_hash_is_that_of_the_line_whoever_inserts(database: Database) -> None:
    with database.connect() as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("INSERT INTO trail.entries (origin, seq, line, leaf) VALUES ('a', 0, '{}', sha256('x'))")
    with database.connect() as connection, pytest.raises(psycopg.errors.GeneratedAlways):
        connection.execute("INSERT INTO trail.entries (origin, seq, leaf, host) VALUES ('a', 0, sha256('x'), 'h')")


# ── The tree and its proofs ─────────────────────────────────────────────────────────────────────────────────────────
@hypothesis.settings(derandomize=True, database=None, deadline=None, max_examples=300)
@hypothesis.given(data=strategies.data())
def test_consistency_is_what_the_collection_says(server: Server, data: strategies.DataObject) -> None:
    size = data.draw(strategies.integers(0, 600))
    earlier = data.draw(strategies.integers(0, size))
    leaves = [merkle.leaf_hash(bytes([number & 255, number >> 8])) for number in range(size)]
    tree = merkle.Tree(size, lambda level, start, stop: _levels(leaves, level)[start:stop])
    proof = tree.consistency_proof(earlier)
    before, after = merkle.root(leaves[:earlier]), merkle.root(leaves)
    assert consistent(server, earlier, size, proof, before, after) is True
    # One thing is changed.
    kind = data.draw(strategies.sampled_from(["earlier", "size", "drop", "add", "flip", "before", "after", "swap"]))
    if kind == "earlier":
        earlier = data.draw(strategies.integers(0, size + 1))
    elif kind == "size":
        size = data.draw(strategies.integers(0, 1200))
    elif kind == "drop" and proof:
        del proof[data.draw(strategies.integers(0, len(proof) - 1))]
    elif kind == "add":
        proof.insert(data.draw(strategies.integers(0, len(proof))), after)
    elif kind == "flip" and proof:
        place = data.draw(strategies.integers(0, len(proof) - 1))
        proof[place] = bytes([proof[place][0] ^ 1]) + proof[place][1:]
    elif kind == "before":
        before = merkle.EMPTY[::-1]
    elif kind == "after":
        after = merkle.EMPTY[::-1]
    elif kind == "swap":
        proof.reverse()
    assert consistent(server, earlier, size, proof, before, after) is merkle.verify_consistency(
        earlier, size, proof, before, after
    )


def _levels(leaves: list[bytes], level: int) -> list[bytes]:
    hashes = leaves
    while level:
        hashes = [merkle.node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=False)]
        level -= 1
    return hashes


def consistent(server: Server, *arguments: t.Any) -> bool:
    with server.connect() as connection:
        row = connection.execute("SELECT trail.consistent(%s, %s, %b, %s, %s)", arguments).fetchone()
        assert row is not None
        return bool(row[0])


@pytest.mark.parametrize("proof", [[None], [b"short"], [b"x" * 32] * 129])
def test_a_proof_of_something_else_is_none(server: Server, proof: list[bytes | None]) -> None:
    assert consistent(server, 1, 2, proof, b"x" * 32, b"x" * 32) is False


def test_roots_and_proofs_are_right_at_every_size(database: Database, local: LOG) -> None:
    """Through the witness itself: a log of random growth, each of its checkpoints, then every root."""
    chance = random.Random(6962)
    with postgres.connected(database.conninfo()) as shared:
        while local.size() < 1400:
            grow(local, chance.choice([1, 1, 2, 3, 8, 40, 200]))
            if chance.random() < 0.5:
                assert shared.ship(local).witnessed == local.size()
        shared.ship(local)
    size = local.size()
    with database.connect("auditor") as connection:
        roots = connection.execute(
            "SELECT trail.root(%s, n) FROM generate_series(0, %s) AS n", (local.origin, size), binary=True
        ).fetchall()
    frontier = merkle.Frontier()
    expected = [frontier.root()]
    for row in local.rows():
        frontier.append(row.leaf)
        expected.append(frontier.root())
    assert [root for (root,) in roots] == expected
    assert database.verified().checkpoints == len(list(local.checkpoints()))


# ── The witness ─────────────────────────────────────────────────────────────────────────────────────────────────────
class Witnessed(t.NamedTuple):
    """A shared log of 11 entries, of which a checkpoint of 6 was witnessed."""

    database: Database
    log: LOG

    def signed(self, size: int, root: bytes | None = None, origin: str = "") -> str:
        root = merkle.Tree(size, self.log.hashes).root() if root is None else root
        text = checkpoint.Checkpoint(origin or self.log.origin, size, root).text()
        return note.sign(text, [home.FileSigner.load(self.log.origin, self.log.home.signing_key)])

    def proof(self, old: int, size: int) -> list[bytes]:
        return merkle.Tree(size, self.log.hashes).consistency_proof(old)

    def ask(self, signed: str, proof: t.Sequence[bytes], old: int = 6) -> int:
        with self.database.connect("node_0") as connection:
            row = connection.execute(
                "SELECT trail.witness(%s, %s, %s, %b::bytea[])", (self.log.origin, old, signed, list(proof))
            ).fetchone()
        assert row is not None
        return int(row[0])

    def refused(self, signed: str, proof: t.Sequence[bytes], old: int = 6) -> str:
        with pytest.raises(psycopg.Error) as error:
            self.ask(signed, proof, old)
        return error.value.sqlstate or ""


@pytest.fixture
def witnessed(database: Database, local: LOG) -> Witnessed:
    grow(local, 5)
    ship(database, local)
    local.append([result(number) for number in range(5)])
    ship(database, local)
    local.append([result(number) for number in range(5)])
    return Witnessed(database, local)


def test_the_witness_takes_what_is_proved(witnessed: Witnessed) -> None:
    w = witnessed
    assert w.ask(w.signed(6), []) == 6  # again
    assert w.ask(w.signed(9), w.proof(6, 9)) == 9
    assert w.ask(w.signed(11), w.proof(9, 11), old=9) == 11
    assert w.database.ask("SELECT size FROM trail.checkpoints ORDER BY size") == [(6,), (9,), (11,)]


def test_the_witness_refuses_everything_else(witnessed: Witnessed) -> None:
    w = witnessed
    good, proof = w.signed(9), w.proof(6, 9)
    other = merkle.leaf_hash(b"other")
    # Of a log that was cut, or forked.
    assert w.refused(w.signed(4), []) == "TR006"
    assert w.refused(w.signed(6, other), []) == "TR006"
    assert w.refused(w.signed(9, other), proof) == "TR006"
    # Not proved to go on from the last one.
    assert w.refused(good, []) == "TR006"
    assert w.refused(good, proof[:-1]) == "TR006"
    assert w.refused(good, [*proof, other]) == "TR006"
    assert w.refused(good, [other, *proof[1:]]) == "TR006"
    assert w.refused(good, w.proof(5, 9)) == "TR006"
    assert w.refused(w.signed(6), [other]) == "TR006"
    # A tree that nobody has the entries of, consistent though it is.
    assert w.refused(w.signed(16), w.proof(6, 16)) == "TR006"
    forged = [merkle.leaf_hash(bytes([number])) for number in range(3)]
    leaves = [*w.log.hashes(0, 0, 6), *forged]
    tree = merkle.Tree(9, lambda level, start, stop: leaves[start:stop])
    assert merkle.verify_consistency(6, 9, tree.consistency_proof(6), merkle.root(leaves[:6]), tree.root())
    assert w.refused(w.signed(9, tree.root()), tree.consistency_proof(6)) == "TR006"
    # Another knew of a later one.
    assert w.refused(good, w.proof(5, 9), old=5) == "TR005"
    assert w.refused(good, [], old=0) == "TR005"
    # Of another log, or no checkpoint at all.
    assert w.refused(w.signed(9, origin="other/trail/1"), proof) == "TR006"
    unsigned = good.partition("— ")[0]
    root = good.split("\n")[2]
    for wrong in [
        unsigned,
        unsigned[:-1],
        good[:-1],
        good + "\n",
        good.replace("\n9\n", "\n09\n"),
        good.replace("\n9\n", "\n-9\n"),
        good.replace("\n9\n", "\nnine\n"),
        good.replace("\n9\n", "\n0\n"),
        good.replace(root, "AAAA"),
        good.replace(root, root[:-2] + "B="),
        good.replace(root, base64.b64encode(b"x" * 32).decode().replace("=", "!")),
        good.replace("\n\n", "\n\x07\n\n"),
        good + "x" * (1 << 20),
        "",
    ]:
        assert w.refused(wrong, proof) == "TR001", wrong[:120]
    assert w.database.ask("SELECT size FROM trail.checkpoints") == [(6,)]
    assert w.ask(good, proof) == 9


def test_the_first_checkpoint_needs_the_entries_and_no_proof(database: Database, local: LOG) -> None:
    w = Witnessed(database, local)
    local.append([result(0)])
    with postgres.connected(database.conninfo()) as shared:
        shared.ship(local)
    assert w.refused(w.signed(2, merkle.EMPTY), [], old=0) == "TR006"
    assert w.refused(w.signed(2), [merkle.EMPTY], old=0) == "TR006"
    assert w.refused(w.signed(3, merkle.EMPTY), [], old=0) == "TR006"
    assert w.ask(w.signed(2), [], old=0) == 2


def test_entries_rewritten_by_a_superuser_are_not_witnessed(witnessed: Witnessed) -> None:
    w = witnessed
    with w.database.connect() as connection:
        connection.execute("ALTER TABLE trail.entries DISABLE TRIGGER only_pruning")
        connection.execute(
            "UPDATE trail.entries SET line = replace(line, 'web02', 'web04'),"
            " leaf = sha256('\\x00'::bytea || convert_to(replace(line, 'web02', 'web04'), 'UTF8')) WHERE seq = 8"
        )
    assert w.refused(w.signed(9), w.proof(6, 9)) == "TR006"
    assert w.database.verified().finding is not None


def test_a_witness_that_knows_more_is_asked_again(witnessed: Witnessed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has had a later checkpoint witnessed between the question and the request."""
    w = witnessed
    grow(w.log, 1)
    asked = 0
    original = postgres.PostgresLog._ask

    def ask(self: postgres.PostgresLog, query: str, arguments: t.Any = ()) -> list[Row]:
        nonlocal asked
        found = original(self, t.cast("t.LiteralString", query), arguments)
        if query.startswith("SELECT size, note"):
            asked += 1
            if asked == 1:
                w.ask(w.signed(9), w.proof(6, 9))
        return found

    monkeypatch.setattr(postgres.PostgresLog, "_ask", ask)
    assert ship(w.database, w.log).witnessed == w.log.size()
    assert asked == 2


# ── Erasing and pruning ─────────────────────────────────────────────────────────────────────────────────────────────
def test_what_is_erased_is_gone_and_does_not_come_back(database: Database, local: LOG) -> None:
    first, second = commitment.commit("actor", b"anna"), commitment.commit("actor", b"otto")
    local.append([result(0, actor=first.commitment)], [first, second])
    local.add_checkpoint()
    with postgres.connected(database.conninfo(), local.origin) as shared:
        assert shared.erase([second.commitment]) == 0  # before it has arrived
        shared.ship(local)
        assert database.ask("SELECT commitment FROM trail.openings") == [(first.commitment,)]
        assert shared.erase([first.commitment, "c:nonsense"]) == 1
        assert shared.erase([first.commitment]) == 0
        # A process that has read it before.
        shared._keep_openings(local, 0, 2)
    assert database.ask("SELECT count(*) FROM trail.openings") == [(0,)]
    assert database.ask("SELECT count(*) FROM trail.erased") == [(2,)]
    assert database.verified().whole


def test_an_entry_that_says_what_was_erased_erases_it(database: Database, local: LOG) -> None:
    first, second = commitment.commit("actor", b"anna"), commitment.commit("actor", b"otto")
    local.append([result(0)], [first, second])
    ship(database, local)
    redaction = {"type": entry.REDACTION, "ts": entry.timestamp(), "reason": "asked for"}
    local.erase([first.commitment], {**redaction, "commitments": [first.commitment, None, 5, "nonsense"]})
    local.append([{**redaction, "commitments": "all"}, redaction])
    ship(database, local)
    assert database.ask("SELECT commitment FROM trail.openings") == [(second.commitment,)]
    assert database.verified().whole


def old(number: int) -> entry.Draft:
    return result(number, ts="2024-05-01T00:00:00.000Z")


def test_old_entries_are_pruned_and_the_log_stays_whole(database: Database, local: LOG) -> None:
    local.append([old(number) for number in range(600)])
    local.append([{"type": entry.REDACTION, "ts": "2024-05-01T00:00:00.000Z", "commitments": []}])
    local.append([result(0), result(1)])
    local.append([{"type": entry.PRUNED, "ts": entry.timestamp(), "first": 0, "last": 603}])
    local.add_checkpoint()
    ship(database, local)
    with postgres.connected(database.conninfo()) as shared:
        shared.ship(local)
        with pytest.raises(FlowauditError, match=r"keeps entries for 365 days, and entry 602 .* is younger"):
            shared.prune(604)
        assert database.ask("SELECT count(*) FROM trail.entries WHERE line IS NULL") == [(0,)]
        assert shared.prune(300) == 299  # the log's beginning stays
        assert shared.prune(602) == 301  # and so does the redaction
        assert shared.prune(602) == 0
        # Sent again they are recognised, and not brought back.
        shared._send(local, 0, 100)
    assert database.ask("SELECT count(*), count(host) FROM trail.entries WHERE line IS NULL") == [(600, 0)]
    report = database.verified()
    assert (report.finding, report.pruned, report.size) == (None, 600, local.size())
    with database.connect() as connection:
        connection.execute("UPDATE trail.meta SET value = '0' WHERE key = 'keep_days'")
    with postgres.connected(database.conninfo(), local.origin) as shared:
        assert shared.prune(605) == 2
    assert database.verified().pruned == 602


def test_what_was_pruned_before_it_was_shipped_arrives_as_its_hash(database: Database, local: LOG) -> None:
    grow(local, 700)
    with local.changing() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq BETWEEN 5 AND 650")
    local.append([{"type": entry.ARCHIVED, "ts": entry.timestamp(), "first": 1, "last": 650}])
    assert ship(database, local).size == 702
    report = database.verified()
    assert (report.finding, report.pruned, report.root) == (None, 646, trail_log.tree(local).root())


# ── Connections and what is said of them ────────────────────────────────────────────────────────────────────────────
CANARY = "c4n4ry-p4ssw0rd"


def said(conninfo: str) -> str:
    """All that can be seen of an error, its traceback too."""
    with pytest.raises(FlowauditError) as error:
        postgres.PostgresLog(conninfo).origins()
    return str(error.value) + "".join(traceback.format_exception(error.value)) + repr(error.value)


def test_a_wrong_password_is_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    socket = f"host={server.directory} dbname=postgres user=mallory"
    quoted = str(server.directory).replace("/", "%2F")
    shown = [
        said(f"{socket} password={CANARY}"),
        said(f"postgresql://mallory:{CANARY}@/postgres?host={quoted}"),
        said(f"postgresql://mallory:{CANARY}%zz@/postgres?host={quoted}"),
        said(f"postgresql://mallory:{CANARY}@localhost:port/postgres"),
        said(f"{socket} {CANARY} password=x"),
        said(f"{socket} pasword={CANARY}"),
        said(f"{socket} password={CANARY} dbname=no_{CANARY}"),
    ]
    monkeypatch.setenv("PGPASSWORD", CANARY)
    shown.append(said(socket))
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "passfile"
    passfile.write_text(f"*:*:*:mallory:{CANARY}\n")
    passfile.chmod(0o600)
    shown.append(said(f"{socket} passfile={passfile}"))
    services = tmp_path / "services"
    services.write_text(
        f"[trail]\nhost={server.directory}\ndbname=postgres\nuser=mallory\npassword={CANARY}\n"
        f"[good]\nhost={server.directory}\ndbname=postgres\nuser=mallory\npassword=not-the-canary\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    shown.append(said("trail"))
    assert [message for message in shown if CANARY in message] == []
    assert all("password authentication failed" in shown[place] for place in (0, 1, 7, 8, 9))
    assert shown[9].startswith("The shared trail (service trail) cannot be used")
    # The right one from the service.
    with server.connect() as connection:
        connection.execute("GRANT trail_auditor TO mallory")
    with postgres.connected("good") as shared:
        assert shared.origins() == []


def test_a_server_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(postgres.Unavailable, match=r"^The shared trail \(.*/trail\) cannot be used: .*No such file"):
        postgres.PostgresLog(f"host={tmp_path} dbname=trail").origins()


def test_a_database_without_or_with_another_schema(server: Server, database: Database) -> None:
    with server.connect() as connection:
        connection.execute("CREATE DATABASE empty")
    with pytest.raises(FlowauditError, match=r"/empty\) has no trail; the playbook flowaudit.ops.trail_database"):
        postgres.PostgresLog(server.conninfo(database="empty")).origins()
    with database.connect() as connection:
        connection.execute("UPDATE trail.meta SET value = '2' WHERE key = 'schema'")
    with pytest.raises(FlowauditError, match="has the trail's schema 2, this version of the collection knows 1"):
        postgres.PostgresLog(database.conninfo()).origins()
    # Nor does an older file touch it.
    with database.connect() as connection, pytest.raises(psycopg.Error, match="has the schema 2"):
        connection.execute(t.cast("t.LiteralString", SCHEMA.read_text()))


def test_another_error_of_the_server_is_told(database: Database) -> None:
    with (
        contextlib.closing(database.log(origin="a\0b")) as shared,
        pytest.raises(FlowauditError, match=r"cannot be used: .*NUL") as error,
    ):
        shared.size()
    assert not isinstance(error.value, postgres.Unavailable)


def test_a_database_of_another_encoding_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with (
        server.connect(database="latin") as connection,
        pytest.raises(psycopg.Error, match="needs a database with the encoding UTF8, latin has LATIN1"),
    ):
        connection.execute(t.cast("t.LiteralString", SCHEMA.read_text()))


# ── The role ────────────────────────────────────────────────────────────────────────────────────────────────────────
WRITER, AUDITOR = "c4n4ry-0f-c0ntr0l-1", "c4n4ry-0f-r3v1s10n"


@dataclasses.dataclass
class Store:
    """The role ``trail_database``, given to a server that is there already."""

    server: Server
    directory: pathlib.Path
    variables: dict[str, t.Any]

    def play(self, *words: str, playbook: t.Any = None, rc: int = 0, **variables: t.Any) -> str:
        play = {"hosts": "trail_database", "gather_facts": False, "roles": ["flowaudit.ops.trail_database"]}
        (self.directory / "play.yml").write_text(yaml.safe_dump(playbook or [play]))
        (self.directory / "variables.yml").write_text(yaml.safe_dump(self.variables | variables))
        (self.directory / "inventory.yml").write_text(
            yaml.safe_dump(
                {
                    "trail_database": {"hosts": {"store": {"ansible_connection": "local"}}},
                    "nuc": {"hosts": {"portal": {"ansible_host": "192.0.2.9"}}},
                    "all": {"vars": {"ansible_python_interpreter": sys.executable}},
                }
            )
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "FLOWAUDIT_", "PG"))}
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), "-i", "inventory.yml", "play.yml", "-e", "@variables.yml", *words],
            cwd=self.directory,
            env=kept
            | {
                "ANSIBLE_COLLECTIONS_PATH": str(BIN.parent / "collections"),
                "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PIPELINING": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        assert done.returncode == rc, done.stdout[-1500:]
        assert "c4n4ry" not in done.stdout
        return done.stdout

    def changed(self, *words: str, **variables: t.Any) -> int:
        output = self.play(*words, **variables)
        return int(output.rpartition("changed=")[2].split()[0])

    def conninfo(self, user: str, **more: t.Any) -> str:
        """From elsewhere, as a control node comes."""
        given = {
            "host": "localhost",
            "hostaddr": "127.0.0.1",
            "port": self.server.port,
            "dbname": "flowaudit_trail",
            "user": user,
            "sslmode": "verify-full",
            "sslrootcert": self.directory / "ca.crt",
        }
        return psycopg.conninfo.make_conninfo("", **{key: str(value) for key, value in (given | more).items()})


def certificate(directory: pathlib.Path, name: str, subject: str, *options: str, kind: str = "ec") -> None:
    files = ["-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.crt")]
    curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else []
    key = ["-newkey", kind, *curve, "-nodes", "-days", "2", "-subj", f"/CN={subject}"]
    subprocess.run(["openssl", "req", "-x509", *key, *files, *options], check=True, capture_output=True)


def outdated(directory: pathlib.Path) -> None:
    """A certificate of last year; openssl makes none."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=365)
    made = x509.CertificateBuilder(name, name, private.public_key(), 1, then, then + datetime.timedelta(days=90))
    pem = serialization.Encoding.PEM
    (directory / "old.crt").write_bytes(made.sign(private, hashes.SHA256()).public_bytes(pem))
    (directory / "old.key").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Store]:
    if os.geteuid() != 0:
        pytest.fail("The role writes a server's configuration as root.")
    directory = tmp_path_factory.mktemp("store")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificate(directory, "ca", "CA")
    signed = ["-CA", str(directory / "ca.crt"), "-CAkey", str(directory / "ca.key")]
    certificate(directory, "server", "store", *signed, "-addext", "subjectAltName=DNS:localhost")
    certificate(directory, "control_2", "control_2", *signed)
    certificate(directory, "modern", "store", kind="ed25519")
    outdated(directory)
    variables = {
        "trail_database_install": False,
        "trail_database_configure": True,
        "trail_database_listen_addresses": ["127.0.0.1"],
        "trail_database_login_port": port,
        "trail_database_writers": ["control_1", "control_2"],
        "trail_database_auditors": ["revision"],
        "trail_database_secrets": {"control_1": WRITER, "revision": AUDITOR},
        "trail_database_networks": ["127.0.0.1"],
        "trail_database_certificate_file": str(directory / "server.crt"),
        "trail_database_key_file": str(directory / "server.key"),
        "trail_database_client_ca_file": str(directory / "ca.crt"),
    }
    with running(port, "127.0.0.1") as made:
        variables["trail_database_configuration_directory"] = str(made.data)
        variables["trail_database_login_unix_socket"] = str(made.directory)
        yield Store(made, directory, variables)


def test_the_role_says_what_it_would_do(store: Store) -> None:
    assert store.changed("--check", "--diff") > 0
    assert not (store.server.data / "flowaudit-trail.crt").exists()
    with store.server.connect() as connection:
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = 'flowaudit_trail'").fetchall() == []


@pytest.fixture(scope="module")
def provisioned(store: Store) -> Store:
    assert store.changed() > 0
    return store


def test_the_role_changes_nothing_twice(provisioned: Store) -> None:
    assert provisioned.changed() == 0


@pytest.mark.campaign
def test_a_check_of_what_is_there_finds_nothing(provisioned: Store) -> None:
    assert provisioned.changed("--check", "--diff") == 0


def test_a_control_node_ships_over_tls_and_an_auditor_verifies(provisioned: Store, local: LOG) -> None:
    grow(local, 300)
    with postgres.connected(provisioned.conninfo("control_1", password=WRITER)) as shared:
        assert shared.ship(local) == postgres.Shipped(301, 301, 301)
    with postgres.connected(provisioned.conninfo("revision", password=AUDITOR), local.origin) as shared:
        report = verify.verify(
            local.origin, shared.rows(), [], [verify.Anchor("pg", note) for note in shared.checkpoints()]
        )
    assert (report.finding, report.size, report.anchored_size) == (None, 301, 301)


def test_a_login_without_a_password_comes_with_its_certificate(provisioned: Store, local: LOG) -> None:
    directory = provisioned.directory
    shown = {"sslcert": directory / "control_2.crt", "sslkey": directory / "control_2.key"}
    with postgres.connected(provisioned.conninfo("control_2", **shown)) as shared:
        assert shared.ship(local).size == 1
    for user, more in [
        ("control_2", {"password": WRITER}),  # no certificate
        ("control_1", shown),  # another's certificate, no password
        ("control_1", {"password": AUDITOR}),
        ("control_1", {"password": WRITER, "sslmode": "disable", "sslrootcert": ""}),
        ("postgres", {"password": WRITER}),  # not listed
    ]:
        with pytest.raises(postgres.Unavailable):
            postgres.PostgresLog(provisioned.conninfo(user, **more)).origins()


CHANGED_BY_HAND = """
ALTER TABLE trail.entries DISABLE TRIGGER stay;
GRANT INSERT ON trail.checkpoints TO trail_writer;
GRANT SELECT (note) ON trail.checkpoints TO PUBLIC;
CREATE OR REPLACE FUNCTION trail.hold(p_origin text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
ALTER TABLE trail.logs DISABLE ROW LEVEL SECURITY;
"""
GIVEN_BY_HAND = """
CREATE ROLE helper LOGIN;
GRANT trail_owner TO helper;
GRANT UPDATE ON trail.entries TO helper;
GRANT SELECT (note) ON trail.checkpoints TO helper;
GRANT EXECUTE ON FUNCTION trail.append TO helper;
GRANT USAGE ON SCHEMA trail TO helper;
CREATE POLICY mine ON trail.logs USING (true);
CREATE TRIGGER mine BEFORE INSERT ON trail.entries EXECUTE FUNCTION trail.refuse();
"""


@pytest.mark.campaign
def test_what_somebody_has_changed_is_put_right_or_named(provisioned: Store) -> None:
    """What the schema says is put right; what it does not speak of is named, for somebody to look into."""
    fingerprint = t.cast("t.LiteralString", (SCHEMA.parent / "fingerprint.sql").read_text())
    with provisioned.server.connect(database="flowaudit_trail") as connection:
        before = connection.execute(fingerprint).fetchall()
        connection.execute(CHANGED_BY_HAND)
        connection.execute(GIVEN_BY_HAND)
        connection.execute("ALTER ROLE control_1 CREATEROLE")
        connection.execute("UPDATE trail.meta SET value = '1' WHERE key = 'keep_days'")
        assert connection.execute(fingerprint).fetchall() != before
    output = " ".join(provisioned.play(rc=2).split())
    for problem in [
        "helper has UPDATE on trail.entries",
        "helper has SELECT on a column of trail.checkpoints",
        "helper may call trail.append(",
        "helper has USAGE on the schema trail",
        "helper is a member of trail_owner",
        "the table trail.logs has the policy mine",
        "the trigger mine of trail.entries is off",
        "the table trail.entries has the trigger mine",
    ]:
        assert problem in output
    assert "trail_writer has" not in output
    assert "stay" not in output
    with provisioned.server.connect(database="flowaudit_trail") as connection:
        connection.execute("DROP TRIGGER mine ON trail.entries")
        connection.execute("DROP POLICY mine ON trail.logs")
        connection.execute("DROP OWNED BY helper")
        connection.execute("DROP ROLE helper")
        assert connection.execute(fingerprint).fetchall() == before
        problems = t.cast("t.LiteralString", (SCHEMA.parent / "verify.sql").read_text())
        assert connection.execute(problems).fetchall() == []
        assert connection.execute("SELECT value FROM trail.meta WHERE key = 'keep_days'").fetchall() == [("365",)]
        rights = connection.execute("SELECT rolcreaterole FROM pg_roles WHERE rolname = 'control_1'").fetchall()
        assert rights == [(False,)]


@pytest.mark.campaign
def test_who_is_no_longer_listed_has_no_rights(provisioned: Store) -> None:
    open_already = postgres.PostgresLog(provisioned.conninfo("control_1", password=WRITER))
    open_already.origins()
    fewer = {"trail_database_writers": [], "trail_database_auditors": [], "trail_database_secrets": {}}
    assert provisioned.changed(**fewer, trail_database_networks=[]) > 0
    with pytest.raises(FlowauditError, match="permission denied"):
        open_already.origins()
    open_already.close()
    with pytest.raises(postgres.Unavailable):
        postgres.PostgresLog(provisioned.conninfo("control_1", password=WRITER)).origins()
    assert provisioned.changed() > 0
    with postgres.connected(provisioned.conninfo("control_1", password=WRITER)) as shared:
        assert len(shared.origins()) == 1


@pytest.mark.campaign
def test_a_configuration_that_the_server_does_not_take_is_not_loaded(provisioned: Store) -> None:
    access = provisioned.server.data / "pg_hba.conf"
    before = access.read_text()
    access.write_text(before + "nonsense\n")
    try:
        output = provisioned.play(rc=2)
    finally:
        access.write_text(before)
    assert 'does not take its configuration: invalid connection type "nonsense"' in " ".join(output.split())
    assert provisioned.changed() == 1  # the file is newer than what is loaded


def test_a_check_of_a_fresh_machine(store: Store) -> None:
    play = {"hosts": "trail_database", "gather_subset": ["!all", "!min", "distribution"]}
    fresh = {
        "trail_database_install": True,
        "trail_database_cluster": "not_there",
        "trail_database_configuration_directory": "",
        "trail_database_login_unix_socket": "/nowhere",
    }
    output = store.play("--check", "--diff", playbook=[{**play, "roles": ["flowaudit.ops.trail_database"]}], **fresh)
    assert "failed=0" in output


REFUSED: list[tuple[dict[str, t.Any], str]] = [
    ({"trail_database_recorded_hosts": ["portal", "store"]}, "store is store, which the trail records"),
    ({"ansible_host": "192.0.2.9"}, "store is portal, which the trail records"),
    ({"trail_database_writers": ["Control-1"]}, '"Control-1", which is no name'),
    ({"trail_database_writers": ["control_1", "revision"]}, '"revision", which is no name for a login of its own'),
    ({"trail_database_writers": ["postgres"]}, '"postgres", which is no name'),
    ({"trail_database_auditors": ["all"]}, '"all", which is no name'),
    ({"trail_database_secrets": {"contro_1": WRITER}}, "a password for contro_1, who is neither"),
    (
        {"trail_database_secrets": {"control_1": "short", "revision": 5}},
        "fewer than 16 characters for control_1, revision;",
    ),
    ({"trail_database_networks": ["192.0.2.1/24", "office"]}, "has 192.0.2.1/24, office, which is no network"),
    ({"trail_database_secrets": {}, "trail_database_client_ca_file": ""}, "but no login has a password"),
    ({"trail_database_key_file": ""}, "trail_database_certificate_file and trail_database_key_file go together"),
    (
        {"trail_database_certificate_file": "<files>/ca.crt"},
        "server.key belongs to another certificate than the one",
    ),
    ({"trail_database_certificate_file": "<files>/server.key"}, "server.key holds no certificate in PEM"),
    ({"trail_database_key_file": "<files>/server.crt"}, "server.crt holds no key in PEM, or one with a passphrase"),
    (
        {"trail_database_certificate_file": "<files>/modern.crt", "trail_database_key_file": "<files>/modern.key"},
        "modern.crt is signed with ED25519, to which libpq cannot bind a password",
    ),
    (
        {"trail_database_certificate_file": "<files>/old.crt", "trail_database_key_file": "<files>/old.key"},
        "old.crt has expired; order a new one",
    ),
    ({"trail_database_client_ca_file": "/nowhere/ca.crt"}, "/nowhere/ca.crt is no file on the control node"),
    ({"trail_database_keep_days": -1}, "trail_database_keep_days is -1"),
    ({"trail_database_login_user": "helpless"}, "helpless is no superuser of the server"),
    (
        {
            "trail_database_install": True,
            "ansible_facts": {
                "distribution": "Debian",
                "distribution_version": "11.9",
                "distribution_major_version": "11",
            },
        },
        "store runs Debian 11.9, which is not supported",
    ),
]


def test_the_preflight_refuses_in_one_sentence(store: Store) -> None:
    """All in one run, each with its own variables."""
    with store.server.connect() as connection:
        connection.execute("CREATE ROLE helpless LOGIN")
    tasks = [
        {
            "block": [
                {
                    "include_role": {"name": "flowaudit.ops.trail_database", "tasks_from": "preflight"},
                    "vars": json.loads(json.dumps(wrong).replace("<files>", str(store.directory))),
                },
                {"debug": {"msg": f"case {number} was taken"}},
            ],
            "rescue": [{"debug": {"msg": f"case {number}: {{{{ ansible_failed_result.msg }}}}"}}],
        }
        for number, (wrong, _message) in enumerate(REFUSED)
    ]
    play = {"hosts": "trail_database", "gather_facts": False, "tasks": tasks, "vars": store.variables}
    bare = Store(store.server, store.directory, {"nothing": True})
    said = " ".join(bare.play(playbook=[play]).replace('\\"', '"').split())
    assert [message for number, (_wrong, message) in enumerate(REFUSED) if f"case {number} was taken" in said] == []
    assert [message for _wrong, message in REFUSED if message not in said] == []
