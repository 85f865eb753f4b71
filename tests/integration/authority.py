"""A certificate authority for tests: a root, an intermediate, and certificates as good or bad as a test wants them."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import typing as t
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in certificates)


def key_pem(key: Key, passphrase: bytes = b"") -> str:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate with its key, and whoever stands between it and the root."""

    certificate: x509.Certificate
    key: Key
    issuers: tuple[x509.Certificate, ...] = ()

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def write(self, directory: Path, *chain: x509.Certificate) -> dict[str, str]:
        """The role's variables for this pair; ``chain`` instead of the whole and rightly ordered one."""
        (directory / "cert.pem").write_text(pem(*(chain or (self.certificate, *self.issuers))))
        (directory / "key.pem").write_text(key_pem(self.key))
        return {
            "edge_certificate_file": str(directory / "cert.pem"),
            "edge_certificate_key_file": str(directory / "key.pem"),
        }


class Authority:
    def __init__(self) -> None:
        self.root = self._authority("Test root", None)
        self.intermediate = self._authority("Test intermediate", self.root)

    def issue(self, *names: str, days: tuple[int, int] = (-1, 60), key: Key | None = None) -> Pair:
        key = key or new_key()
        certificate = (
            self._builder("Test portal", self.intermediate, key, days)
            .add_extension(x509.SubjectAlternativeName([self._name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self.intermediate.key, hashes.SHA256())
        )
        return Pair(certificate, key, (self.intermediate.certificate,))

    @staticmethod
    def _name(name: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            return x509.DNSName(name)

    def _authority(self, name: str, issuer: Pair | None) -> Pair:
        key = new_key()
        usage = {
            "digital_signature": False,
            "content_commitment": False,
            "key_encipherment": False,
            "data_encipherment": False,
            "key_agreement": False,
            "key_cert_sign": True,
            "crl_sign": True,
            "encipher_only": False,
            "decipher_only": False,
        }
        certificate = (
            self._builder(name, issuer, key, (-1, 365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .sign(issuer.key if issuer else key, hashes.SHA256())
        )
        return Pair(certificate, key)

    @staticmethod
    def _builder(name: str, issuer: Pair | None, key: Key, days: tuple[int, int]) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        public: t.Any = key.public_key()
        signer: t.Any = issuer.key.public_key() if issuer else public
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
        )
