# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import base64
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import anchors, checkpoint, verify
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.anchors import timestamp, worm

ORIGIN = "control/trail/0123abcd"


def note(size: int, origin: str = ORIGIN) -> str:
    signature = base64.b64encode(bytes(68)).decode()
    return f"{checkpoint.Checkpoint(origin, size, bytes(32)).text()}\n— {ORIGIN} {signature}\n"


@pytest.fixture(autouse=True)
def no_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the test's user can remove again."""
    monkeypatch.setattr(worm, "_protect", lambda path: False)


@dataclasses.dataclass
class Told:
    """A keeper that does what the test says."""

    name: str
    deed: Callable[[str], str]

    def keep(self, signed: str) -> str:
        return self.deed(signed)


def fail(error: Exception) -> str:
    raise error


def test_nobody_is_told_when_the_settings_name_nobody() -> None:
    assert anchors.keepers(anchors.Settings()) == []
    assert anchors.keep_all([], note(1)) == []
    assert list(anchors.kept(anchors.Settings())) == []


def test_the_settings_name_the_keepers() -> None:
    settings = anchors.Settings(
        syslog="tls://log.example.org",
        worm_directory="/srv/worm",
        timestamp_url="https://tsa.example.org",
        timestamp_ca="/etc/tsa.pem",
        timestamp_directory="/var/lib/timestamps",
    )
    keepers = anchors.keepers(settings)
    assert [keeper.name for keeper in keepers] == ["syslog", "worm", "timestamp"]
    # They give up before they are given up.
    assert keepers[0].timeout == keepers[2].timeout == 9.0


def test_every_keeper_is_tried_whatever_happens_to_the_others() -> None:
    class Tagged(str):
        """As Ansible's strings."""

    outcomes = anchors.keep_all(
        [
            Told("one", lambda signed: fail(FlowauditError("It is down."))),
            Told("two", lambda signed: fail(ValueError("a fault"))),
            Told("three", lambda signed: Tagged(f"kept {len(signed)}")),
        ],
        "note",
    )
    assert outcomes == [
        anchors.Outcome("one", False, "It is down."),
        anchors.Outcome("two", False, "It failed: ValueError: a fault"),
        anchors.Outcome("three", True, "kept 4"),
    ]
    assert type(outcomes[2].detail) is str


def test_they_are_told_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=5)
    keepers = [Told(str(number), lambda signed: f"{together.wait() < 3}") for number in range(3)]
    assert [outcome.detail for outcome in anchors.keep_all(keepers, "note")] == ["True"] * 3


def test_one_that_hangs_is_left_behind() -> None:
    released = threading.Event()
    keepers = [Told("hangs", lambda signed: str(released.wait(10))), Told("quick", lambda signed: "here")]
    started = time.monotonic()
    outcomes = anchors.keep_all(keepers, "note", timeout=0.2)
    assert time.monotonic() - started < 2
    assert outcomes == [
        anchors.Outcome("hangs", False, "It did not answer within 0.2 seconds."),
        anchors.Outcome("quick", True, "here"),
    ]
    (left,) = [thread for thread in threading.enumerate() if thread.name == "flowaudit-anchor-hangs"]
    assert left.daemon  # the end of the process does not wait for it
    released.set()
    left.join()


def test_they_are_told_one_by_one_when_there_are_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    keepers = [Told(name, lambda signed, name=name: name) for name in ("one", "two")]
    assert [outcome.detail for outcome in anchors.keep_all(keepers, "note")] == ["one", "two"]


def test_what_is_kept_here_is_read_back(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept(directory: str, ca: str, origin: str, timeout: float) -> Iterator[verify.Anchor]:
        yield verify.Anchor(f"{directory} {ca} {origin} {timeout:g}", "token")

    monkeypatch.setattr(timestamp, "kept", kept)
    settings = anchors.Settings(worm_directory=str(tmp_path), timestamp_directory="d", timestamp_ca="c")
    assert anchors.keep_all(anchors.keepers(settings), note(3))[0].kept
    assert [anchor.note for anchor in anchors.kept(settings, ORIGIN)] == [note(3), "token"]
    assert list(anchors.kept(settings, "another")) == [verify.Anchor("d c another 10", "token")]


def test_the_file_of_a_syslog_server_is_read() -> None:
    line = anchors.syslog.message(note(3), 0, "host", 1).decode()
    assert list(anchors.from_syslog(["", line])) == [verify.Anchor("the syslog's line 2", note(3))]
    assert list(anchors.from_syslog([line], "another")) == []
