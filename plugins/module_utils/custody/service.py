# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The custody service: accepts connections, a thread each.

flowaudit-custody serve               started by systemd, with the socket it listens on
flowaudit-custody watch               started by systemd: who logs in to the hosts, and what must not wait
flowaudit-custody status              what the hosts have to trust, and whom this control node believes
flowaudit-custody adopt INVENTORY     take policy and signers of an inventory as they are (root, once)
flowaudit-custody seal INVENTORY      print a credential for the safe (root)
flowaudit-custody anchor | reviews    what timers do
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import json
import os
import pathlib
import select
import signal
import socket
import sys
import threading
import time
import typing as t
from collections.abc import Sequence

from ..errors import FlowauditError
from . import certificate, client, duties, protocol, seal, settings, watch
from .session import Desk, Session

CONFIGURATION = pathlib.Path("/etc/flowaudit/custody.yml")
SOCKET = pathlib.Path("/run/flowaudit/custody.sock")
_FIRST = 3  # the first descriptor that systemd hands over, sd_listen_fds(3)
_CONNECTIONS = 128
_OF_ONE = 32  # of one account
_PATIENCE = 30.0  # seconds for a message that has begun


class Service:
    """Serves until it is told to stop."""

    def __init__(self, desk: Desk, listener: socket.socket) -> None:
        self._desk = desk
        self._listener = listener
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        self._places: collections.Counter[int] = collections.Counter()  # by account
        self._counting = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def stop(self) -> None:
        """Take no more connections, end those there are; safe in a signal handler."""
        # Every thread waits for this beside its connection.
        os.write(self._woken, b"x")

    def serve(self) -> None:
        """Accept connections until ``stop``."""
        while self._readable(self._listener):
            try:
                connection, _address = self._listener.accept()
            except OSError as error:
                _say(f"A connection could not be taken: {error.strerror}", sys.stderr)
                time.sleep(0.1)
                continue
            peer = protocol.Peer.of(connection)
            if not self._takes(peer.uid):
                with connection, contextlib.suppress(FlowauditError):
                    connection.settimeout(1.0)
                    protocol.send(connection, _error("The custody service has no place for one more run; try again."))
                continue
            thread = threading.Thread(target=self._attend, args=(connection, peer), daemon=True)
            self._threads.add(thread)
            thread.start()
        for thread in list(self._threads):
            thread.join(_PATIENCE)

    def _takes(self, uid: int) -> bool:
        """Whether there is a place for one more connection of an account; root always has one."""
        with self._counting:
            if uid != 0 and (self._places[uid] >= _OF_ONE or self._places.total() >= _CONNECTIONS):
                return False
            self._places[uid] += 1
        return True

    def _readable(self, source: socket.socket, seconds: float | None = None) -> bool:
        """Wait for something to read; false when it is time to stop, or when nothing came for so many seconds."""
        ready, _write, _error = select.select([source.fileno(), self._wake], [], [], seconds)
        return bool(ready) and self._wake not in ready

    def _attend(self, connection: socket.socket, peer: protocol.Peer) -> None:
        try:
            with connection, self._desk.log() as log:
                session = Session(self._desk, peer, log)
                try:
                    # Waiting for the next message of a run takes as long as a task.
                    while self._readable(connection, _PATIENCE if session.idle else None):
                        if not self._exchange(connection, session):
                            break
                finally:
                    session.lost()
        except FlowauditError as error:
            _say(f"A connection ended: {error}", sys.stderr)
        finally:
            with self._counting:
                self._places[peer.uid] -= 1
            self._threads.discard(threading.current_thread())

    def _exchange(self, connection: socket.socket, session: Session) -> bool:
        """Answer a message; false when there are no more."""
        message = protocol.receive(connection, _PATIENCE)
        if message is None:
            return False
        try:
            answer = session.answer(message)
        except protocol.Refused as refused:
            answer = {"refused": str(refused), "refusals": [list(item) for item in refused.refusals]}
        except FlowauditError as error:
            answer = _error(str(error))
        except Exception as error:  # a fault of ours ends one run, not the service
            _say(f"A fault: {type(error).__name__}: {error}", sys.stderr)
            answer = _error(f"The custody service failed ({type(error).__name__}); its journal has more.")
        connection.settimeout(_PATIENCE)
        try:
            protocol.send(connection, answer)
        except FlowauditError as error:
            protocol.send(connection, _error(str(error)))
        return True


def _say(line: str, stream: t.TextIO | None = None) -> None:
    """This is a program: systemd's journal has what it says."""
    stream = stream or sys.stdout
    stream.write(f"{line}\n")
    stream.flush()


