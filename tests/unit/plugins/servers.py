# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Real HTTP servers on the loopback interface, and the certificates of those that speak TLS."""

from __future__ import annotations

import dataclasses
import datetime
import http.server
import ipaddress
import json
import pathlib
import socket
import ssl
import threading
import typing as t

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "portal.example.org"


@dataclasses.dataclass
class Answer:
    """What a server answers: a document, or a body of any kind."""

    document: t.Any = None
    body: bytes | None = None
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    before: t.Callable[[], t.Any] = lambda: None


class Server:
    """A server that gives its answers one after the other, the last of them again and again."""

    def __init__(self, answer: Answer, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self.answers = [answer]
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.names: list[str | None] = []
        self.stopping = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                answer = server.answers[0]
                if len(server.answers) > 1:
                    server.answers.pop(0)
                answer.before()
                body = json.dumps(answer.document).encode() if answer.body is None else answer.body
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: t.Any) -> None:
                pass

        class Listener(http.server.ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, *arguments: t.Any) -> None:
                pass  # a client that does not trust us, or waits no longer, hangs up

        self.listener = Listener((host, 0), Handler)
        if context is not None:
            context.sni_callback = lambda _socket, name, _context: self.names.append(name)
            self.listener.socket = context.wrap_socket(
                self.listener.socket, server_side=True, do_handshake_on_connect=False
            )
        self.host, self.port = host, self.listener.server_address[1]
        self.thread = threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.listener.shutdown()
        self.thread.join()
        self.listener.server_close()

    def url(self, host: str | None = None, scheme: str = "http", path: str = "/") -> str:
        return f"{scheme}://{host or self.host}:{self.port}{path}"


@dataclasses.dataclass
class Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    path: pathlib.Path  # the certificate, in PEM


def _builder(common_name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


def make_authority(directory: pathlib.Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder("Test CA", None, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / "ca.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(certificate, key, path)


def server_context(directory: pathlib.Path, authority: Authority) -> ssl.SSLContext:
    """The TLS side of a server whose certificate names NAME and the IPv4 loopback address."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(NAME, authority.certificate.subject, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    path = directory / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
