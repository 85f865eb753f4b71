# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checkpoints told to a real rsyslog, a directory and a timestamp authority of OpenSSL, and what they then show."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import http.server
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import anchors, checkpoint, entry, verify
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.home import Home
from ansible_collections.flowaudit.ops.plugins.module_utils.trail.sqlite import SqliteLog

NAME = "control.example.org"
TIMEOUT = 5.0
RSYSLOGD = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin") or "rsyslogd"
Way = t.Literal["unix", "udp", "tcp", "tls"]


# The log


@dataclasses.dataclass
class Trail:
    home: Home

    def record(self, count: int, what: str = "something") -> str:
        """Append entries; returns the signed checkpoint."""
        with contextlib.closing(SqliteLog.open_or_create(self.home, "0.2.0", "control")) as log:
            log.append([{"type": entry.EVENT, "ts": entry.timestamp(), "what": what} for number in range(count)])
            return log.add_checkpoint()

    @property
    def origin(self) -> str:
        with contextlib.closing(SqliteLog(self.home)) as log:
            return log.origin

    def verified(self, found: t.Iterable[verify.Anchor]) -> verify.Report:
        with contextlib.closing(SqliteLog(self.home)) as log:
            return verify.verify(log.origin, log.rows(), log.checkpoints(), list(found))

    def copy(self, place: pathlib.Path) -> Trail:
        """What somebody has who keeps log and key as they are now."""
        shutil.copytree(self.home.path, place)
        return Trail(Home(place))


@pytest.fixture
def trail(tmp_path: pathlib.Path) -> Trail:
    return Trail(Home(tmp_path / "trail"))


# Certificates

