# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Messages over a socket."""

from __future__ import annotations

import errno
import os
import pathlib
import socket
import struct
import typing as t

import pytest
from hypothesis import given, strategies

from ansible_collections.flowaudit.ops.plugins.module_utils.custody import protocol
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.commitment import commit


@pytest.fixture
def pair() -> t.Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        for one in (here, there):
            one.settimeout(5)
        yield here, there


def test_a_message_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    message = {"do": "append", "drafts": [{"text": "ü\n", "number": 7, "none": None}], "openings": []}
    protocol.send(here, message)
    protocol.send(here, {})
    assert protocol.receive(there) == message
    assert protocol.receive(there) == {}
    here.close()
    assert protocol.receive(there) is None


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"\xff\xff\xff\xff", "is too large"),
        (b"\0\0", "in the middle of a message"),
        (b"\0\0\0\x05ab", "in the middle of a message"),
        (b"\0\0\0\x05", "in the middle of a message"),
        (b"\0\0\0\x05hello", "no line of JSON"),
        (b"\0\0\0\x02[]", "no JSON object"),
    ],
)
def test_what_is_no_message(pair: tuple[socket.socket, socket.socket], sent: bytes, sentence: str) -> None:
    here, there = pair
    here.sendall(sent)
    here.close()
    with pytest.raises(FlowauditError, match=sentence):
        protocol.receive(there)


@given(strategies.binary(max_size=64))
def test_whatever_is_sent_is_a_message_or_a_sentence(sent: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(struct.pack(">I", len(sent)) + sent)
        here.close()
        try:
            found = protocol.receive(there)
        except FlowauditError:
            return
        assert found is None or isinstance(found, dict)


def test_what_is_too_large_is_not_sent(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LARGEST", 10)
    with pytest.raises(FlowauditError, match="too large; 10 are taken"):
        protocol.send(pair[0], {"text": "x" * 20})


def test_one_who_does_not_read_or_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    here, there = pair
    here.settimeout(0.05)
    with pytest.raises(FlowauditError, match="does not answer"):
        protocol.receive(here)
    with pytest.raises(FlowauditError, match="does not read"):
        for _number in range(100):
            protocol.send(here, {"text": "x" * 100_000})
    there.close()
    with pytest.raises(FlowauditError, match="is gone"):
        protocol.send(here, {})


def test_who_is_at_the_other_end(pair: tuple[socket.socket, socket.socket]) -> None:
    peer = protocol.Peer.of(pair[1])
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())


class _Socket:
    """A connection of a kernel that knows its peer's process in one of several ways."""

    def __init__(self, pid: int, handle: int | OSError) -> None:
        self._pid, self._handle = pid, handle

    def getsockopt(self, _level: int, option: int, size: int = 0) -> t.Any:
        if option == socket.SO_PEERCRED:
            return struct.pack("3i", self._pid, 1000, 1000)
        if isinstance(self._handle, OSError):
            raise self._handle
        return self._handle


def test_who_logged_in_is_told_of_the_process_that_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pathlib.Path, "read_text", lambda *_words: "1001")

    def peer(handle: int | OSError) -> protocol.Peer:
        return protocol.Peer.of(t.cast(socket.socket, _Socket(os.getpid(), handle)))

    assert peer(os.pidfd_open(os.getpid())).login_uid == 1001
    assert peer(OSError(errno.ENOPROTOOPT, "old")).login_uid == 1001
    # It is gone, and its number may be another's.
    assert peer(OSError(errno.ESRCH, "gone")).login_uid is None
    ended, other = os.pipe()
    os.write(other, b"x")
    assert peer(ended).login_uid is None
    os.close(other)
    monkeypatch.setattr(pathlib.Path, "read_text", lambda *_words: str(2**32 - 1))
    assert peer(os.pidfd_open(os.getpid())).login_uid is None


def test_entries_and_openings_arrive_as_they_were() -> None:
    drafts, openings = [{"type": "event", "number": 1}], [commit("diff", b"\xff\0text"), commit("diff", b"")]
    assert protocol.read_entries(protocol.entries(drafts, openings)) == (drafts, openings)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"drafts": {}},
        {"drafts": [1]},
        {"drafts": [], "openings": [1]},
        {"drafts": [], "openings": [{"kind": "diff", "salt": "xy", "value": ""}]},
        {"drafts": [], "openings": [{"kind": "diff", "salt": "00", "value": "?"}]},
        {"drafts": [], "openings": [{"kind": 1, "salt": "00", "value": ""}]},
        {"drafts": [], "openings": 5},
    ],
)
def test_entries_of_another_form(message: dict[str, t.Any]) -> None:
    with pytest.raises(FlowauditError, match="has not the form"):
        protocol.read_entries(message)
