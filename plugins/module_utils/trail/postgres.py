# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shared trail in PostgreSQL: reads the logs there, and ships a log of SQLite to it.

SQLite is always first. What PostgreSQL lacks is sent whenever someone ships, so an outage loses nothing and blocks
nobody; what it has already it recognises, so sending twice, or by eight processes at once, doubles nothing. The schema
(roles/trail_database/files/trail.sql) decides what is taken: it hashes and chains each entry itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ..errors import FlowauditError
from . import merkle
from .commitment import Opening
from .entry import Row

if t.TYPE_CHECKING:
    import psycopg

    from .sqlite import SqliteLog

SCHEMA = 1
CONNECT_TIMEOUT = 5  # seconds
STATEMENT_TIMEOUT = 30  # seconds
BATCH = 500  # entries in one statement
_BATCH_BYTES = 4 << 20
_CHUNK = 2000  # rows read at once
_PRUNED_AT_ONCE = 20_000
_GRACE = 5  # seconds a server has to say itself that its time is over

# What libpq does when nobody says anything else: a server that is gone is noticed.
_DEFAULTS: dict[str, t.Any] = {
    "application_name": "flowaudit.ops trail",
    "client_encoding": "UTF8",
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * STATEMENT_TIMEOUT,
}
_SECRET = ("password", "sslpassword", "oauth_client_secret")

# The SQLSTATEs of trail.sql; their messages are sentences.
_OURS = "TR"
_FORK = "TR003"
_MOVED_ON = "TR005"
_NO_TABLE, _NO_RIGHT = "42P01", "42501"


class Unavailable(FlowauditError):
    """The server cannot be reached or has no time; the same may work later."""