_MAY_SIGN_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclasses.dataclass
class Authority:
    directory: pathlib.Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def path(self) -> pathlib.Path:
        return self.directory / "ca.pem"

    def issue(
        self, name: str, usage: x509.ObjectIdentifier, lasts: float = 3600, critical: bool = False
    ) -> pathlib.Path:
        """A certificate and its key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost" if name == "server" else name)]
        certificate = (
            _certificate(name, self.certificate.subject, key, lasts)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=critical)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.directory / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path


def _certificate(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, lasts: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(seconds=lasts))
    )


def make_authority(directory: pathlib.Path) -> Authority:
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _certificate("Test CA", None, key, 3600)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_MAY_SIGN_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(directory, certificate, key)
    authority.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return authority


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> Authority:
    return make_authority(tmp_path / "ca")


@pytest.fixture
def stranger(tmp_path: pathlib.Path) -> Authority:
    """A CA of the same name that nobody trusts."""
    return make_authority(tmp_path / "other-ca")


# rsyslog


@dataclasses.dataclass
class Rsyslog:
    """A syslog server that writes each message in the formats that are in use."""

    directory: pathlib.Path
    url: str
    process: subprocess.Popen[bytes]

    def lines(self, name: str = "new") -> list[str]:
        path = self.directory / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []

    def wait(self, count: int) -> None:
        names = ("old", "new", "json", "facts")
        wait_until(lambda: all(len(self.lines(name)) >= count for name in names), f"{count} messages")


def wait_until(condition: Callable[[], t.Any], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def rsyslog(tmp_path: pathlib.Path, authority: Authority) -> Iterator[Callable[..., Rsyslog]]:
    """Starts rsyslog listening on one way; ``driver`` and ``demand`` say how it does TLS and whom it lets in."""
    started: list[subprocess.Popen[bytes]] = []

    def start(way: Way, driver: str = "ossl", demand: str = "anon") -> Rsyslog:
        directory = tmp_path / f"rsyslog-{len(started)}"
        directory.mkdir()
        port = free_port(socket.SOCK_DGRAM if way == "udp" else socket.SOCK_STREAM)
        listen = f'Address="127.0.0.1" Port="{port}"'
        certificate = authority.issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
        permitted = f'PermittedPeer=["{NAME}"]' if demand == "x509/name" else ""
        inputs = {
            "unix": f"""
                module(load="imuxsock" SysSock.Use="off")
                input(type="imuxsock" Socket="{directory}/log" UseSpecialParser="off")""",
            "udp": f'module(load="imudp") input(type="imudp" {listen})',
            "tcp": f'module(load="imtcp") input(type="imtcp" {listen})',
            "tls": f"""
                module(load="imtcp" StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="{demand}"
                       {permitted})
                input(type="imtcp" {listen})""",
        }
        facts = "|".join(
            f"%{name}%" for name in ("syslogfacility", "syslogseverity", "app-name", "msgid", "structured-data")
        )
        (directory / "rsyslog.conf").write_text(f"""
            global(
              workDirectory="{directory}"
              defaultNetstreamDriverCAFile="{authority.path}"
              defaultNetstreamDriverCertFile="{certificate}"
              defaultNetstreamDriverKeyFile="{certificate}"
            )
            {inputs[way]}
            template(name="facts" type="string" string="{facts}\\n")
            template(name="json" type="list") {{
              constant(value="{{") property(name="hostname" format="jsonf") constant(value=",")
              property(name="msg" format="jsonf") constant(value="}}\\n")
            }}
            if $programname == "flowaudit-trail" or $app-name == "flowaudit-trail" then {{
              action(type="omfile" file="{directory}/old.log" template="RSYSLOG_TraditionalFileFormat")
              action(type="omfile" file="{directory}/new.log" template="RSYSLOG_SyslogProtocol23Format")
              action(type="omfile" file="{directory}/json.log" template="json")
              action(type="omfile" file="{directory}/facts.log" template="facts")
            }}
            """)
        with (directory / "output").open("wb") as output:
            process = subprocess.Popen(
                [RSYSLOGD, "-n", "-C", "-f", directory / "rsyslog.conf", "-i", directory / "pid"],
                stdout=output,
                stderr=output,
            )
        started.append(process)
        ready = {
            "unix": (directory / "log").exists,
            "udp": lambda: f":{port:04X} " in pathlib.Path("/proc/net/udp").read_text(),
        }.get(way, lambda: is_listening(port))
        wait_until(lambda: ready() or process.poll() is not None, "rsyslog listens")
        assert process.poll() is None, (directory / "output").read_text()
        host = "localhost" if way == "tls" else "127.0.0.1"
        return Rsyslog(directory, f"unix:{directory}/log" if way == "unix" else f"{way}://{host}:{port}", process)

    yield start
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)


def keep(trail_note: str, settings: anchors.Settings) -> anchors.Outcome:
    (outcome,) = anchors.keep_all(anchors.keepers(settings), trail_note, settings.timeout)
    return outcome


@pytest.mark.parametrize(("way", "driver"), [("unix", ""), ("udp", ""), ("tcp", ""), ("tls", "ossl"), ("tls", "gtls")])
def test_a_syslog_server_keeps_checkpoints_that_can_be_read_from_its_file(
    trail: Trail, rsyslog: Callable[..., Rsyslog], authority: Authority, way: Way, driver: str
) -> None:
    server = rsyslog(way, driver)
    settings = anchors.Settings(syslog=server.url, syslog_ca=str(authority.path), timeout=TIMEOUT)
    notes = [trail.record(3), trail.record(4)]
    for signed in notes:
        outcome = keep(signed, settings)
        assert outcome.kept, outcome
        assert server.url in outcome.detail
    server.wait(2)
    for name in ("old", "new", "json"):
        found = list(anchors.from_syslog(server.lines(name), trail.origin))
        assert [anchor.note for anchor in found] == notes
        report = trail.verified(found)
        assert report.whole and report.anchors == 2 and report.anchored_size == 8
    first = checkpoint.parse(notes[0])
    *fields, data = server.lines("facts")[0].split("|")
    assert fields == ["13", "5", "flowaudit-trail", "checkpoint"]
    root = base64.b64encode(first.root).decode()
    assert data == f'[checkpoint@32473 origin="{trail.origin}" size="4" root="{root}"]'


def test_a_log_that_was_cut_off_and_signed_again_is_noticed_by_what_the_syslog_server_has(
    tmp_path: pathlib.Path, trail: Trail, rsyslog: Callable[..., Rsyslog]
) -> None:
    server = rsyslog("tcp")
    settings = anchors.Settings(syslog=server.url, timeout=TIMEOUT)
    trail.record(3)
    earlier = trail.copy(tmp_path / "earlier")
    assert keep(trail.record(3, "the deed"), settings).kept
    server.wait(1)
    found = list(anchors.from_syslog(server.lines()))
    assert trail.verified(found).whole

    cut = earlier.verified(found)
    assert cut.finding is not None and "ends with 4 entries, but the syslog's line 1 has 7" in cut.finding.message
    earlier.record(3, "nothing")
    assert earlier.verified([]).whole  # nothing in the log itself shows it
    rewritten = earlier.verified(found)
    assert rewritten.finding is not None
    assert "are not those that the syslog's line 1 at 7 entries was signed over" in rewritten.finding.message


def test_a_server_with_a_certificate_of_another_authority_is_told_nothing(
    trail: Trail, rsyslog: Callable[..., Rsyslog], stranger: Authority
) -> None:
    server = rsyslog("tls")
    for ca in (str(stranger.path), ""):
        outcome = keep(trail.record(1), anchors.Settings(syslog=server.url, syslog_ca=ca, timeout=TIMEOUT))
        assert not outcome.kept and "is not to be trusted" in outcome.detail
    assert server.lines("facts") == []


def test_a_server_with_a_certificate_for_another_name_is_told_nothing(
    trail: Trail, rsyslog: Callable[..., Rsyslog], authority: Authority
) -> None:
    server = rsyslog("tls")
    url = server.url.replace("localhost", "127.0.0.1")
    outcome = keep(trail.record(1), anchors.Settings(syslog=url, syslog_ca=str(authority.path), timeout=TIMEOUT))
    assert not outcome.kept and "IP address mismatch" in outcome.detail
    assert server.lines("facts") == []


# rsyslog 8.2302 with ossl takes messages before it looks at the sender's name, and then closes one file too many.
@pytest.mark.parametrize(("driver", "demand"), [("ossl", "x509/certvalid"), ("gtls", "x509/name")])
def test_a_server_may_want_to_know_who_sends(
    trail: Trail, rsyslog: Callable[..., Rsyslog], authority: Authority, stranger: Authority, driver: str, demand: str
) -> None:
    server = rsyslog("tls", driver, demand)
    settings = anchors.Settings(syslog=server.url, syslog_ca=str(authority.path), timeout=TIMEOUT)
    signed = trail.record(1)
    refused = ["", stranger.issue(NAME, ExtendedKeyUsageOID.CLIENT_AUTH)]
    if demand == "x509/name":
        refused.append(authority.issue("another.example.org", ExtendedKeyUsageOID.CLIENT_AUTH))
    # Its refusal comes after the handshake and after the message: it must not pass for a receipt.
    for certificate in refused:
        outcome = keep(signed, dataclasses.replace(settings, syslog_certificate=str(certificate)))
        assert not outcome.kept and "it broke off the connection" in outcome.detail
    own = authority.issue(NAME, ExtendedKeyUsageOID.CLIENT_AUTH)
    outcome = keep(signed, dataclasses.replace(settings, syslog_certificate=str(own)))
    assert outcome.kept, outcome
    server.wait(1)
    assert [anchor.note for anchor in anchors.from_syslog(server.lines())] == [signed]


@pytest.mark.parametrize("state", ["down", "stopped"])
@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_a_server_that_is_down_keeps_nothing_and_holds_nobody_up(
    tmp_path: pathlib.Path,
    trail: Trail,
    rsyslog: Callable[..., Rsyslog],
    authority: Authority,
    way: Way,
    state: str,
) -> None:
    server = rsyslog(way)
    if state == "down":
        server.process.terminate()
        server.process.wait(10)
    else:
        # Its kernel still takes connections and bytes.
        server.process.send_signal(signal.SIGSTOP)
    (tmp_path / "worm").mkdir()
    settings = anchors.Settings(
        syslog=server.url, syslog_ca=str(authority.path), worm_directory=str(tmp_path / "worm"), timeout=2
    )
    started = time.monotonic()
    with removable(tmp_path / "worm"):
        outcomes = anchors.keep_all(anchors.keepers(settings), trail.record(1), settings.timeout)
        took = time.monotonic() - started
    assert [(outcome.keeper, outcome.kept) for outcome in outcomes] == [("syslog", False), ("worm", True)]
    assert took < settings.timeout + 0.5
    assert ("did not take" if state == "down" else "did not answer") in outcomes[0].detail


# The WORM directory


@contextlib.contextmanager
def removable(directory: pathlib.Path) -> Iterator[None]:
    """Lets the test's files be removed afterwards."""
    try:
        yield
    finally:
        subprocess.run(["chattr", "-R", "-i", "-a", directory], check=False, capture_output=True)


