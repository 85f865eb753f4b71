# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.server
import pathlib
import subprocess
import threading
import time
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import checkpoint
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.anchors import timestamp

ORIGIN = "control/trail/0123abcd"
STEM = "0000000000004711-6060a464"
IMPRINT = (
    "Using configuration from /usr/lib/ssl/openssl.cnf\n"
    "808B55D3837F0000:error:17800067:time stamp routines:ts_check_imprints:message imprint mismatch:"
    "../crypto/ts/ts_rsp_verify.c:508:\n"
)
EXPIRED = (
    "803BD6CAA37F0000:error:17800064:time stamp routines:ts_verify_cert:certificate verify error:"
    "../crypto/ts/ts_rsp_verify.c:188:Verify error:certificate has expired\n"
)


def note(size: int = 4711, origin: str = ORIGIN, root: bytes = bytes(32)) -> str:
    signature = base64.b64encode(bytes(68)).decode()
    return f"{checkpoint.Checkpoint(origin, size, root).text()}\n— {ORIGIN} {signature}\n"


def digest(signed: str) -> str:
    return hashlib.sha256(signed.encode()).hexdigest()


class OpenSsl:
    """In place of the command: a query is the hash, and an answer holds when it ends with that of its query."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.errors: dict[str, str] = {}  # by what was asked for
        self.expired = False
        self.moment = "Mar  1 10:00:05.250 2027 GMT"
        self.missing = False
        self.slow = False

    def __call__(
        self,
        command: list[str],
        *,
        stdin: int,
        capture_output: bool,
        timeout: float,
        check: bool,
        env: dict[str, str],
    ) -> subprocess.CompletedProcess[bytes]:
        assert (stdin, capture_output, check, env["LC_ALL"]) == (subprocess.DEVNULL, True, False, "C")
        assert 0 < timeout <= 5
        if self.missing:
            raise FileNotFoundError(2, "No such file or directory", "openssl")
        if self.slow:
            raise subprocess.TimeoutExpired(command, timeout)
        self.commands.append(command)
        program, tool, deed, *arguments = command
        assert (program, tool) == ("openssl", "ts")
        flags = {"-cert", "-text", "-sha256"}
        rest = [argument for argument in arguments if argument not in flags]
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        output, errors = b"", self.errors.get(deed, "")
        if deed == "-query":
            assert flags & set(arguments) == {"-cert", "-sha256"}
            output = options["-digest"].encode()
        elif deed == "-verify":
            assert options["-CAfile"] == "/etc/tsa.pem"
            asked = options.get("-digest") or pathlib.Path(options["-queryfile"]).read_text()
            if not pathlib.Path(options["-in"]).read_text().endswith(asked):
                errors = IMPRINT
            elif self.expired and options.get("-attime") != "1803895205":
                errors = EXPIRED
        else:
            assert deed == "-reply" and "-text" in arguments
            output = f"TST info:\nSerial number: 0x01\nTime stamp: {self.moment}\nNonce: 0x01\n".encode()
        return subprocess.CompletedProcess(command, 1 if errors else 0, output, errors.encode())

    def deeds(self) -> list[str]:
        return [command[2] for command in self.commands]


@pytest.fixture(autouse=True)
def openssl(monkeypatch: pytest.MonkeyPatch) -> OpenSsl:
    made = OpenSsl()
    monkeypatch.setattr(subprocess, "run", made)
    return made


@dataclasses.dataclass
class Tsa:
    url: str = ""
    status: int = 200
    kind: str = "application/timestamp-reply"
    prefix: bytes = b"token of "
    answers: bytes | None = None  # whatever it is asked
    location: str = ""
    delay: float = 0.0
    queries: list[tuple[str, str, bytes]] = dataclasses.field(default_factory=list)


@pytest.fixture
def tsa() -> Iterator[Tsa]:
    made = Tsa()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            made.queries.append((self.headers["Content-Type"], self.headers["Accept"], query))
            time.sleep(made.delay)
            body = made.prefix + query if made.answers is None else made.answers
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Type", made.kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: t.Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *arguments: t.Any) -> None:
            pass  # a client that waits no longer hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}/tsr"
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "trail" / "timestamps"


@pytest.fixture
def authority(tsa: Tsa, directory: pathlib.Path) -> timestamp.TimestampAuthority:
    return timestamp.TimestampAuthority(tsa.url, "/etc/tsa.pem", str(directory), 5.0)


def names(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_checkpoint_is_stamped(
    tsa: Tsa, authority: timestamp.TimestampAuthority, directory: pathlib.Path, openssl: OpenSsl
) -> None:
    assert authority.keep(note()) == f"{directory / STEM}.tsr ({tsa.url}, 2027-03-01T10:00:05.000Z)"
    assert names(directory) == [f"{STEM}.checkpoint", f"{STEM}.tsr"]
    assert (directory / f"{STEM}.checkpoint").read_text() == note()
    assert (directory / f"{STEM}.tsr").read_text() == f"token of {digest(note())}"
    assert tsa.queries == [
        ("application/timestamp-query", "application/timestamp-reply", digest(note()).encode()),
    ]
    # Against the query, so its nonce, before it counts; then as it lies there.
    assert openssl.deeds() == ["-query", "-verify", "-verify", "-reply"]
    assert "-queryfile" in openssl.commands[1]
    assert "-digest" in openssl.commands[2]


def test_a_checkpoint_is_stamped_once(tsa: Tsa, authority: timestamp.TimestampAuthority) -> None:
    assert authority.keep(note()) == authority.keep(note())
    assert len(tsa.queries) == 1


def test_two_processes_may_have_it_stamped(
    tsa: Tsa, authority: timestamp.TimestampAuthority, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = authority._ask

    def faster(signed: str, openssl: t.Any) -> bytes:
        answer = ask(signed, openssl)
        (directory / f"{STEM}.checkpoint").write_text(signed)
        (directory / f"{STEM}.tsr").write_text(f"the other's token of {digest(signed)}")
        return answer

    monkeypatch.setattr(authority, "_ask", faster)
    authority.keep(note())
    assert (directory / f"{STEM}.tsr").read_text().startswith("the other's")


@pytest.mark.parametrize("stamped", [True, False])
def test_another_checkpoint_of_the_same_size_is_refused(
    authority: timestamp.TimestampAuthority, directory: pathlib.Path, stamped: bool
) -> None:
    authority.keep(note())
    if not stamped:
        (directory / f"{STEM}.tsr").unlink()
    before = names(directory)
    with pytest.raises(FlowauditError, match="is another checkpoint of this size"):
        authority.keep(note(root=b"x" * 32))
    assert names(directory) == before
    assert (directory / f"{STEM}.checkpoint").read_text() == note()


def test_what_is_stamped_must_be_a_checkpoint(authority: timestamp.TimestampAuthority) -> None:
    with pytest.raises(FlowauditError, match="A note is a text"):
        authority.keep("something else")


def test_an_answer_to_another_question_is_refused(
    tsa: Tsa, authority: timestamp.TimestampAuthority, directory: pathlib.Path
) -> None:
    tsa.answers = b"token of something else"
    with pytest.raises(FlowauditError, match="gave no timestamp that holds: message imprint mismatch"):
        authority.keep(note())
    assert names(directory) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": 503}, "answered with status 503"),
        ({"status": 302, "location": "http://127.0.0.1:1/"}, "answered with status 302"),
        ({"kind": "text/html"}, r"answered with no timestamp \(73 bytes of text/html\)"),
        ({"answers": b"x" * (timestamp._LARGEST + 9)}, "answered with no timestamp"),
    ],
)
def test_what_answers_otherwise_is_no_authority(
    tsa: Tsa, authority: timestamp.TimestampAuthority, directory: pathlib.Path, changes: dict[str, t.Any], expected: str
) -> None:
    for name, value in changes.items():
        setattr(tsa, name, value)
    with pytest.raises(FlowauditError, match=expected):
        authority.keep(note())
    assert names(directory) == []


def test_an_authority_that_does_not_answer_is_told_of(tsa: Tsa, directory: pathlib.Path) -> None:
    tsa.delay = 0.4
    with pytest.raises(FlowauditError, match=r"cannot be asked: .*timed out"):
        timestamp.TimestampAuthority(tsa.url, "/etc/tsa.pem", str(directory), 0.2).keep(note())
    with pytest.raises(FlowauditError, match=r"cannot be asked: .*Connection refused"):
        timestamp.TimestampAuthority("http://127.0.0.1:1/", "/etc/tsa.pem", str(directory), 5).keep(note())


def test_the_password_of_a_url_is_not_told(tsa: Tsa, directory: pathlib.Path) -> None:
    url = tsa.url.replace("//", "//user:secret@")
    authority = timestamp.TimestampAuthority(url, "/etc/tsa.pem", str(directory), 5)
    assert f"({tsa.url}, " in authority.keep(note())
    tsa.status = 401
    with pytest.raises(FlowauditError) as error:
        authority.keep(note(5))
    assert "secret" not in str(error.value)


def test_the_settings_belong_together() -> None:
    for ca, directory in (("", "/d"), ("/ca", "")):
        with pytest.raises(FlowauditError, match="A timestamp_url needs a timestamp_ca"):
            timestamp.TimestampAuthority("https://tsa.example.org", ca, directory)
    with pytest.raises(FlowauditError, match=r"timestamp_url is 'ftp://tsa.example.org'"):
        timestamp.TimestampAuthority("ftp://tsa.example.org", "/ca", "/d")


def test_a_directory_that_cannot_be_made_is_told_of(tsa: Tsa, directory: pathlib.Path) -> None:
    directory.parent.write_text("a file")
    with pytest.raises(FlowauditError, match="The timestamp cannot be kept in"):
        timestamp.TimestampAuthority(tsa.url, "/etc/tsa.pem", str(directory)).keep(note())


def test_openssl_must_be_there_and_be_quick(authority: timestamp.TimestampAuthority, openssl: OpenSsl) -> None:
    openssl.slow = True
    with pytest.raises(FlowauditError, match="took longer than 5 seconds"):
        authority.keep(note())
    openssl.missing = True
    with pytest.raises(FlowauditError, match="need the command openssl"):
        authority.keep(note())


def test_openssl_says_why_it_asks_for_nothing(authority: timestamp.TimestampAuthority, openssl: OpenSsl) -> None:
    openssl.errors = {"-query": "something of no form"}
    with pytest.raises(FlowauditError, match="No timestamp can be asked for: openssl gives no reason"):
        authority.keep(note())


def test_a_token_has_a_time(authority: timestamp.TimestampAuthority, openssl: OpenSsl) -> None:
    openssl.moment = "unspecified"
    with pytest.raises(FlowauditError, match="names no time"):
        authority.keep(note())


def test_tokens_are_verified_when_they_are_read_back(
    authority: timestamp.TimestampAuthority, directory: pathlib.Path, openssl: OpenSsl
) -> None:
    for size in (900, 12):
        for origin in (ORIGIN, "another"):
            authority.keep(note(size, origin))
    openssl.commands.clear()
    found = list(timestamp.kept(str(directory), "/etc/tsa.pem", ORIGIN, 5))
    assert [anchor.note for anchor in found] == [note(12), note(900)]
    assert found[0].source == str(directory / f"{STEM.replace('4711', '0012')}.tsr")
    assert openssl.deeds() == ["-verify", "-verify"]
    assert len(list(timestamp.kept(str(directory), "/etc/tsa.pem", "", 5))) == 4


def test_a_certificate_may_have_expired_since(
    authority: timestamp.TimestampAuthority, directory: pathlib.Path, openssl: OpenSsl
) -> None:
    authority.keep(note())
    openssl.expired = True
    assert len(list(timestamp.kept(str(directory), "/etc/tsa.pem", "", 5))) == 1
    # But not before the time of the token.
    openssl.moment = "Mar  1 10:00:06 2027 GMT"
    with pytest.raises(FlowauditError, match="certificate verify error: Verify error:certificate has expired"):
        list(timestamp.kept(str(directory), "/etc/tsa.pem", "", 5))


def test_a_token_that_does_not_hold_does_not_count(
    authority: timestamp.TimestampAuthority, directory: pathlib.Path
) -> None:
    authority.keep(note())
    path = directory / f"{STEM}.tsr"
    path.write_text("token of something else")
    for deed in (
        lambda: list(timestamp.kept(str(directory), "/etc/tsa.pem", ORIGIN, 5)),
        lambda: authority.keep(note()),
    ):
        with pytest.raises(FlowauditError, match=f"{path} does not hold: message imprint mismatch"):
            deed()


def test_a_token_without_its_checkpoint_is_noticed(
    authority: timestamp.TimestampAuthority, directory: pathlib.Path
) -> None:
    authority.keep(note())
    (directory / f"{STEM}.checkpoint").unlink()
    with pytest.raises(FlowauditError, match=r"cannot be read: .*No such file"):
        list(timestamp.kept(str(directory), "/etc/tsa.pem", ORIGIN, 5))


def test_tokens_count_only_for_an_authority_that_is_named(
    authority: timestamp.TimestampAuthority, directory: pathlib.Path
) -> None:
    assert list(timestamp.kept(str(directory), "", ORIGIN, 5)) == []  # there are none
    authority.keep(note())
    with pytest.raises(FlowauditError, match="without timestamp_ca"):
        list(timestamp.kept(str(directory), "", ORIGIN, 5))
