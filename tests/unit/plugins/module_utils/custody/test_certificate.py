# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates, read back as OpenSSH's."""

from __future__ import annotations

import datetime
import pathlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ansible_collections.flowaudit.ops.plugins.module_utils.custody.certificate import Authority, key_id, principal
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

NOW = datetime.datetime(2026, 11, 28, 12, 0, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def line(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> Authority:
    return Authority.generate(tmp_path / "production")


def test_a_certificate_says_who_where_and_until_when(authority: Authority, tmp_path: pathlib.Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = key_id("CHG-2026-0042", "run-7", "alice")
    made = Authority.load(tmp_path / "production").certify(
        line(key), [principal("nuc1"), principal("nuc2")], name, NOW, NOW + HOUR
    )
    read = serialization.load_ssh_public_identity(made.encode())
    assert isinstance(read, serialization.SSHCertificate)
    read.verify_cert_signature()
    assert read.type is serialization.SSHCertificateType.USER
    assert read.key_id == b"flowaudit:CHG-2026-0042:run-7:alice"
    assert read.valid_principals == [b"host:nuc1", b"host:nuc2"]
    # The clocks of control node and host need not agree to the second.
    assert (read.valid_after, read.valid_before) == (NOW.timestamp() - 60, (NOW + HOUR).timestamp())
    assert dict(read.extensions) == {b"permit-pty": b""} and read.critical_options == {}
    signer = read.signature_key()
    assert isinstance(signer, ed25519.Ed25519PublicKey)
    assert signer.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode() == (
        authority.public
    )


def test_no_two_certificates_have_the_same_number(authority: Authority) -> None:
    key = line(ed25519.Ed25519PrivateKey.generate())
    made = [authority.certify(key, ["h"], "x", NOW, NOW + HOUR) for _number in range(2)]
    numbers = [serialization.load_ssh_public_identity(one.encode()) for one in made]
    assert len({one.serial for one in numbers if isinstance(one, serialization.SSHCertificate)}) == 2


@pytest.mark.parametrize("key", ["", "ssh-ed25519 AAAA", "no key", "ssh-ed25519"])
def test_what_is_no_key_gets_none(authority: Authority, key: str) -> None:
    with pytest.raises(FlowauditError, match="is no public key"):
        authority.certify(key, ["h"], "x", NOW, NOW + HOUR)


def test_other_keys_get_none(authority: Authority) -> None:
    with pytest.raises(FlowauditError, match="given to Ed25519 keys"):
        authority.certify(line(ec.generate_private_key(ec.SECP256R1())), ["h"], "x", NOW, NOW + HOUR)


def test_a_certificate_for_nothing_or_no_time(authority: Authority) -> None:
    key = line(ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(FlowauditError, match="there is none"):
        authority.certify(key, [], "x", NOW, NOW + HOUR)
    with pytest.raises(FlowauditError, match="no time left"):
        authority.certify(key, ["h"], "x", NOW, NOW)


def test_an_authority_is_never_replaced(authority: Authority, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FlowauditError, match="cannot be written: File exists"):
        Authority.generate(tmp_path / "production")
    assert (tmp_path / "production").stat().st_mode & 0o077 == 0


def test_an_authority_that_cannot_be_used(authority: Authority, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "production"
    with pytest.raises(FlowauditError, match="cannot be read: No such file"):
        Authority.load(tmp_path / "other")
    path.chmod(0o640)
    with pytest.raises(FlowauditError, match="open to others \\(mode 0640\\)"):
        Authority.load(path)
    path.chmod(0o600)
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    with pytest.raises(FlowauditError, match="is damaged"):
        Authority.load(path)
    other = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    with pytest.raises(FlowauditError, match="is no Ed25519 key"):
        Authority.load(path)