class _Refused(FlowauditError):
    """trail.sql says no; ``state`` is the SQLSTATE."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


@dataclasses.dataclass(frozen=True)
class Shipped:
    """What shipping has come to."""

    entries: int  # by which the shared log has grown meanwhile
    size: int  # of the shared log
    witnessed: int  # entries of the last checkpoint that PostgreSQL has witnessed; 0 when there is none


class PostgresLog:
    """A log in the shared trail; it connects when it is used, and again after a connection was lost.

    Not for several threads at once.
    """

    def __init__(self, conninfo: str, origin: str = "", *, statement_timeout: float = STATEMENT_TIMEOUT) -> None:
        """Name the database and the log in it.

        Args:
            conninfo: a connection string or URI as libpq takes it, or the name of a service (pg_service.conf). The
                password belongs in the passfile (``~/.pgpass``) or the service, but is not shown from here either.
            origin: the log's name; none for the only one that this login sees.
            statement_timeout: seconds the server has for a statement.

        Raises:
            FlowauditError: it is no connection string, or psycopg 3 is missing.
        """
        self._psycopg = _import()
        self._parameters = _parameters(conninfo)
        self._origin = origin
        self._timeout = statement_timeout
        self._connection: psycopg.Connection[tuple[t.Any, ...]] | None = None

    @property
    def origin(self) -> str:
        """The log's name, and that of its key."""
        if not self._origin:
            there = self.origins()
            if len(there) != 1:
                names = f" ({', '.join(there)})" if there else ""
                raise FlowauditError(f"{_where(self._parameters)} has {len(there)} logs{names}; name the one you mean.")
            self._origin = there[0]
        return self._origin

    def origins(self) -> list[str]:
        """The logs that this login sees: an auditor all, a writer its own."""
        return [origin for (origin,) in self._ask("SELECT origin FROM trail.logs ORDER BY origin")]

    def size(self) -> int:
        """How many entries it has."""
        return self._last()[0]

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """See ``Reader.rows``."""
        stop = self.size() if stop is None else stop
        while start < stop:
            chunk = self._ask(
                "SELECT seq, convert_to(line, 'UTF8'), leaf FROM trail.entries"
                " WHERE origin = %s AND seq >= %s AND seq < %s ORDER BY seq LIMIT %s",
                (self.origin, start, stop, _CHUNK),
            )
            if not chunk:
                return
            for seq, line, leaf in chunk:
                yield Row(seq, line, leaf)
            start = chunk[-1][0] + 1

    def hashes(self, level: int, start: int, stop: int) -> list[bytes]:
        """See ``merkle.Stored``."""
        if level == 0:
            found = self._ask(
                "SELECT leaf FROM trail.entries WHERE origin = %s AND seq >= %s AND seq < %s ORDER BY seq",
                (self.origin, start, stop),
            )
        else:
            found = self._ask(
                "SELECT hash FROM trail.nodes WHERE origin = %s AND level = %s AND idx >= %s AND idx < %s ORDER BY idx",
                (self.origin, level, start, stop),
            )
        return [hashed for (hashed,) in found]

    def checkpoints(self) -> Iterator[str]:
        """The signed checkpoints that PostgreSQL has witnessed, the smallest first."""
        found = self._ask(
            "SELECT note FROM trail.checkpoints WHERE origin = %s ORDER BY size, witnessed_at", (self.origin,)
        )
        return iter([note for (note,) in found])

    def openings(self, commitments: Iterable[str]) -> dict[str, Opening]:
        """See ``Reader.openings``; for auditors, a writer may not read them back."""
        found = self._ask(
            "SELECT commitment, kind, salt, value FROM trail.openings WHERE origin = %s AND commitment = ANY (%s)",
            (self.origin, list(commitments)),
        )
        return {commitment: Opening(kind, salt, value) for commitment, kind, salt, value in found}

    def ship(self, local: SqliteLog, seconds: float | None = None) -> Shipped:
        """Send what PostgreSQL lacks of a log, and have its checkpoints witnessed.

        After ``seconds`` it leaves the rest to the next time. Any number of processes may ship the same log at once.

        Raises:
            Unavailable: the server cannot be reached; what it has stays, and the next time goes on from there.
            FlowauditError: the logs are not the same, or what is sent is refused.
        """
        if self._origin and self._origin != local.origin:
            raise FlowauditError(f"The log in {local.home.path} is {local.origin}, not {self._origin}.")
        self._origin = local.origin
        deadline = None if seconds is None else time.monotonic() + seconds
        begin = size = self._resume(local)
        stop = local.size()
        while size < stop and (deadline is None or time.monotonic() < deadline):
            size = self._send(local, size, stop)
        return Shipped(size - begin, size, self._witness(local, size))

    def erase(self, commitments: Iterable[str]) -> int:
        """Delete openings, for good; erasing again does nothing. Returns how many were there."""
        listed = list(commitments)
        erased = 0
        for place in range(0, len(listed), _CHUNK):
            erased += self._call("SELECT trail.erase(%s, %s)", (self.origin, listed[place : place + _CHUNK]))
        return erased

    def prune(self, before: int) -> int:
        """Delete the bytes of the entries before ``before`` that are not needed to verify the rest.

        Raises:
            FlowauditError: the shared trail has to keep one of them longer; those before it may be gone.
        """
        pruned = 0
        for start in range(0, before, _PRUNED_AT_ONCE):
            stop = min(start + _PRUNED_AT_ONCE, before)
            pruned += self._call("SELECT trail.prune(%s, %s, %s)", (self.origin, stop, start))
        return pruned

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ── shipping ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _resume(self, local: SqliteLog) -> int:
        """How many entries are there already, after a look whether they are those of the log."""
        size, leaf = self._last()
        # Asked for afterwards: the log here is never behind the shared one.
        here = local.size()
        if size > here:
            raise FlowauditError(
                f"{_where(self._parameters)} has {size} entries of the log {local.origin}, but {local.home.path} only"
                f" {here}: it was cut, or restored from an older backup. docs/runbooks/trail_rotate_key.md has what to"
                " do then."
            )
        if leaf is not None and _leaf(local, size - 1) != leaf:
            raise self._forked(local, size)
        return size

    def _last(self) -> tuple[int, bytes | None]:
        found = self._ask(
            "SELECT seq, leaf FROM trail.entries WHERE origin = %s ORDER BY seq DESC LIMIT 1", (self.origin,)
        )
        return (found[0][0] + 1, found[0][1]) if found else (0, None)

    def _forked(self, local: SqliteLog, size: int) -> FlowauditError:
        """The error that names the first of the entries that is another one; the last is known to be."""
        low, high = 0, size - 1
        while low < high:
            middle = (low + high) // 2
            there = self.hashes(0, middle, middle + 1)
            if [_leaf(local, middle)] == there:
                low = middle + 1
            else:
                high = middle
        return FlowauditError(
            f"Entry {low} of the log {local.origin} is another one in {local.home.path} than in"
            f" {_where(self._parameters)}: the log has forked. Find out which of the two was altered or restored before"
            " anything is recorded (flowaudit.ops.trail_verify)."
        )

    def _send(self, local: SqliteLog, start: int, stop: int) -> int:
        """Send one batch from ``start`` on; returns the size of the shared log."""
        lines: list[str | None] = []
        leaves: list[bytes] = []
        length = 0
        for row in local.rows(start, min(start + BATCH, stop)):
            lines.append(_checked(local, row, start + len(lines)))
            leaves.append(row.leaf)
            length += len(row.line or b"")
            if length >= _BATCH_BYTES:
                break
        if not lines:
            raise FlowauditError(f"Entry {start} is missing in {local.home.path} (flowaudit.ops.trail_verify).")
        # First, so that an entry that is there has its openings there: shipping goes on from the last entry.
        self._keep_openings(local, start, start + len(lines))
        try:
            # In binary (%b): as text, psycopg quotes a list character by character.
            return self._call(
                "SELECT trail.append(%s, %s, %b::text[], %b::bytea[])", (self.origin, start, lines, leaves)
            )
        except _Refused as error:
            if error.state != _FORK:
                raise
            # It went on with another process's entries meanwhile.
            size, _leaf_there = self._last()
            raise self._forked(local, min(size, local.size())) from None

    def _keep_openings(self, local: SqliteLog, start: int, stop: int) -> None:
        batch: list[tuple[t.Any, ...]] = []
        length = 0
        found = local.ask(
            "SELECT commitment, seq, kind, salt, value FROM openings WHERE seq >= ? AND seq < ?", (start, stop)
        )
        for place, item in enumerate(found):
            batch.append(item)
            length += len(item[4])
            if length >= _BATCH_BYTES or place == len(found) - 1:
                columns = [list(column) for column in zip(*batch, strict=True)]
                self._call(
                    "SELECT trail.keep_openings(%s, %b::text[], %b::bigint[], %b::text[], %b::bytea[], %b::bytea[])",
                    (self.origin, *columns),
                )
                batch, length = [], 0

    def _witness(self, local: SqliteLog, size: int) -> int:
        while True:
            with contextlib.suppress(_MovedOn):
                return self._witness_from_last(local, size)

    def _witness_from_last(self, local: SqliteLog, size: int) -> int:
        there = self._ask(
            "SELECT size, note FROM trail.checkpoints WHERE origin = %(origin)s"
            " AND size = (SELECT max(size) FROM trail.checkpoints WHERE origin = %(origin)s)",
            {"origin": self.origin},
        )
        last = there[0][0] if there else 0
        notes = {note for _size, note in there}
        for signed_size, note in local.ask(
            "SELECT size, note FROM checkpoints WHERE size >= ? AND size <= ? ORDER BY size", (max(last, 1), size)
        ):
            if note not in notes:
                proof = merkle.Tree(signed_size, local.hashes).consistency_proof(last)
                last = self._call("SELECT trail.witness(%s, %s, %s, %b::bytea[])", (self.origin, last, note, proof))
        return last

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────
    def _call(self, query: t.LiteralString, arguments: Sequence[t.Any]) -> int:
        ((number,),) = self._ask(query, arguments)
        return int(number)

    def _ask(
        self, query: t.LiteralString, arguments: Sequence[t.Any] | dict[str, t.Any] = ()
    ) -> list[tuple[t.Any, ...]]:
        with self._sentences():
            connection = self._connected()
            with _hanging_up(connection, self._timeout + _GRACE):
                return connection.execute(query, arguments, binary=True).fetchall()

    def _connected(self) -> psycopg.Connection[tuple[t.Any, ...]]:
        if self._connection is None or self._connection.closed:
            # No prepared statements: a pooler may give each statement another session.
            connection = self._psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
            try:
                with _hanging_up(connection, self._timeout + _GRACE):
                    self._begin(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _begin(self, connection: psycopg.Connection[tuple[t.Any, ...]]) -> None:
        # Read committed, so that what waits for another process sees what that has appended.
        row = connection.execute(
            "SELECT set_config('statement_timeout', %s, false),"
            " set_config('default_transaction_isolation', 'read committed', false),"
            " (SELECT value FROM trail.meta WHERE key = 'schema')",
            (str(int(self._timeout * 1000)),),
        ).fetchone()
        if row is None or row[2] != str(SCHEMA):
            raise FlowauditError(
                f"{_where(self._parameters)} has the trail's schema {row and row[2]}, this version of the collection"
                f" knows {SCHEMA}."
            )

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """What PostgreSQL says, as a sentence that says where and has no password in it."""
        try:
            yield
        except self._psycopg.Error as error:
            # Without the error as a cause, whose text may have what is taken out here.
            raise self._sentence(error) from None

    def _sentence(self, error: psycopg.Error) -> FlowauditError:
        state = error.sqlstate or ""
        said = error.diag.message_primary or str(error)
        where = _where(self._parameters)
        if state.startswith(_OURS):
            return (_MovedOn if state == _MOVED_ON else _Refused)(_scrubbed(said, self._parameters), state)
        if state == _NO_TABLE:
            text = f"{where} has no trail; the playbook flowaudit.ops.trail_database makes it."
        elif state == _NO_RIGHT:
            text = (
                f"{where} refuses this ({said}); the login must be one of trail_database_writers, or of"
                " trail_database_auditors to read."
            )
        else:
            text = f"{where} cannot be used: {said}"
        text = _scrubbed(text, self._parameters)
        return Unavailable(text) if isinstance(error, self._psycopg.OperationalError) else FlowauditError(text)


class _MovedOn(_Refused):
    """Another process has had a later checkpoint witnessed."""


@contextlib.contextmanager
def connected(conninfo: str, origin: str = "") -> Iterator[PostgresLog]:
    """A log of the shared trail, for a while."""
    log = PostgresLog(conninfo, origin)
    try:
        yield log
    finally:
        log.close()


def _import() -> t.Any:
    try:
        import psycopg
    except ImportError as error:
        raise FlowauditError(
            "The shared trail needs psycopg 3 on the control node: pip install 'psycopg[binary]'."
        ) from error
    return psycopg


def _parameters(conninfo: str) -> dict[str, t.Any]:
    """The parameters of a connection string or URI, or those for a service."""
    from psycopg import ProgrammingError
    from psycopg import conninfo as strings

    given = conninfo.strip()
    if given and "=" not in given and "://" not in given:
        given = strings.make_conninfo(service=given)
    try:
        parsed = strings.conninfo_to_dict(given)
    except ProgrammingError:
        # What libpq says quotes from the string, and a password may be in that.
        raise FlowauditError(
            "The connection string of the shared trail has not the form 'host=… dbname=… user=…',"
            " 'postgresql://…' or the name of a service."
        ) from None
    return {**_DEFAULTS, **parsed}


def _where(parameters: dict[str, t.Any]) -> str:
    """The database for people, without user and password."""
    place = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST", "")
    port = parameters.get("port")
    name = parameters.get("dbname")
    if not place and parameters.get("service"):
        return f"The shared trail (service {parameters['service']})"
    return f"The shared trail ({place or 'local'}{f':{port}' if port else ''}{f'/{name}' if name else ''})"


def _scrubbed(text: str, parameters: dict[str, t.Any]) -> str:
    """One line, without passwords."""
    secrets = [str(parameters[name]) for name in _SECRET if parameters.get(name)]
    secrets += [value for value in [os.environ.get("PGPASSWORD")] if value]
    for secret in secrets:
        text = text.replace(secret, "…")
    return " ".join(text.split())


@contextlib.contextmanager
def _hanging_up(connection: psycopg.Connection[t.Any], seconds: float) -> Iterator[None]:
    """End the connection when the server has not answered by then.

    It ends a statement in time itself, unless it, its disk or its machine stands still.
    """
    descriptor = connection.fileno()

    def hang_up() -> None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    # While Python ends, it starts no threads any more.
    with contextlib.suppress(RuntimeError):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _leaf(local: SqliteLog, seq: int) -> bytes | None:
    found = local.hashes(0, seq, seq + 1)
    return found[0] if found else None


def _checked(local: SqliteLog, row: Row, seq: int) -> str | None:
    """The line of a row that is sent; what was altered here must not become the truth there."""
    if row.seq != seq:
        raise FlowauditError(f"Entry {seq} is missing in {local.home.path} (flowaudit.ops.trail_verify).")
    if row.line is None:
        return None
    try:
        if merkle.leaf_hash(row.line) == row.leaf:
            return row.line.decode()
    except UnicodeDecodeError:
        pass
    raise FlowauditError(f"Entry {seq} in {local.home.path} was altered, and is not sent (flowaudit.ops.trail_verify).")
