# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Watches who logs in to the hosts: a thread for each, which reads what its sshd says as it says it.

A host runs one command for the service's certificates, ``flowaudit-logins`` (role host_access), whose lines are JSON
objects of ``journalctl --output=json``; an empty one says that it is there. Who becomes root on a host may silence it
from then on, but their own login was told before they had a shell.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import re
import select
import subprocess
import threading
import time
import typing as t

from ..change import programs
from ..errors import FlowauditError
from ..trail import entry
from ..trail.home import Home
from ..trail.sqlite import SELDOM, SqliteLog
from . import certificate, logins
from .alarm import Alarm
from .client import Credential
from .settings import Inventory, Settings, Target

ACCOUNT = "flowaudit-watch"
_VALIDITY = datetime.timedelta(minutes=5)  # it is looked at when a connection begins
_LINE = 64 * 1024  # bytes; journalctl leaves out what is longer than 4 KiB
_CURSOR = re.compile(r"[0-9a-z=;]{1,512}")  # as the host's command takes it
_AGAIN = 5.0  # seconds between two attempts to reach a host
_PATIENCE = 300.0  # seconds that a host may be out of reach, as when it restarts
_ALARMS = 2.0  # seconds between two looks for what is to be told
Say = t.Callable[[str], None]


class Watcher:
    """Watches one host until it is told to stop."""

    def __init__(self, settings: Settings, inventory: Inventory, name: str, say: Say) -> None:
        self._settings = settings
        self._inventory = inventory
        self._name = name
        self._target: Target = inventory.hosts[name]
        self._place = place(settings, inventory.name)
        self._say = say
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lost: float | None = time.monotonic()  # since when it is out of reach
        self._lost_at = entry.timestamp()
        self._reported = False

    def stop(self) -> None:
        """Stop soon."""
        self._stopped.set()
        process = self._process
        if process is not None:
            process.kill()

    def run(self) -> None:
        """Watch; what goes wrong is said, and tried again."""
        while not self._stopped.is_set():
            try:
                with contextlib.closing(SqliteLog(Home(self._settings.trail))) as log:
                    self._recall(log)
                    try:
                        self._follow(log)
                    finally:
                        self._miss(log)
            except FlowauditError as error:
                self._say(f"{self._name}: {error}")
            except Exception as error:  # a host may say anything, and must not end its watch with it
                self._say(f"{self._name}: {type(error).__name__}: {error}")
            self._stopped.wait(_AGAIN)

    def _follow(self, log: SqliteLog) -> None:
        authority = certificate.Authority.load(self._settings.authority(self._inventory.name))
        host = logins.Host(self._name, self._inventory.name, authority.fingerprint)
        with self._connected(authority) as process:
            output, errors = t.cast(t.IO[bytes], process.stdout), t.cast(t.IO[bytes], process.stderr)
            while line := output.readline(_LINE):
                self._found(log)
                self._take(log, host, line)
            said = errors.read().decode("utf-8", "replace").strip()
        if said and not self._stopped.is_set():
            self._say(f"{self._name}: {said.splitlines()[-1]}")

    def _take(self, log: SqliteLog, host: logins.Host, line: bytes) -> None:
        """A line of the host, which may be in anybody's hands."""
        try:
            told = json.loads(line)
            message, cursor = told.get("MESSAGE", ""), told.get("__CURSOR", "")
            at = datetime.datetime.fromtimestamp(int(told.get("__REALTIME_TIMESTAMP", 0)) / 1e6, datetime.UTC)
        except (ValueError, AttributeError, TypeError, OverflowError, OSError) as error:
            raise FlowauditError("It tells what is no line of a journal.") from error
        login = logins.read(message, at) if isinstance(message, str) else None
        found = logins.entry_of(log, host, login) if login is not None else None
        if found is not None:
            draft, opening = found
            log.append([draft], [opening])
        # After it is recorded: a login may be told twice, and is not forgotten.
        if isinstance(cursor, str) and _CURSOR.fullmatch(cursor):
            _write(self._place / f"{self._name}.cursor", cursor)

    def _recall(self, log: SqliteLog) -> None:
        """Know whether somebody was told that the host is out of reach, also by the service before this one."""
        kinds = (entry.HOST_UNWATCHED, entry.HOST_WATCHED)
        rows = log.ask(
            f"SELECT type FROM entries INDEXED BY entries_type WHERE {SELDOM} AND type IN (?, ?) AND host = ?"
            " AND json_extract(line, '$.inventory') = ? ORDER BY seq DESC LIMIT 1",
            (*kinds, self._name, self._inventory.name),
        )
        self._reported = bool(rows) and rows[0][0] == entry.HOST_UNWATCHED

    def _found(self, log: SqliteLog) -> None:
        self._lost = None
        if self._reported:
            self._reported = False
            log.append([self._draft(entry.HOST_WATCHED)])

    def _miss(self, log: SqliteLog) -> None:
        if self._lost is None:
            self._lost, self._lost_at = time.monotonic(), entry.timestamp()
        elif not self._reported and time.monotonic() - self._lost > _PATIENCE:
            self._reported = True
            log.append([{**self._draft(entry.HOST_UNWATCHED), "since": self._lost_at}])

    def _draft(self, kind: str) -> entry.Draft:
        return {"type": kind, "ts": entry.timestamp(), "inventory": self._inventory.name, "host": self._name}

    @contextlib.contextmanager
    def _connected(self, authority: certificate.Authority) -> t.Iterator[subprocess.Popen[bytes]]:
        credential = Credential()
        try:
            yield from self._followed(authority, credential)
        finally:
            credential.close()

    def _followed(
        self, authority: certificate.Authority, credential: Credential
    ) -> t.Iterator[subprocess.Popen[bytes]]:
        now = datetime.datetime.now(datetime.UTC)
        name = certificate.watch_id(self._inventory.name, self._name)
        principals = [certificate.watch_principal(self._name)]
        credential.certify(authority.certify(credential.public, principals, name, now, now + _VALIDITY))
        known_hosts = self._place / f"{self._name}.known_hosts"
        _write(known_hosts, f"{self._name} {self._target.key}")
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": credential.key_path,
            "CertificateFile": credential.certificate_path,
            "UserKnownHostsFile": str(known_hosts),
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlias": self._name,
            "ConnectTimeout": "10",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "3",
        }
        words = [word for option in options.items() for word in ("-o", "=".join(option))]
        address = ["-p", str(self._target.port), "-l", ACCOUNT, "--", self._target.address, self._cursor() or "begin"]
        process = subprocess.Popen(
            [programs.path("ssh"), "-F", "none", "-T", *words, *address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._process = process
        try:
            if self._stopped.is_set():
                process.kill()
            yield process
        finally:
            process.kill()
            process.communicate()

    def _cursor(self) -> str:
        """Where in the host's journal to go on; nothing when that is not known."""
        try:
            found = (self._place / f"{self._name}.cursor").read_text("utf-8").strip()
        except FileNotFoundError:
            return ""
        return found if _CURSOR.fullmatch(found) else ""


class Watch:
    """Watches all hosts of all inventories, and tells people what must not wait."""

    def __init__(self, settings: Settings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        self._watchers = [
            Watcher(settings, inventory, name, say)
            for inventory in settings.inventories.values()
            for name in inventory.hosts
        ]

    def stop(self) -> None:
        """Stop soon; safe in a signal handler."""
        # An event has a lock, which the interrupted thread may hold.
        os.write(self._woken, b"x")

    def run(self) -> None:
        """Watch until ``stop``.

        Raises:
            FlowauditError: there is nothing to watch, or no trail to record it in.
        """
        if not self._watchers:
            raise FlowauditError("No inventory in custody names hosts to watch.")
        for inventory in self._settings.inventories:
            place(self._settings, inventory).mkdir(mode=0o700, parents=True, exist_ok=True)
        alarm = Alarm(self._settings.alarm_url, self._settings.directory / "alarms")
        threads = [threading.Thread(target=watcher.run, daemon=True) for watcher in self._watchers]
        with contextlib.closing(SqliteLog(Home(self._settings.trail))) as log:
            for thread in threads:
                thread.start()
            while not select.select([self._wake], [], [], _ALARMS)[0]:
                try:
                    for line in alarm.deliver(log):
                        self._say(line)
                except (FlowauditError, OSError) as error:
                    self._say(str(error))
        for watcher in self._watchers:
            watcher.stop()
        for thread in threads:
            thread.join(10)


def place(settings: Settings, inventory: str) -> pathlib.Path:
    """Where is kept how far the hosts of an inventory were read."""
    return settings.directory / "watch" / inventory


def _write(path: pathlib.Path, content: str) -> None:
    made = path.with_name(f"{path.name}.new")
    made.write_text(f"{content}\n", "utf-8")
    made.replace(path)