def _error(message: str) -> protocol.Message:
    return {"error": message}


def _listener() -> socket.socket:
    """The socket that systemd listens on for this service."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise FlowauditError("The custody service is started by systemd: systemctl start flowaudit-custody.socket.")
    return socket.socket(fileno=_FIRST)


def serve(configuration: pathlib.Path, listener: socket.socket) -> None:
    """Serve until SIGTERM."""
    os.umask(0o077)
    known = settings.load(configuration)
    known.directory.joinpath("ca").mkdir(mode=0o700, exist_ok=True)
    for name in known.inventories:
        if not known.authority(name).exists():
            certificate.Authority.generate(known.authority(name))
    service = Service(Desk(known), listener)
    signal.signal(signal.SIGTERM, lambda _number, _frame: service.stop())
    service.serve()


def main(words: Sequence[str] | None = None) -> int:
    """The command ``flowaudit-custody``; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="flowaudit-custody", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configuration", type=pathlib.Path, default=CONFIGURATION)
    parser.add_argument("--socket", type=pathlib.Path, default=SOCKET)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("serve", "watch", "status", "anchor", "reviews"):
        actions.add_parser(name)
    adopting = actions.add_parser("adopt")
    adopting.add_argument("inventory")
    adopting.add_argument("--digest", default="", help="what status shows as terms; others are refused")
    sealing = actions.add_parser("seal")
    sealing.add_argument("inventory")
    sealing.add_argument("--account", required=True, help="account of the hosts that certificates open")
    sealing.add_argument("--days", type=int, default=366, help="how long it is valid (366)")
    sealing.add_argument("--language", choices=["en", "de"], default="en")
    given = parser.parse_args(words)
    try:
        return _ACTIONS[given.action](given)
    except FlowauditError as error:
        _say(str(error), sys.stderr)
        return 1


def _serve(given: argparse.Namespace) -> int:
    serve(given.configuration, _listener())
    return 0


def _ask(given: argparse.Namespace, message: protocol.Message) -> protocol.Message:
    with contextlib.closing(client.Custody(str(given.socket))) as custody:
        return custody.ask(message)


def _status(given: argparse.Namespace) -> int:
    _say(json.dumps(_ask(given, {"do": "status"}), indent=2))
    return 0


def _adopt(given: argparse.Namespace) -> int:
    digest = given.digest.removeprefix("sha256:")
    answer = _ask(given, {"do": "adopt", "inventory": given.inventory, "digest": digest})
    _say(f"{'adopted' if answer['changed'] else 'unchanged'} sha256:{answer['digest']}")
    return 0


def _seal(given: argparse.Namespace) -> int:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    hosts = settings.load(given.configuration).inventories
    private, words = ed25519.Ed25519PrivateKey.generate(), seal.passphrase()
    key = seal.encrypted(private, words)  # before it is on the record: it may not be possible here
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    wish = {"do": "seal", "inventory": given.inventory, "public_key": public.decode("ascii"), "days": given.days}
    told = _ask(given, wish)
    sealed = seal.Sealed(
        given.inventory,
        told["seal"],
        told["until"],
        given.account,
        hosts[given.inventory].hosts,
        key,
        told["certificate"],
        words,
    )
    _say(seal.sheets(sealed, given.language))
    if not sealed.hosts:
        _say("No host of this inventory is watched: nobody will be told that it was used.", sys.stderr)
    principal = certificate.seal_principal(told["seal"])
    _say(f"Printed once, kept nowhere. The hosts let it in with host_access_break_glass: [{principal}].", sys.stderr)
    return 0


def _watch(given: argparse.Namespace) -> int:
    os.umask(0o077)
    watcher = watch.Watch(settings.load(given.configuration), _say)
    signal.signal(signal.SIGTERM, lambda _number, _frame: watcher.stop())
    watcher.run()
    return 0


def _anchor(given: argparse.Namespace) -> int:
    outcomes = duties.anchor(settings.load(given.configuration))
    for outcome in outcomes:
        _say(f"{outcome.keeper}: {outcome.detail}")
    return 0 if all(outcome.kept for outcome in outcomes) else 1


def _reviews(given: argparse.Namespace) -> int:
    found = duties.overdue(settings.load(given.configuration), datetime.datetime.now(datetime.UTC))
    for name, changes in found.items():
        _say(f"{name}: {', '.join(changes)} ran as an emergency and has not been reviewed in time.")
    return 1 if found else 0


_ACTIONS = {
    "serve": _serve,
    "watch": _watch,
    "status": _status,
    "adopt": _adopt,
    "seal": _seal,
    "anchor": _anchor,
    "reviews": _reviews,
}