def can_be_made(attribute: str, path: pathlib.Path) -> bool:
    """Whether this user can give files of this place the attribute."""
    return subprocess.run(["chattr", attribute, path], check=False, capture_output=True).returncode == 0


def test_what_is_in_the_worm_directory_stays(tmp_path: pathlib.Path, trail: Trail) -> None:
    directory = tmp_path / "worm"
    directory.mkdir()
    with removable(directory):
        probe = tmp_path / "probe"
        probe.touch()
        with removable(probe):
            immutable = can_be_made("+i", probe)
        notes = [trail.record(2), trail.record(2)]
        settings = anchors.Settings(worm_directory=str(directory))
        outcomes = [keep(signed, settings) for signed in [*notes, *notes]]
        assert all(outcome.kept for outcome in outcomes)
        assert all(("(immutable)" in outcome.detail) == immutable for outcome in outcomes), outcomes
        files = sorted(directory.iterdir())
        assert [path.name[:17] for path in files] == ["0000000000000003-", "0000000000000005-"]
        assert [path.read_text() for path in files] == notes
        for path in files:
            assert path.stat().st_mode & 0o777 == 0o444
            if immutable:
                for deed in (path.unlink, lambda path=path: path.write_text("")):
                    with pytest.raises(PermissionError):
                        deed()
        report = trail.verified(anchors.kept(settings, trail.origin))
        assert report.whole and report.anchors == 2 and report.anchored_size == 5


