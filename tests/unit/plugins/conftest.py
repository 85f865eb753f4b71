# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a unit test of a plugin may touch: its own tmp_path and the loopback interface; all else ends the test."""

from __future__ import annotations

import ipaddress
import json
import os
import pathlib
import sys
import typing as t

import hypothesis
import hypothesis.configuration
import pytest
from ansible.module_utils.testing import patch_module_args

# Examples are drawn from a fixed seed and remembered nowhere, so two runs are the same and the checkout stays clean.
hypothesis.settings.register_profile("unit", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("unit")

_PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
)
_CHANGES = {"os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1, "os.truncate": 1}
_CHANGES |= {"os.chmod": 1, "os.chown": 1, "os.link": 2, "os.symlink": 2, "os.utime": 1}
_BELOW = ("os.remove", "os.rmdir")
_CONNECTIONS = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """Looks at Python's audit events (PEP 578) while a test runs."""

    def __init__(self) -> None:
        self.directory: pathlib.Path | None = None  # the test's own; none while no test runs
        self.hypothesis: pathlib.Path | None = None
        self.violations: list[str] = []

    def __call__(self, event: str, arguments: tuple[t.Any, ...]) -> None:
        if self.directory is None:
            return
        violation = self._violation(event, arguments)
        if violation:
            self.violations.append(violation)
            # No Exception, so no module takes it for a failure of its own.
            pytest.fail(f"A unit test must not {violation}.")

    def _violation(self, event: str, arguments: tuple[t.Any, ...]) -> str | None:
        if event in _PROCESSES:
            return f"start a process ({event} {arguments[0]!r})"
        if event in _CONNECTIONS and not self._is_near(arguments[1]):
            return f"reach {arguments[1]!r} ({event})"
        if event in _LOOKUPS and not self._is_loopback((arguments[0],)):
            return f"look up {arguments[0]!r}"
        if event == "open" and self._is_writing(*arguments[1:]) and not self._is_own(arguments[0]):
            return f"write {arguments[0]!r}"
        if event in _BELOW and arguments[1] >= 0:
            # A name in a directory that is open (shutil.rmtree).
            arguments = (os.path.join(os.readlink(f"/proc/self/fd/{arguments[1]}"), arguments[0]), *arguments[1:])
        if event in _CHANGES and not all(self._is_own(path) for path in arguments[: _CHANGES[event]]):
            return f"change {arguments[0]!r} ({event})"
        return None

    def _is_near(self, address: t.Any) -> bool:
        # A socket in the file system is a file like others.
        return self._is_own(address) if isinstance(address, str | bytes) else self._is_loopback(address)

    @staticmethod
    def _is_loopback(address: t.Any) -> bool:
        host = address[0] if isinstance(address, tuple) else address
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @staticmethod
    def _is_writing(mode: str | None, flags: int) -> bool:
        return bool(set(mode or "") & set("wax+")) or bool(flags & _WRITING)

    def _is_own(self, path: t.Any) -> bool:
        if isinstance(path, int):
            return True  # an open file; opening it was looked at
        place = pathlib.Path(os.path.realpath(os.fsdecode(path)))
        own = [directory for directory in (self.directory, self.hypothesis) if directory is not None]
        return any(place.is_relative_to(directory) for directory in own) or place == pathlib.Path(os.devnull)


_guard = Guard()
sys.addaudithook(_guard)


@pytest.fixture(scope="session", autouse=True)
def _hypothesis_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    _guard.hypothesis = pathlib.Path(os.path.realpath(tmp_path_factory.mktemp("hypothesis")))
    hypothesis.configuration.set_hypothesis_home_dir(_guard.hypothesis)


@pytest.fixture(autouse=True)
def guard(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Guard]:
    """Forbids processes, the network beyond loopback, and writing outside ``tmp_path``."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _guard.violations.clear()
    _guard.directory = pathlib.Path(os.path.realpath(tmp_path))
    yield _guard
    _guard.directory = None
    # One in another thread ended that thread only.
    assert _guard.violations == []


class RunModule(t.Protocol):
    def __call__(self, main: t.Callable[[], None], **arguments: t.Any) -> dict[str, t.Any]: ...


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module's ``main`` with arguments as Ansible hands them over, and take the result it prints."""

    def run(main: t.Callable[[], None], **arguments: t.Any) -> dict[str, t.Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit) as end:
            main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        assert end.value.code == (1 if result.get("failed") else 0)
        return result

    return run
