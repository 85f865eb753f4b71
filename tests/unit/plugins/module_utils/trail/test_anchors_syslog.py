# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import json
import pathlib
import re
import socket
import ssl
import struct
import threading
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import checkpoint
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.anchors import syslog
from ansible_collections.flowaudit.ops.tests.unit.plugins.servers import Authority, make_authority, server_context

ORIGIN = "control/trail/0123abcd"
SIGNATURE = base64.b64encode(bytes(68)).decode()


def note(origin: str = ORIGIN, size: int = 4711, root: bytes = bytes(range(32))) -> str:
    return f"{checkpoint.Checkpoint(origin, size, root).text()}\n— {ORIGIN} {SIGNATURE}\n"


# The message

# RFC 5424, 6.
GRAMMAR = re.compile(
    r"<(?P<priority>[1-9][0-9]{0,2}|0)>1"
    r" (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))"
    r" (?P<host>[!-~]{1,255})"
    r" (?P<application>[!-~]{1,48})"
    r" (?P<process>[!-~]{1,128})"
    r" (?P<kind>[!-~]{1,32})"
    r" \[(?P<id>[!#-<>-\\^-~]{1,32})(?P<data>(?: [!#-<>-\\^-~]{1,32}=\"(?:[^\"\\\]]|\\[\"\\\]])*\")*)\]"
    r" (?P<text>.*)",
    re.DOTALL,
)
PARAMETER = re.compile(r" ([^=]+)=\"((?:[^\"\\\]]|\\[\"\\\]])*)\"")

origins = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1) | st.text(
    '"\\]= [@a', min_size=1
)


@given(
    origin=origins,
    size=st.integers(0, 2**53 - 1),
    root=st.binary(min_size=32, max_size=32),
    moment=st.floats(0, 2**32),
    host=st.text(),
    process=st.integers(1, 2**22),
)
def test_a_message_is_one_of_rfc_5424_and_holds_the_checkpoint(
    origin: str, size: int, root: bytes, moment: float, host: str, process: int
) -> None:
    signed = note(origin, size, root)
    message = syslog.message(signed, moment, host, process).decode()
    match = GRAMMAR.fullmatch(message)
    assert match is not None
    assert match["priority"] == "109"  # log audit (13), notice (5)
    assert (match["application"], match["process"], match["kind"]) == ("flowaudit-trail", str(process), "checkpoint")
    assert match["id"] == "checkpoint@32473"
    data = {name: re.sub(r'\\(["\\\]])', r"\1", value) for name, value in PARAMETER.findall(match["data"])}
    assert data == {"origin": origin, "size": str(size), "root": base64.b64encode(root).decode()}
    assert match["text"].isascii()
    for line in (message, match["text"], json.dumps({"message": message}).replace("/", "\\/")):
        (anchor,) = syslog.read([line])
        assert anchor.note == signed
        assert list(syslog.read([line], origin)) == [anchor]
        assert list(syslog.read([line], origin + "x")) == []


def test_a_message_in_full() -> None:
    signed = note(size=7, root=bytes(32))
    assert syslog.message(signed, 1_800_000_000.5, "web 01.example.örg", 99).decode() == (
        "<109>1 2027-01-15T08:00:00.500Z web-01.example.-rg flowaudit-trail 99 checkpoint"
        f' [checkpoint@32473 origin="{ORIGIN}" size="7" root="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]'
        f" flowaudit-trail checkpoint of 7 entries, note={base64.b64encode(signed.encode()).decode()}"
    )


def test_a_message_needs_a_host() -> None:
    assert b"Z - flowaudit-trail" in syslog.message(note(), 0, "", 1)


def test_only_a_checkpoint_is_sent() -> None:
    with pytest.raises(FlowauditError):
        syslog.message("something else", 0, "host", 1)


def test_what_is_damaged_is_handed_on() -> None:
    line = syslog.message(note(), 0, "host", 1).decode()
    lines = ["nothing of ours note=AAAA", line[:150]]
    whole = line.index(", note=")
    for damaged in (line.replace("note=", "note=AAAA"), *(line[:place] for place in range(whole, len(line)))):
        (anchor,) = syslog.read([*lines, damaged], ORIGIN)
        assert anchor.source == "the syslog's line 3"
        with pytest.raises(FlowauditError):
            checkpoint.parse(anchor.note)