def test_a_directory_that_is_append_only_is_written_without_leftovers(tmp_path: pathlib.Path, trail: Trail) -> None:
    directory = tmp_path / "worm"
    directory.mkdir()
    with removable(directory):
        if not can_be_made("+a", directory):
            pytest.skip("This user or file system gives no append-only attribute.")
        settings = anchors.Settings(worm_directory=str(directory))
        for _number in range(3):
            outcome = keep(trail.record(1), settings)
            assert outcome.kept, outcome
        assert len(list(directory.iterdir())) == 3
        with pytest.raises(PermissionError):
            sorted(directory.iterdir())[0].unlink()


def test_another_checkpoint_of_the_same_size_is_refused_at_once(tmp_path: pathlib.Path, trail: Trail) -> None:
    (tmp_path / "worm").mkdir()
    settings = anchors.Settings(worm_directory=str(tmp_path / "worm"))
    with removable(tmp_path / "worm"):
        trail.record(1)
        earlier = trail.copy(tmp_path / "earlier")
        assert keep(trail.record(1, "the deed"), settings).kept
        outcome = keep(earlier.record(1, "nothing"), settings)
        assert not outcome.kept and "holds another checkpoint of this size" in outcome.detail
        assert trail.verified(anchors.kept(settings)).whole
        assert not earlier.verified(anchors.kept(settings)).whole


