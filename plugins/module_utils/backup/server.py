# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The running PostgreSQL, as its backups see it: by psql in its container, as the superuser of its socket."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import time
from collections.abc import Sequence

from ..engine import Result
from ..errors import FlowauditError
from .restic import Runner

SLOT = "flowaudit_wal"
_TABLE = "flowaudit_heartbeat"
_SECONDS = 30.0
_SCHEMAS = "nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\\_%'"


@dataclasses.dataclass(frozen=True)
class Slot:
    """The replication slot that keeps the log until the receiver has it.

    Attributes:
        status: PostgreSQL's ``wal_status``: reserved, extended, unreserved, lost; empty without a slot.
        active: whether the receiver is connected.
        lag: bytes the receiver has not written to its disk yet.
        safe: bytes until the slot is lost; None without a limit.
    """

    status: str = ""
    active: bool = False
    lag: int = 0
    safe: int | None = None

    @property
    def lost(self) -> bool:
        return self.status in ("", "lost")


class Server:
    def __init__(self, run: Runner, container: str, heartbeat_database: str = "postgres") -> None:
        self._run = run
        self._container = container
        self._heartbeat = heartbeat_database

    def ask(self, question: str, database: str = "postgres", seconds: float = _SECONDS) -> list[list[str]]:
        """The rows of an answer; a missing value is an empty text.

        Raises:
            FlowauditError: the server does not answer, or refuses.
        """
        command = ["docker", "exec", self._container, "psql", "--username=postgres", f"--dbname={database}"]
        command += [
            "--no-psqlrc",
            "--quiet",
            "--csv",
            "--tuples-only",
            "--set=ON_ERROR_STOP=1",
            f"--command={question}",
        ]
        result: Result = self._run(command, seconds, {})
        if result.status != 0:
            raise FlowauditError(f"PostgreSQL in {self._container} does not answer: {result.said}")
        return list(csv.reader(io.StringIO(result.output)))

    def system_identifier(self) -> str:
        return self.ask("SELECT system_identifier FROM pg_control_system()")[0][0]

    def slot(self) -> Slot:
        rows = self.ask(
            "SELECT wal_status, active, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::bigint, safe_wal_size"
            f" FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        )
        if not rows:
            return Slot()
        status, active, lag, safe = rows[0]
        return Slot(status, active == "t", int(lag or 0), int(safe) if safe else None)

    def drop_slot(self) -> None:
        """Remove the slot, whoever still holds it."""
        self.ask(f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")
        self.ask(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'")

    def has_segment(self, name: str) -> bool:
        """Whether a segment is still in the server's own directory."""
        return bool(self.ask(f"SELECT 1 FROM pg_ls_waldir() WHERE name = '{name}'"))

    def beat(self) -> datetime.datetime:
        """Write the time into the database, so that the log goes on and what was restored can say how old it is."""
        rows = self.ask(
            f"CREATE TABLE IF NOT EXISTS {_TABLE}"
            " (one boolean PRIMARY KEY DEFAULT true CHECK (one), at timestamptz NOT NULL);"
            f" INSERT INTO {_TABLE} (at) VALUES (clock_timestamp())"
            " ON CONFLICT (one) DO UPDATE SET at = excluded.at RETURNING extract(epoch FROM at)",
            self._heartbeat,
        )
        return _moment(rows[-1][0])

    def heartbeat(self) -> datetime.datetime | None:
        """The last heartbeat this database knows; None when it has none."""
        if self.ask(f"SELECT to_regclass('{_TABLE}')", self._heartbeat) == [[""]]:
            return None
        rows = self.ask(f"SELECT extract(epoch FROM at) FROM {_TABLE}", self._heartbeat)
        return _moment(rows[0][0]) if rows else None

    def received(self, seconds: float) -> bool:
        """Whether the receiver has all that is committed now on its disk, within so many seconds."""
        lsn = self.ask("SELECT pg_current_wal_flush_lsn()")[0][0]
        question = (
            "SELECT count(*) FROM pg_stat_replication"
            f" WHERE application_name = 'pg_receivewal' AND flush_lsn >= '{lsn}'"
        )
        deadline = time.monotonic() + seconds
        while self.ask(question) == [["0"]]:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.2)
        return True

    def databases(self) -> list[str]:
        rows = self.ask("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1")
        return [name for (name,) in rows]

    def has_extension(self, name: str, database: str) -> bool:
        return bool(self.ask(f"SELECT 1 FROM pg_extension WHERE extname = '{name}'", database))

    def rows(self, database: str, seconds: float) -> dict[str, int]:
        """Table → its number of rows, of all tables people or programs made in a database."""
        tables = self.ask(
            "SELECT format('%I.%I', nspname, relname)"
            " FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            f" WHERE relkind IN ('r', 'm') AND {_SCHEMAS} AND relpersistence = 'p' ORDER BY 1",
            database,
        )
        if not tables:
            return {}
        counts = " UNION ALL ".join(f"SELECT {_literal(name)}, count(*) FROM {name}" for (name,) in tables)
        return {name: int(count) for name, count in self.ask(counts, database, seconds)}

    def all_rows(self, seconds: float, names: Sequence[str] = ()) -> dict[str, dict[str, int]]:
        """Database → table → rows."""
        return {name: self.rows(name, seconds) for name in names or self.databases()}


def _moment(epoch: str) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(float(epoch), datetime.UTC)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
