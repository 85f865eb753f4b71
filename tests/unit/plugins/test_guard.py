# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The guard of conftest.py guards."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import threading
import typing as t

import pytest


def _connect() -> None:
    with socket.socket() as sock:
        sock.connect(("192.0.2.1", 80))


def _send() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", ("192.0.2.1", 80))


def _listen(path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


FORBIDDEN: dict[str, t.Callable[[pathlib.Path], t.Any]] = {
    "start a process": lambda outside: subprocess.run(["/bin/true"], check=False),
    "run a shell": lambda outside: os.system("true"),
    "reach another machine": lambda outside: _connect(),
    "send to another machine": lambda outside: _send(),
    "make a socket": lambda outside: _listen(outside / "socket"),
    "look up a name": lambda outside: socket.getaddrinfo("portal.example.org", 443),
    "write a file": lambda outside: (outside / "file").write_text(""),
    "open a file for writing": lambda outside: os.open(outside / "file", os.O_WRONLY | os.O_CREAT),
    "make a directory": lambda outside: (outside / "directory").mkdir(),
    "remove a file": lambda outside: (outside / "there").unlink(),
    "move a file out": lambda outside: (outside / "inside" / "there").rename(outside / "taken"),
    "change a mode": lambda outside: (outside / "there").chmod(0o600),
}


@pytest.mark.parametrize("deed", FORBIDDEN)
def test_what_is_forbidden_ends_the_test_and_is_not_done(
    deed: str, guard: t.Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for directory in (tmp_path, inside):
        (directory / "there").write_text("")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(guard, "directory", inside)
    with pytest.raises(pytest.fail.Exception, match="A unit test must not"):
        FORBIDDEN[deed](tmp_path)
    monkeypatch.undo()
    assert len(guard.violations) == 1
    guard.violations.clear()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_done_in_a_thread_is_remembered(guard: t.Any, tmp_path: pathlib.Path) -> None:
    def look_up() -> None:
        with pytest.raises(pytest.fail.Exception):
            socket.getaddrinfo("portal.example.org", 443)

    thread = threading.Thread(target=look_up)
    thread.start()
    thread.join()
    assert guard.violations == ["look up 'portal.example.org'"]
    guard.violations.clear()


def test_tmp_path_and_loopback_are_allowed(guard: t.Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("text")
    _listen(tmp_path / "socket")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
    assert guard.violations == []