# The timestamp authority


@dataclasses.dataclass
class Tsa:
    """OpenSSL as a timestamp authority, behind HTTP."""

    directory: pathlib.Path
    ca: pathlib.Path
    url: str = ""
    asked: int = 0
    # What is done with the query before it is answered, and with the answer before it is sent.
    bend: Callable[[bytes], bytes] = lambda query: query
    spoil: Callable[[bytes], bytes] = lambda answer: answer
    kind: str = "application/timestamp-reply"
    digests: str = "sha256"
    signer: str = "tsa.pem"

    def answer(self, query: bytes) -> bytes:
        self.asked += 1
        (self.directory / "query").write_bytes(self.bend(query))
        (self.directory / "tsa.cnf").write_text(
            "[tsa]\ndefault_tsa = it\n[it]\n"
            f"serial = {self.directory}/serial\ncrypto_device = builtin\nsigner_cert = {self.directory}/{self.signer}\n"
            f"signer_key = {self.directory}/{self.signer}\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n"
            f"digests = {self.digests}\ness_cert_id_alg = sha256\n"
        )
        subprocess.run(
            ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "answer"],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )
        return self.spoil((self.directory / "answer").read_bytes())


@pytest.fixture
def tsa(authority: Authority) -> Iterator[Tsa]:
    authority.issue("tsa", ExtendedKeyUsageOID.TIME_STAMPING, critical=True)
    made = Tsa(authority.directory, authority.path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/timestamp-query"
            body = made.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
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
def settings(tmp_path: pathlib.Path, tsa: Tsa) -> anchors.Settings:
    return anchors.Settings(
        timestamp_url=tsa.url,
        timestamp_ca=str(tsa.ca),
        timestamp_directory=str(tmp_path / "trail" / "timestamps"),
        timeout=TIMEOUT,
    )


def token(settings: anchors.Settings) -> pathlib.Path:
    (path,) = pathlib.Path(settings.timestamp_directory).glob("*.tsr")
    return path


def test_a_checkpoint_is_stamped_once(trail: Trail, tsa: Tsa, settings: anchors.Settings) -> None:
    before = time.time()
    signed = trail.record(3)
    for _number in range(2):
        outcome = keep(signed, settings)
        assert outcome.kept, outcome
    assert tsa.asked == 1
    stamped = re.fullmatch(rf"{re.escape(str(token(settings)))} \({tsa.url}, (.+)Z\)", outcome.detail)
    assert stamped is not None
    moment = datetime.datetime.fromisoformat(stamped[1]).replace(tzinfo=datetime.UTC).timestamp()
    assert int(before) <= moment <= time.time()
    keep(trail.record(1), settings)
    report = trail.verified(anchors.kept(settings, trail.origin))
    assert report.whole and report.anchors == 2 and report.anchored_size == 5
    # An auditor's own command.
    path = sorted(pathlib.Path(settings.timestamp_directory).glob("*.tsr"))[0]
    command = ["openssl", "ts", "-verify", "-data", path.with_suffix(".checkpoint"), "-in", path, "-CAfile", tsa.ca]
    assert b"Verification: OK" in subprocess.run(command, check=True, capture_output=True).stdout


def test_tokens_of_another_authority_do_not_count(
    trail: Trail, tsa: Tsa, settings: anchors.Settings, stranger: Authority
) -> None:
    foreign = dataclasses.replace(settings, timestamp_ca=str(stranger.path))
    outcome = keep(trail.record(1), foreign)
    assert not outcome.kept and "gave no timestamp that holds: certificate verify error" in outcome.detail
    assert list(pathlib.Path(settings.timestamp_directory).iterdir()) == []
    assert keep(trail.record(1), settings).kept
    with pytest.raises(FlowauditError, match="does not hold: certificate verify error"):
        list(anchors.kept(foreign))


def _other_digest(query: bytes) -> bytes:
    place = query.index(bytes.fromhex("0420")) + 2  # the OCTET STRING of 32 bytes
    return query[:place] + bytes(32) + query[place + 32 :]


def test_an_answer_for_another_hash_is_refused(trail: Trail, tsa: Tsa, settings: anchors.Settings) -> None:
    tsa.bend = _other_digest
    outcome = keep(trail.record(1), settings)
    assert not outcome.kept and "message imprint mismatch" in outcome.detail
    assert list(pathlib.Path(settings.timestamp_directory).iterdir()) == []


def test_an_answer_that_was_given_before_is_refused(trail: Trail, tsa: Tsa, settings: anchors.Settings) -> None:
    signed = trail.record(1)
    assert keep(signed, settings).kept
    old = token(settings).read_bytes()
    shutil.rmtree(settings.timestamp_directory)
    tsa.spoil = lambda answer: old
    outcome = keep(signed, settings)
    assert not outcome.kept and "nonce mismatch" in outcome.detail


def test_a_refusal_is_told(trail: Trail, tsa: Tsa, settings: anchors.Settings) -> None:
    tsa.digests = "sha512"
    outcome = keep(trail.record(1), settings)
    assert not outcome.kept and "rejection, status text: Message digest algorithm is not supported" in outcome.detail


def what_is_stamped(path: pathlib.Path) -> bytes:
    command = ["openssl", "ts", "-reply", "-in", path, "-text"]
    return subprocess.run(command, check=True, capture_output=True).stdout.partition(b"TST info:")[2]


def test_a_token_that_was_touched_is_noticed(trail: Trail, tsa: Tsa, settings: anchors.Settings) -> None:
    assert keep(trail.record(1), settings).kept
    path = token(settings)
    whole = path.read_bytes()
    path.chmod(0o600)
    stamped = what_is_stamped(path)
    unsigned = []
    for place in range(0, len(whole), 8):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
        try:
            list(anchors.kept(settings))
        except FlowauditError as error:
            assert "does not hold" in str(error)
        else:
            # Of what is not signed nothing counts: the status, versions, the name of the algorithm.
            assert what_is_stamped(path) == stamped
            unsigned.append(place)
    assert len(unsigned) < 10, unsigned
    path.write_bytes(whole)
    assert len(list(anchors.kept(settings))) == 1
    note = path.with_suffix(".checkpoint")
    note.write_text(note.read_text().replace("control/", "contrul/"))
    with pytest.raises(FlowauditError, match="message imprint mismatch"):
        list(anchors.kept(settings))


def test_a_token_holds_when_its_certificate_has_expired(
    trail: Trail, tsa: Tsa, settings: anchors.Settings, authority: Authority
) -> None:
    authority.issue("short", ExtendedKeyUsageOID.TIME_STAMPING, lasts=3, critical=True)
    tsa.signer = "short.pem"
    assert keep(trail.record(1), settings).kept
    time.sleep(4)
    assert trail.verified(anchors.kept(settings)).anchors == 1
    # But none is made by it any more.
    outcome = keep(trail.record(1), settings)
    assert not outcome.kept and "certificate has expired" in outcome.detail


def test_an_authority_that_does_not_answer_holds_nobody_up(
    tmp_path: pathlib.Path, trail: Trail, tsa: Tsa, settings: anchors.Settings
) -> None:
    (tmp_path / "worm").mkdir()
    over = threading.Event()
    tsa.spoil = lambda answer: answer * over.wait(20)
    settings = dataclasses.replace(settings, worm_directory=str(tmp_path / "worm"), timeout=2)
    started = time.monotonic()
    with removable(tmp_path / "worm"):
        outcomes = anchors.keep_all(anchors.keepers(settings), trail.record(1), settings.timeout)
        took = time.monotonic() - started
    over.set()
    assert [(outcome.keeper, outcome.kept) for outcome in outcomes] == [("worm", True), ("timestamp", False)]
    assert took < settings.timeout + 0.5
    assert re.search("cannot be asked|did not answer", outcomes[1].detail)
    assert os.listdir(settings.timestamp_directory) == []
