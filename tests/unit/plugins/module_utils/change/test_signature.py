# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pathlib
import subprocess
import tempfile

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import programs, signature
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

pytestmark = pytest.mark.usefixtures("tools")
BOB = "bob@example.org"


@pytest.fixture
def signers(keys):
    return b"".join(b"%s@example.org %s" % (n.encode(), (keys / f"{n}.pub").read_bytes()) for n in ("alice", "bob"))


@pytest.fixture
def signed(keys):
    return signature.sign(b"document", str(keys / "bob"), signature.APPROVAL)


def test_a_signature_says_who_and_with_which_key(keys, signers, signed):
    told = subprocess.run(["ssh-keygen", "-lf", str(keys / "bob")], check=True, capture_output=True, text=True)
    found = signature.verify(b"document", signed, signers, BOB, signature.APPROVAL)
    assert found == signature.Signed(BOB, told.stdout.split()[1])
    assert list(pathlib.Path(tempfile.gettempdir()).iterdir()) == [], "Nothing is left behind."


@pytest.mark.parametrize(
    "other",
    [
        {"document": b"other"},
        {"signature": b""},
        {"signature": b"\xff not PEM"},
        {"signers": b""},
        {"principal": "alice@example.org"},
        {"principal": "nobody@example.org"},
        {"namespace": signature.REQUEST},
    ],
)
def test_what_differs_in_one_thing_does_not_count(signers, signed, other):
    good = {"document": b"document", "signature": signed, "signers": signers, "principal": BOB}
    with pytest.raises(FlowauditError) as error:
        signature.verify(**{**good, "namespace": signature.APPROVAL, **other})
    principal, namespace = other.get("principal", BOB), other.get("namespace", signature.APPROVAL)
    assert str(error.value).startswith(f"The signature of {principal} does not count: it is not by a key of theirs")
    assert str(error.value).endswith(f"not for this purpose ({namespace}).")


def test_a_key_that_is_no_longer_theirs_does_not_count(keys, signed):
    key = (keys / "bob.pub").read_text()
    past = f'{BOB} valid-before="20200101" {key}'
    with pytest.raises(FlowauditError, match="does not count"):
        signature.verify(b"document", signed, past.encode(), BOB, signature.APPROVAL)


def test_a_key_that_is_for_other_purposes_does_not_count(keys, signed):
    other = f'{BOB} namespaces="git" {(keys / "bob.pub").read_text()}'
    with pytest.raises(FlowauditError, match="does not count"):
        signature.verify(b"document", signed, other.encode(), BOB, signature.APPROVAL)


def test_the_home_of_a_key_may_be_written_short(keys, signers, tmp_path):
    (tmp_path / "temporary" / "id").write_bytes((keys / "bob").read_bytes())
    (tmp_path / "temporary" / "id").chmod(0o600)
    signed = signature.sign(b"document", "~/id", signature.APPROVAL)
    assert signature.verify(b"document", signed, signers, BOB, signature.APPROVAL).principal == BOB


def test_a_key_that_is_not_there_cannot_sign(tmp_path):
    with pytest.raises(FlowauditError, match=r"none cannot sign: .*No such file.*given to an agent first \(ssh-add\)"):
        signature.sign(b"document", str(tmp_path / "none"), signature.APPROVAL)


def test_a_public_key_without_an_agent_cannot_sign(keys, tmp_path):
    (tmp_path / "bob.pub").write_bytes((keys / "bob.pub").read_bytes())
    with pytest.raises(FlowauditError, match=r"bob\.pub cannot sign: "):
        signature.sign(b"document", str(tmp_path / "bob.pub"), signature.APPROVAL)


def test_a_failure_without_a_word_is_said_so(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **more: subprocess.CompletedProcess(command, 1, b"", b""))
    with pytest.raises(FlowauditError, match="key cannot sign: ssh-keygen did not say why"):
        signature.sign(b"document", "key", signature.APPROVAL)


def test_success_without_a_signature_is_none(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command, **more: subprocess.CompletedProcess(command, 0, b"", b"x"))
    with pytest.raises(FlowauditError, match="key cannot sign: x"):
        signature.sign(b"document", "key", signature.APPROVAL)
    with pytest.raises(FlowauditError, match="does not count"):
        signature.verify(b"document", b"", b"", BOB, signature.APPROVAL)


@pytest.mark.parametrize(("namespace", "principal"), [("other", BOB), (signature.APPROVAL, "eve@example.org")])
def test_what_is_said_of_somebody_or_something_else_does_not_count(monkeypatch, namespace, principal):
    said = f'Good "{namespace}" signature for {principal} with ED25519 key SHA256:abc\n'.encode()
    monkeypatch.setattr(subprocess, "run", lambda command, **more: subprocess.CompletedProcess(command, 0, said, b""))
    with pytest.raises(FlowauditError, match="does not count"):
        signature.verify(b"document", b"", b"", BOB, signature.APPROVAL)


def test_a_missing_program_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "PLACES", str(tmp_path))
    with pytest.raises(FlowauditError, match=r"ssh-keygen is missing .* install the package openssh-client\."):
        signature.verify(b"document", b"", b"", BOB, signature.APPROVAL)


def test_what_somebody_has_put_first_is_not_believed(keys, signers, signed, monkeypatch, tmp_path):
    (tmp_path / "ssh-keygen").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert signature.verify(b"document", signed, signers, BOB, signature.APPROVAL).principal == BOB


def test_waiting_has_an_end(monkeypatch):
    def wait(command, *, timeout, **more):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", wait)
    with pytest.raises(FlowauditError, match="did not answer within 60 seconds"):
        signature.sign(b"document", "key", signature.APPROVAL)


def test_no_place_for_temporary_files_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(FlowauditError):
        signature.verify(b"document", b"", b"", BOB, signature.APPROVAL)