# The servers


@pytest.mark.parametrize(
    ("url", "port"),
    [("udp://h", 514), ("tcp://h", 601), ("tls://h/", 6514), ("tls://[::1]:1", 1), ("unix:/dev/log", 0)],
)
def test_a_server_has_a_url(url: str, port: int) -> None:
    assert syslog.SyslogServer(url).port == port


@pytest.mark.parametrize(
    "url",
    [
        "log.example.org",
        "http://log.example.org",
        "tcp://",
        "tcp://h:0",
        "tcp://h:99999",
        "tcp://[h",
        "tcp://h/path",
        "tcp://user@h",
        "tcp://h?x",
        "tcp://h#x",
        "unix:log",
        "unix://dev/log",
    ],
)
def test_what_is_no_server_is_refused(url: str) -> None:
    with pytest.raises(FlowauditError, match="The syslog server is '"):
        syslog.SyslogServer(url)


Behaviour = Callable[[socket.socket], object]


@contextlib.contextmanager
def receiver(behaviour: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that takes one connection; yields its address."""

    def serve() -> None:
        connection, _address = server.accept()
        with connection, contextlib.suppress(OSError):
            if context is None:
                behaviour(connection)
                return
            with context.wrap_socket(connection, server_side=True) as stream:
                behaviour(stream)

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"localhost:{server.getsockname()[1]}" if context else f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join()


class Reads:
    """Reads to the end."""

    def __init__(self, then: Behaviour = lambda connection: None) -> None:
        self.content = b""
        self.then = then

    def __call__(self, connection: socket.socket) -> None:
        while block := connection.recv(65536):
            self.content += block
        self.then(connection)

    def message(self) -> str:
        length, _space, message = self.content.partition(b" ")
        assert int(length) == len(message)
        return message.decode()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def context(tmp_path: pathlib.Path, authority: Authority) -> ssl.SSLContext:
    return server_context(tmp_path, authority)


def client_certificate(directory: pathlib.Path, authority: Authority) -> pathlib.Path:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "control")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(authority.key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "client.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def keep(url: str, **settings: t.Any) -> str:
    return syslog.SyslogServer(url, **{"timeout": 5.0, **settings}).keep(note())


def sentence(url: str, **settings: t.Any) -> str:
    with pytest.raises(FlowauditError) as error:
        keep(url, **settings)
    assert url in str(error.value) or "ca" in settings
    return str(error.value)


def test_a_message_goes_to_a_socket_of_this_machine(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        assert keep(f"unix:{tmp_path}/log") == f"unix:{tmp_path}/log"
        assert [anchor.note for anchor in syslog.read([server.recv(65536).decode()])] == [note()]
    assert "Connection refused" in sentence(f"unix:{tmp_path}/log")
    assert "No such file" in sentence(f"unix:{tmp_path}/other")


def test_a_message_goes_by_udp() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        url = f"udp://127.0.0.1:{server.getsockname()[1]}"
        assert keep(url) == f"{url} (sent; whether it arrived is not known)"
        assert [anchor.note for anchor in syslog.read([server.recv(65536).decode()])] == [note()]
    assert "Connection refused" in sentence(url)


def test_a_message_goes_by_tcp() -> None:
    reads = Reads()
    with receiver(reads) as address:
        assert keep(f"tcp://{address}") == f"tcp://{address}"
    assert GRAMMAR.fullmatch(reads.message())


def test_a_message_goes_by_tls(context: ssl.SSLContext, authority: Authority) -> None:
    reads = Reads(lambda stream: t.cast(ssl.SSLSocket, stream).unwrap())
    with receiver(reads, context) as address:
        url = f"tls://{address}".replace("localhost", "127.0.0.1")
        assert keep(url, ca=str(authority.path)) == url
    assert GRAMMAR.fullmatch(reads.message())


def test_a_receiver_that_says_no_goodbye_is_told_of(context: ssl.SSLContext, authority: Authority) -> None:
    reads = Reads()
    with receiver(reads, context) as address:
        url = f"tls://{address}".replace("localhost", "127.0.0.1")
        assert keep(url, ca=str(authority.path)) == f"{url} (the server ended the connection without a TLS goodbye)"
    assert GRAMMAR.fullmatch(reads.message())


def test_a_certificate_must_be_for_the_name_and_of_the_authority(
    tmp_path: pathlib.Path, context: ssl.SSLContext, authority: Authority
) -> None:
    reads = Reads()
    with receiver(reads, context) as address:
        assert "is not to be trusted: Hostname mismatch" in sentence(f"tls://{address}", ca=str(authority.path))
    (tmp_path / "other").mkdir()
    other = make_authority(tmp_path / "other")
    for settings in ({}, {"ca": str(other.path)}):
        with receiver(reads, context) as address:
            assert "is not to be trusted" in sentence(f"tls://127.0.0.1:{address.split(':')[1]}", **settings)
    assert reads.content == b""


def test_a_server_may_want_a_certificate(tmp_path: pathlib.Path, context: ssl.SSLContext, authority: Authority) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    settings = {"ca": str(authority.path)}
    with receiver(Reads(), context) as address:
        url = f"tls://127.0.0.1:{address.split(':')[1]}"
        assert "did not take the checkpoint" in sentence(url, **settings)
    reads = Reads()
    with receiver(reads, context) as address:
        url = f"tls://127.0.0.1:{address.split(':')[1]}"
        assert url in keep(url, **settings, certificate=str(client_certificate(tmp_path, authority)))
    assert reads.content


def test_certificates_and_keys_must_be_there(tmp_path: pathlib.Path, authority: Authority) -> None:
    url = "tls://127.0.0.1:1"
    missing = str(tmp_path / "missing")
    assert sentence(url, ca=missing).startswith(f"{missing} holds no certificates to trust")
    assert "holds no certificate and key" in sentence(url, ca=str(authority.path), certificate=missing)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key + authority.path.read_bytes())
    assert "the key has a password" in sentence(url, ca=str(authority.path), certificate=str(locked))


def test_a_server_that_is_down_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    assert "Connection refused" in sentence(url)


@pytest.mark.parametrize("behaviour", [lambda connection: None, reset, Reads(reset)], ids=["closes", "resets", "late"])
def test_a_connection_that_is_broken_off_proves_nothing(behaviour: Behaviour) -> None:
    with receiver(behaviour) as address:
        assert "it broke off the connection" in sentence(f"tcp://{address}")


def test_what_answers_is_no_syslog_server() -> None:
    with receiver(lambda connection: (connection.sendall(b"HTTP/1.1 400 Bad Request"), Reads()(connection))) as address:
        assert "it answered, which no syslog server does" in sentence(f"tcp://{address}")


def test_a_receiver_that_does_not_close_is_not_waited_for_for_ever() -> None:
    over = threading.Event()
    with receiver(lambda connection: over.wait(10)) as address:
        started = time.monotonic()
        assert "did not close the connection, within 0.2 seconds" in sentence(f"tcp://{address}", timeout=0.2)
        assert time.monotonic() - started < 2
        over.set()


class Connection:
    """A connection that the other side has ended; ``unconfirmed`` and ``errors`` are what its kernel says in turn."""

    def __init__(self, unconfirmed: list[int], errors: list[int]) -> None:
        self.unconfirmed, self.errors = unconfirmed, errors

    def ioctl(self, descriptor: int, request: int, value: bytes) -> bytes:
        return struct.pack("i", self.unconfirmed.pop(0) if len(self.unconfirmed) > 1 else self.unconfirmed[0])

    def getsockopt(self, level: int, option: int) -> int:
        return self.errors.pop(0) if len(self.errors) > 1 else self.errors[0]

    def recv(self, size: int) -> bytes:
        return b""

    def settimeout(self, seconds: float) -> None:
        pass

    def shutdown(self, how: int) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def see_the_end(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 5) -> None:
        monkeypatch.setattr(syslog.fcntl, "ioctl", self.ioctl)
        syslog._see_the_end(t.cast(socket.socket, self), syslog._Deadline(seconds))


def test_every_byte_must_be_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection([600, 600, 1, 0], [0])
    connection.see_the_end(monkeypatch)
    assert connection.unconfirmed == [0]
    with pytest.raises(TimeoutError):
        Connection([600], [0]).see_the_end(monkeypatch, 0.05)


def test_a_reset_after_the_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for unconfirmed in ([600], [0]):
        with pytest.raises(OSError) as error:
            Connection(unconfirmed, [errno.ECONNRESET]).see_the_end(monkeypatch)
        assert error.value.errno == errno.ECONNRESET
